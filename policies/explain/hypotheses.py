"""The possible outcomes of an ask: what the tree of a plan branches on. No model is called."""

from collections.abc import Iterator
from functools import singledispatch
from typing import NamedTuple

from routers.plan import (
    Ask,
    Both,
    Draft,
    Generate,
    GreedyToken,
    Judge,
    Judged,
    Outcome,
    Raced,
    Reason,
    Said,
    Say,
    Score,
    Scored,
    ScoredToken,
    Tier,
    Unavailable,
    Verdict,
    Watch,
)
from routers.router import Request
from routers.watch import ConfidenceWatch, HeldWatch, ObservingWatch

FAILURES = {"unavailable": "down", "prompt too long": "context", "request rejected": "rejected"}
"""Failures of a call before it wrote anything: the description, and the code of one such failure."""

DRAFT_TEXT = "..."
"""The text of a hypothetical draft."""


class Hypothesis(NamedTuple):
    """A possible outcome of an ask, sent to the plan, or a failure, thrown into it; `when` describes it."""

    when: str
    outcome: Outcome | Unavailable


# --- each kind of ask


@singledispatch
def list_hypotheses(ask: Ask, request: Request) -> list[Hypothesis]:
    """Return the possible outcomes of an ask, failures included. Raises TypeError for an unknown kind of ask."""
    raise TypeError(f"what may come of {type(ask).__name__} is not known")


@list_hypotheses.register
def _(ask: Generate, request: Request) -> list[Hypothesis]:
    if obstacle := _find_obstacle(ask.tier, request):
        return [obstacle]
    drafts = (
        _list_unwatched(ask.tier, request, "")
        if ask.watch is None
        else list_drafts(ask.watch(), ask.tier, request)
    )
    return [*drafts, *(Hypothesis(when, Unavailable(why, ask.tier)) for when, why in FAILURES.items())]


@list_hypotheses.register
def _(ask: Judge, request: Request) -> list[Hypothesis]:
    if ask.tier not in request.tiers:
        return [_build_not_configured(ask.tier)]
    descriptions = ("they agree", "they do not") if ask.samples else ask.labels
    judgements = [
        Hypothesis(when, Judged({other: float(other == label) for other in ask.labels}, 1.0))
        for when, label in zip(descriptions, ask.labels, strict=True)
    ] or [Hypothesis("read", Judged({"request": 0.5}, 1.0))]
    return [*judgements, Hypothesis("no judgement", Unavailable("down", ask.tier))]


@list_hypotheses.register
def _(ask: Score, request: Request) -> list[Hypothesis]:
    if obstacle := _find_obstacle(ask.tier, request):
        return [obstacle]
    agreed, other = ScoredToken(0, 0.0, GreedyToken(0, 0.0)), ScoredToken(0, 0.0, GreedyToken(1, 0.0))
    more, end = GreedyToken(2, 0.0), GreedyToken(2, 0.0, ends=True)
    scores = [
        Hypothesis("all of it and its end verified", Scored([agreed] * 2, end)),
        Hypothesis("all of it verified, but not its end", Scored([agreed] * 2, more)),
        Hypothesis("its beginning verified", Scored([agreed, other], more)),
        Hypothesis("nothing of it verified", Scored([other] * 2, more)),
    ]
    return [*scores, *(Hypothesis(when, Unavailable(why, ask.tier)) for when, why in FAILURES.items())]


@list_hypotheses.register
def _(ask: Say, request: Request) -> list[Hypothesis]:
    return [Hypothesis("sent", Said(DRAFT_TEXT)), Hypothesis("unavailable", Unavailable("down", ask.tier))]


@list_hypotheses.register
def _(ask: Both, request: Request) -> list[Hypothesis]:
    """Return the races that either leg wins. Each end of leg `a` that commits nothing is paired with each
    answer of leg `b` and one failure of it."""
    ends_a, ends_b = _list_ends(ask.a, request), _list_ends(ask.b, request)
    slow_a, slow_b = (Draft(leg.tier, verdict=Verdict.CONTINUE) for leg in ask)
    races = [_build_race(f"{leg.when} first", leg.outcome, slow_b) for leg in ends_a if leg.commits]
    if _find_obstacle(ask.a.tier, request) is None:
        races += [_build_race(f"{leg.when} first", slow_a, leg.outcome) for leg in ends_b if leg.commits]
    answers = [leg for leg in ends_b if leg.commits and isinstance(leg.outcome, Draft)]
    failure = next(leg for leg in ends_b if not leg.commits and isinstance(leg.outcome, Unavailable))
    for a in [leg for leg in ends_a if not leg.commits]:
        races += [_build_race(f"{a.when} and {b.when}", a.outcome, b.outcome) for b in (*answers, failure)]
    return races


class _LegEnd(NamedTuple):
    """A possible end of one leg of a race; `commits` is true if the leg commits text and so wins."""

    when: str
    outcome: Draft | Unavailable
    commits: bool


