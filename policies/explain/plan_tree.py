"""The tree of what a policy's plan would do, by the possible outcomes of each ask. No model is called."""

from collections.abc import Iterator, Sequence
from functools import singledispatch
from typing import NamedTuple

from policies.schema.compress import Compress
from policies.schema.policy import Policy
from routers.fragments.passage_filter import PassageFilter
from routers.judges.guard import Guard
from routers.plan import (
    Answer,
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
from routers.router import Request, Router
from routers.watch import ConfidenceWatch, HeldWatch, ObservingWatch

MAX_DEPTH = 5
"""Maximum number of consecutive asks in the tree."""


FAILURES = {"unavailable": "down", "prompt too long": "context", "request rejected": "rejected"}
"""Failures of a call before it wrote anything: the description, and the code of one such failure."""

DRAFT_TEXT = "..."
"""The text of a hypothetical draft."""


class Step(NamedTuple):
    """A description of an ask and what follows each of its outcomes, or of an end."""

    text: str
    branches: tuple["Branch", ...] = ()


class Branch(NamedTuple):
    """A step and all outcomes of the previous ask that lead to it."""

    when: tuple[str, ...]
    then: Step


class Hypothesis(NamedTuple):
    """A possible outcome of an ask, sent to the plan, or a failure, thrown into it; `when` describes it."""

    when: str
    outcome: Outcome | Unavailable


def build_tree(router: Router, request: Request, depth: int = MAX_DEPTH) -> Step:
    """Return the tree of what the router's plan does with the request, up to `depth` asks deep."""
    return _build_step(router, request, (), depth)


def describe_preparation(policy: Policy, request: Request) -> Iterator[str]:
    """Yield a line for each step of the policy before its router: filter, guard, compression."""
    if policy.filter is not None and request.passages:
        yield _describe_filter(policy.filter, request.passages)
    if policy.guard is not None and policy.guard.asks_model:
        yield _describe_guard(policy.guard)
    if policy.compress is not None and {"slm", "llm"} <= request.tiers:
        yield _describe_compression(policy.compress)


def _describe_filter(section: PassageFilter, count: int) -> str:
    limit = f", at most {section.most}" if section.most is not None else ""
    order = {"edges": "the best first and last", "best_first": "the best first", "given": "as they came"}
    how = "the question's likelihood after it" if section.by == "likelihood" else "P(yes)"
    return (
        f"have the {section.tier} judge each of the {count} passages ({how}, {count} calls), "
        f"and show those at >= {section.bar:g}, at least {section.least}{limit}, {order[section.order]}; "
        f"all as given where it can't"
    )


def _describe_guard(guard: Guard) -> str:
    parts = {"the request": guard.input, "the answer, which is held to its end": guard.output}
    targets = [f"{what} (flagged at >= {least:g})" for what, least in parts.items() if least is not None]
    return f"have the {guard.tier} judge {' and '.join(targets)}; what is flagged: {guard.action}"


def _describe_compression(compress: Compress) -> str:
    target = (
        f"{compress.target_tokens} tokens"
        if compress.target_ratio is None
        else f"{compress.target_ratio:.0%}"
    )
    unless = {"both": "time or money", "money": "money"}.get(compress.worth)
    worth = f", unless that costs more {unless} than it saves" if unless else ""
    return (
        f"whenever the llm is to write: have the slm read a prompt of {compress.min_tokens} tokens or more, and leave "
        f"{target} of it{worth}"
    )


def to_lines(step: Step, lead: str = "", indent: str = "") -> Iterator[str]:
    """Yield the tree as text, one line a step."""
    yield f"{indent}{lead}{step.text}"
    for branch in step.branches:
        *first, last = branch.when
        when = f"{', '.join(first)} or {last}" if first else last
        yield from to_lines(branch.then, f"if {when}: ", f"{indent}  ")


def _build_step(
    router: Router, request: Request, outcomes: tuple[Outcome | Unavailable, ...], depth: int
) -> Step:
    """Return the step after `outcomes`. A generator cannot be forked, so each step runs the plan anew."""
    try:
        ask = _find_ask(router, request, outcomes)
    except StopIteration as stop:
        return Step(_describe_answer(stop.value))
    except Unavailable as failure:
        is_own = bool(outcomes) and failure is outcomes[-1]
        return Step(
            "fail with its error" if is_own else f"fail with the {failure.tier}'s error ({failure.why})"
        )
    if len(outcomes) == depth:
        return Step("and so on")
    branches: dict[Step, list[str]] = {}
    for when, outcome in list_hypotheses(ask, request):
        branches.setdefault(_build_step(router, request, (*outcomes, outcome), depth), []).append(when)
    return Step(describe_ask(ask), tuple(Branch(tuple(when), then) for then, when in branches.items()))


def _find_ask(router: Router, request: Request, outcomes: Sequence[Outcome | Unavailable]) -> Ask:
    """Return the plan's next ask after `outcomes`. Raises StopIteration with the answer if the plan ends."""
    plan = router.plan(request)
    ask = next(plan)
    for outcome in outcomes:
        ask = plan.throw(outcome) if isinstance(outcome, Unavailable) else plan.send(outcome)
    return ask


def _describe_answer(answer: Answer) -> str:
    parts = "" if len(answer.parts) == 1 else f", in {len(answer.parts)} parts"
    return f"serve the {answer.route} answer{parts} (reason {answer.reason})"


# --- each kind of ask: its description, and its possible outcomes


@singledispatch
def describe_ask(ask: Ask) -> str:
    raise TypeError(f"{type(ask).__name__} is no ask that can be told")


@singledispatch
def list_hypotheses(ask: Ask, request: Request) -> list[Hypothesis]:
    raise TypeError(f"what may come of {type(ask).__name__} is not known")


@describe_ask.register
def _(ask: Generate) -> str:
    because = "" if ask.because is Reason.POLICY else f" ({ask.because})"
    parts = [
        f"ask the {ask.tier}{because}",
        "to go on from what was delivered" if ask.prefix else "",
        describe_watch(ask.watch()) if ask.watch else "",
        f"waiting up to {ask.patience:g} s for its restart" if ask.patience else "",
    ]
    return ", ".join(part for part in parts if part)


@list_hypotheses.register
def _(ask: Generate, request: Request) -> list[Hypothesis]:
    if impossible := _find_obstacle(ask.tier, request):
        return [impossible]
    found = (
        _list_unwatched(ask.tier, request, "")
        if ask.watch is None
        else list_drafts(ask.watch(), ask.tier, request)
    )
    return [*found, *(Hypothesis(when, Unavailable(why, ask.tier)) for when, why in FAILURES.items())]


@describe_ask.register
def _(ask: Judge) -> str:
    if ask.samples:
        return (
            f"have the {ask.tier} write {ask.samples} more, and compare the draft with them by {ask.compare}"
        )
    what = "the draft" if ask.passage is None else f"passage {ask.passage}"
    how = " or ".join(ask.labels) or "how likely the request is after it"
    return f"have the {ask.tier} judge {what} ({how})"


@list_hypotheses.register
def _(ask: Judge, request: Request) -> list[Hypothesis]:
    if ask.tier not in request.tiers:
        return [_build_not_configured(ask.tier)]
    told = ("they agree", "they do not") if ask.samples else ask.labels
    said = [
        Hypothesis(when, Judged({other: float(other == label) for other in ask.labels}, 1.0))
        for when, label in zip(told, ask.labels, strict=True)
    ] or [Hypothesis("read", Judged({"request": 0.5}, 1.0))]
    return [*said, Hypothesis("no judgement", Unavailable("down", ask.tier))]


@describe_ask.register
def _(ask: Score) -> str:
    return f"have the {ask.tier} verify what was drafted"


@list_hypotheses.register
def _(ask: Score, request: Request) -> list[Hypothesis]:
    if impossible := _find_obstacle(ask.tier, request):
        return [impossible]
    agreed, other = ScoredToken(0, 0.0, GreedyToken(0, 0.0)), ScoredToken(0, 0.0, GreedyToken(1, 0.0))
    more, end = GreedyToken(2, 0.0), GreedyToken(2, 0.0, ends=True)
    found = [
        Hypothesis("all of it and its end verified", Scored([agreed] * 2, end)),
        Hypothesis("all of it verified, but not its end", Scored([agreed] * 2, more)),
        Hypothesis("its beginning verified", Scored([agreed, other], more)),
        Hypothesis("nothing of it verified", Scored([other] * 2, more)),
    ]
    return [*found, *(Hypothesis(when, Unavailable(why, ask.tier)) for when, why in FAILURES.items())]


@describe_ask.register
def _(ask: Say) -> str:
    return "send what was verified"


@list_hypotheses.register
def _(ask: Say, request: Request) -> list[Hypothesis]:
    return [Hypothesis("sent", Said(DRAFT_TEXT)), Hypothesis("unavailable", Unavailable("down", ask.tier))]


@describe_ask.register
def _(ask: Both) -> str:
    return f"at once {describe_ask(ask.a)}; and {describe_ask(ask.b)}"


@list_hypotheses.register
def _(ask: Both, request: Request) -> list[Hypothesis]:
    """Return the races that either leg wins. Each end of leg `a` that commits nothing is paired with each
    answer of leg `b` and one failure of it."""
    ends_a, ends_b = _list_ends(ask.a, request), _list_ends(ask.b, request)
    slow_a, slow_b = (Draft(leg.tier, verdict=Verdict.CONTINUE) for leg in ask)
    found = [_build_race(f"{leg.when} first", leg.outcome, slow_b) for leg in ends_a if leg.commits]
    if _find_obstacle(ask.a.tier, request) is None:
        found += [_build_race(f"{leg.when} first", slow_a, leg.outcome) for leg in ends_b if leg.commits]
    answers = [leg for leg in ends_b if leg.commits and isinstance(leg.outcome, Draft)]
    failure = next(leg for leg in ends_b if not leg.commits and isinstance(leg.outcome, Unavailable))
    for a in [leg for leg in ends_a if not leg.commits]:
        found += [_build_race(f"{a.when} and {b.when}", a.outcome, b.outcome) for b in (*answers, failure)]
    return found


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


# --- each kind of watch: its description, and the possible drafts under it


@singledispatch
def describe_watch(watch: Watch) -> str:
    return f"watched ({type(watch).__name__})"


@singledispatch
def list_drafts(watch: Watch, tier: Tier, request: Request) -> list[Hypothesis]:
    return [
        Hypothesis("accepted", _build_draft(tier, Verdict.COMMIT)),
        Hypothesis("not accepted", _build_draft(tier, Verdict.GIVE_UP)),
        Hypothesis("stopped early", _build_draft(tier, Verdict.GIVE_UP, finish=None)),
    ]


@describe_watch.register
def _(watch: ConfidenceWatch) -> str:
    how = " sentences" if watch.release == "splice" else ""
    rules = [
        watch.commit is not None and f"commit{how} at confidence >= {watch.commit:g}",
        watch.give_up is not None and f"give up under {watch.give_up:g}",
        f"accept at >= {watch.accept:g}",
        watch.hold_below > watch.accept and f"have it judged under {watch.hold_below:g}",
    ]
    return f"watched: {', '.join(rule for rule in rules if rule)}"


@list_drafts.register
def _(watch: ConfidenceWatch, tier: Tier, request: Request) -> list[Hypothesis]:
    found: list[Hypothesis] = []
    if watch.commit is not None:
        found = [
            Hypothesis("committed", _build_draft(tier, Verdict.COMMIT, Reason.COMMITTED)),
            _build_broken_off(tier),
        ]
    poor = [Hypothesis("low_confidence", _build_draft(tier, Verdict.GIVE_UP, Reason.LOW_CONFIDENCE))]
    if watch.give_up is not None:
        poor.append(Hypothesis("gave_up", _build_draft(tier, Verdict.GIVE_UP, Reason.GAVE_UP, finish=None)))
    if watch.commit is not None and watch.release == "splice":
        found += [
            _build_partly_committed(when, outcome) for when, outcome in poor if isinstance(outcome, Draft)
        ]
    return [*found, *_list_accepted(watch, tier), *poor]


def _list_accepted(watch: ConfidenceWatch, tier: Tier) -> Iterator[Hypothesis]:
    """Yield a finished draft that is accepted, and one that is accepted only if a judgement agrees."""
    if watch.hold_below < 1.0:
        yield Hypothesis("confident", _build_draft(tier, Verdict.COMMIT, Reason.CONFIDENT))
    if watch.hold_below > watch.accept:
        yield Hypothesis("to be judged", _build_draft(tier, Verdict.CONTINUE, Reason.CONFIDENT))


def _build_partly_committed(when: str, poor: Draft) -> Hypothesis:
    begun = poor._replace(kept=1, committed_text=DRAFT_TEXT)
    return Hypothesis(f"committed in part, then {when}", begun)


@describe_watch.register
def _(watch: HeldWatch) -> str:
    return "held to its end"


@list_drafts.register
def _(watch: HeldWatch, tier: Tier, request: Request) -> list[Hypothesis]:
    loop = _build_draft(tier, Verdict.CONTINUE, Reason.LOOP)
    return [Hypothesis("drafted", _build_draft(tier, Verdict.CONTINUE)), Hypothesis("it loops", loop)]


@describe_watch.register
def _(watch: ObservingWatch) -> str:
    return ""


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