def _list_ends(ask: Generate, request: Request) -> list[_LegEnd]:
    ends = []
    for when, outcome in list_hypotheses(ask, request):
        assert isinstance(outcome, Draft | Unavailable)  # noqa: S101  the two results of a Generate
        label = when if _find_obstacle(ask.tier, request) else f"the {ask.tier} {when}"
        ends.append(_LegEnd(label, outcome, _has_commit(outcome)))
    return ends


def _has_commit(outcome: Draft | Unavailable) -> bool:
    if isinstance(outcome, Unavailable):
        return outcome.partial is not None
    return outcome.verdict is Verdict.COMMIT or outcome.kept > 0


def _build_race(when: str, a: Draft | Unavailable, b: Draft | Unavailable) -> Hypothesis:
    return Hypothesis(when, Raced(a, b))


def _find_obstacle(tier: Tier, request: Request) -> Hypothesis | None:
    """Return the failure of any ask of a tier that is not configured or not capable, else None."""
    if tier not in request.tiers:
        return _build_not_configured(tier)
    if tier not in request.able:
        return Hypothesis(f"no {tier} capable of it", Unavailable("incapable", tier))
    return None


def _build_not_configured(tier: Tier) -> Hypothesis:
    return Hypothesis(f"no {tier} configured", Unavailable("not_configured", tier))


# --- the possible drafts under each kind of watch


@singledispatch
def list_drafts(watch: Watch, tier: Tier, request: Request) -> list[Hypothesis]:
    """Return the possible drafts under a watch. One of an unknown kind may accept, reject or stop a draft."""
    return [
        Hypothesis("accepted", _build_draft(tier, Verdict.COMMIT)),
        Hypothesis("not accepted", _build_draft(tier, Verdict.GIVE_UP)),
        Hypothesis("stopped early", _build_draft(tier, Verdict.GIVE_UP, finish=None)),
    ]


@list_drafts.register
def _(watch: ConfidenceWatch, tier: Tier, request: Request) -> list[Hypothesis]:
    commits: list[Hypothesis] = []
    if watch.commit is not None:
        commits = [
            Hypothesis("committed", _build_draft(tier, Verdict.COMMIT, Reason.COMMITTED)),
            _build_broken_off(tier),
        ]
    poor = [Hypothesis("low_confidence", _build_draft(tier, Verdict.GIVE_UP, Reason.LOW_CONFIDENCE))]
    if watch.give_up is not None:
        poor.append(Hypothesis("gave_up", _build_draft(tier, Verdict.GIVE_UP, Reason.GAVE_UP, finish=None)))
    if watch.commit is not None and watch.release == "splice":
        commits += [
            _build_partly_committed(when, outcome) for when, outcome in poor if isinstance(outcome, Draft)
        ]
    return [*commits, *_list_accepted(watch, tier), *poor]


def _list_accepted(watch: ConfidenceWatch, tier: Tier) -> Iterator[Hypothesis]:
    """Yield a finished draft that is accepted, and one that is accepted only if a judgement agrees."""
    if watch.hold_below < 1.0:
        yield Hypothesis("confident", _build_draft(tier, Verdict.COMMIT, Reason.CONFIDENT))
    if watch.hold_below > watch.accept:
        yield Hypothesis("to be judged", _build_draft(tier, Verdict.CONTINUE, Reason.CONFIDENT))


def _build_partly_committed(when: str, poor: Draft) -> Hypothesis:
    begun = poor._replace(kept=1, committed_text=DRAFT_TEXT)
    return Hypothesis(f"committed in part, then {when}", begun)


@list_drafts.register
def _(watch: HeldWatch, tier: Tier, request: Request) -> list[Hypothesis]:
    loop = _build_draft(tier, Verdict.CONTINUE, Reason.LOOP)
    return [Hypothesis("drafted", _build_draft(tier, Verdict.CONTINUE)), Hypothesis("it loops", loop)]


@list_drafts.register
def _(watch: ObservingWatch, tier: Tier, request: Request) -> list[Hypothesis]:
    return _list_unwatched(tier, request, DRAFT_TEXT)


def _list_unwatched(tier: Tier, request: Request, known: str) -> list[Hypothesis]:
    """Return the outcomes of an answer that streams unwatched; `known` is the text that the plan sees."""
    answered = Hypothesis("answered", _build_draft(tier, Verdict.COMMIT))
    return [answered, _build_broken_off(tier, known)] if request.stream else [answered]


def _build_broken_off(tier: Tier, known: str = DRAFT_TEXT) -> Hypothesis:
    begun = _build_draft(tier, Verdict.CONTINUE, finish=None)._replace(text=known)
    return Hypothesis("broken off midway", Unavailable("lost", tier, partial=begun))


def _build_draft(
    tier: Tier, verdict: Verdict, reason: Reason | None = None, finish: str | None = "stop"
) -> Draft:
    return Draft(tier, DRAFT_TEXT, verdict=verdict, reason=reason, finish=finish)
