"""The tree of what a policy's plan would do, by the possible outcomes of each ask. No model is called."""

from collections.abc import Iterator, Sequence
from functools import singledispatch
from typing import NamedTuple

from policies.schema.compress import Compress
from policies.schema.policy import Policy
from routers.fragments.passage_filter import Filter
from routers.judges.guard import Guard
from routers.plan import (
    Answer,
    Ask,
    Both,
    Choice,
    Draft,
    Generate,
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

DEPTH = 5
"""Maximum number of consecutive asks in the tree."""


FAILURES = {"unavailable": "down", "prompt too long": "context", "request rejected": "rejected"}
"""Failures of a call before it wrote anything: the description, and the code of one such failure."""

TEXT = "..."
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


def explained(router: Router, request: Request, depth: int = DEPTH) -> Step:
    """Return the tree of what the router's plan does with the request, up to `depth` asks deep."""
    return _step(router, request, (), depth)


def before(policy: Policy, request: Request) -> Iterator[str]:
    """Yield a line for each step of the policy before its router: filter, guard, compression."""
    if policy.filter is not None and request.passages:
        yield _filtering(policy.filter, request.passages)
    if policy.guard is not None and policy.guard.judges:
        yield _guarding(policy.guard)
    if policy.compress is not None and {"slm", "llm"} <= request.tiers:
        yield _compressing(policy.compress)


def _filtering(chosen: Filter, count: int) -> str:
    most = f", at most {chosen.most}" if chosen.most is not None else ""
    order = {"edges": "the best first and last", "best_first": "the best first", "given": "as they came"}
    how = "the question's likelihood after it" if chosen.by == "likelihood" else "P(yes)"
    return (
        f"have the {chosen.tier} judge each of the {count} passages ({how}, {count} calls), "
        f"and show those at >= {chosen.bar:g}, at least {chosen.least}{most}, {order[chosen.order]}; "
        f"all as given where it can't"
    )


def _guarding(guard: Guard) -> str:
    parts = {"the request": guard.input, "the answer, which is held to its end": guard.output}
    judged = [f"{what} (flagged at >= {least:g})" for what, least in parts.items() if least is not None]
    return f"have the {guard.tier} judge {' and '.join(judged)}; what is flagged: {guard.action}"


def _compressing(chosen: Compress) -> str:
    target = f"{chosen.target_tokens} tokens" if chosen.target_ratio is None else f"{chosen.target_ratio:.0%}"
    unless = {"both": "time or money", "money": "money"}.get(chosen.worth)
    worth = f", unless that costs more {unless} than it saves" if unless else ""
    return (
        f"whenever the llm is to write: have the slm read a prompt of {chosen.min_tokens} tokens or more, and leave "
        f"{target} of it{worth}"
    )


def lines(step: Step, lead: str = "", indent: str = "") -> Iterator[str]:
    """Yield the tree as text, one line a step."""
    yield f"{indent}{lead}{step.text}"
    for branch in step.branches:
        *first, last = branch.when
        when = f"{', '.join(first)} or {last}" if first else last
        yield from lines(branch.then, f"if {when}: ", f"{indent}  ")


def _step(router: Router, request: Request, outcomes: tuple[Outcome | Unavailable, ...], depth: int) -> Step:
    """Return the step after `outcomes`. A generator cannot be forked, so each step runs the plan anew."""
    try:
        ask = _asked(router, request, outcomes)
    except StopIteration as settled:
        return Step(_served(settled.value))
    except Unavailable as lost:
        own = bool(outcomes) and lost is outcomes[-1]
        return Step("fail with its error" if own else f"fail with the {lost.tier}'s error ({lost.why})")
    if len(outcomes) == depth:
        return Step("and so on")
    branches: dict[Step, list[str]] = {}
    for when, outcome in hypotheses(ask, request):
        branches.setdefault(_step(router, request, (*outcomes, outcome), depth), []).append(when)
    return Step(described(ask), tuple(Branch(tuple(when), then) for then, when in branches.items()))


def _asked(router: Router, request: Request, outcomes: Sequence[Outcome | Unavailable]) -> Ask:
    """Return the plan's next ask after `outcomes`. Raises StopIteration with the answer if the plan ends."""
    plan = router.plan(request)
    ask = next(plan)
    for outcome in outcomes:
        ask = plan.throw(outcome) if isinstance(outcome, Unavailable) else plan.send(outcome)
    return ask


def _served(answer: Answer) -> str:
    parts = "" if len(answer.parts) == 1 else f", in {len(answer.parts)} parts"
    return f"serve the {answer.route} answer{parts} (reason {answer.reason})"


# --- each kind of ask: its description, and its possible outcomes


@singledispatch
def described(ask: Ask) -> str:
    raise TypeError(f"{type(ask).__name__} is no ask that can be told")


@singledispatch
def hypotheses(ask: Ask, request: Request) -> list[Hypothesis]:
    raise TypeError(f"what may come of {type(ask).__name__} is not known")


@described.register
def _(ask: Generate) -> str:
    because = "" if ask.because is Reason.POLICY else f" ({ask.because})"
    parts = [
        f"ask the {ask.tier}{because}",
        "to go on from what was delivered" if ask.prefix else "",
        told(ask.watch()) if ask.watch else "",
        f"waiting up to {ask.patience:g} s for its restart" if ask.patience else "",
    ]
    return ", ".join(part for part in parts if part)


@hypotheses.register
def _(ask: Generate, request: Request) -> list[Hypothesis]:
    if impossible := _impossible(ask.tier, request):
        return [impossible]
    found = _written(ask.tier, request, "") if ask.watch is None else drafts(ask.watch(), ask.tier, request)
    return [*found, *(Hypothesis(when, Unavailable(why, ask.tier)) for when, why in FAILURES.items())]


@described.register
def _(ask: Judge) -> str:
    if ask.samples:
        return (
            f"have the {ask.tier} write {ask.samples} more, and compare the draft with them by {ask.compare}"
        )
    what = "the draft" if ask.passage is None else f"passage {ask.passage}"
    how = " or ".join(ask.labels) or "how likely the request is after it"
    return f"have the {ask.tier} judge {what} ({how})"


@hypotheses.register
def _(ask: Judge, request: Request) -> list[Hypothesis]:
    if ask.tier not in request.tiers:
        return [_not_configured(ask.tier)]
    told = ("they agree", "they do not") if ask.samples else ask.labels
    said = [
        Hypothesis(when, Judged({other: float(other == label) for other in ask.labels}, 1.0))
        for when, label in zip(told, ask.labels, strict=True)
    ] or [Hypothesis("read", Judged({"request": 0.5}, 1.0))]
    return [*said, Hypothesis("no judgement", Unavailable("down", ask.tier))]


@described.register
def _(ask: Score) -> str:
    return f"have the {ask.tier} verify what was drafted"


@hypotheses.register
def _(ask: Score, request: Request) -> list[Hypothesis]:
    if impossible := _impossible(ask.tier, request):
        return [impossible]
    agreed, other = ScoredToken(0, 0.0, Choice(0, 0.0)), ScoredToken(0, 0.0, Choice(1, 0.0))
    more, end = Choice(2, 0.0), Choice(2, 0.0, ends=True)
    found = [
        Hypothesis("all of it and its end verified", Scored([agreed] * 2, end)),
        Hypothesis("all of it verified, but not its end", Scored([agreed] * 2, more)),
        Hypothesis("its beginning verified", Scored([agreed, other], more)),
        Hypothesis("nothing of it verified", Scored([other] * 2, more)),
    ]
    return [*found, *(Hypothesis(when, Unavailable(why, ask.tier)) for when, why in FAILURES.items())]


@described.register
def _(ask: Say) -> str:
    return "send what was verified"


@hypotheses.register
def _(ask: Say, request: Request) -> list[Hypothesis]:
    return [Hypothesis("sent", Said(TEXT)), Hypothesis("unavailable", Unavailable("down", ask.tier))]


@described.register
def _(ask: Both) -> str:
    return f"at once {described(ask.a)}; and {described(ask.b)}"


@hypotheses.register
def _(ask: Both, request: Request) -> list[Hypothesis]:
    """Return the races that either leg wins. Each end of leg `a` that commits nothing is paired with each
    answer of leg `b` and one failure of it."""
    ends_a, ends_b = _legs(ask.a, request), _legs(ask.b, request)
    slow_a, slow_b = (Draft(leg.tier, verdict=Verdict.CONTINUE) for leg in ask)
    found = [_race(f"{leg.when} first", leg.outcome, slow_b) for leg in ends_a if leg.commits]
    if _impossible(ask.a.tier, request) is None:
        found += [_race(f"{leg.when} first", slow_a, leg.outcome) for leg in ends_b if leg.commits]
    answers = [leg for leg in ends_b if leg.commits and isinstance(leg.outcome, Draft)]
    failure = next(leg for leg in ends_b if not leg.commits and isinstance(leg.outcome, Unavailable))
    for a in [leg for leg in ends_a if not leg.commits]:
        found += [_race(f"{a.when} and {b.when}", a.outcome, b.outcome) for b in (*answers, failure)]
    return found


class _Leg(NamedTuple):
    """A possible end of one leg of a race; `commits` is true if the leg commits text and so wins."""

    when: str
    outcome: Draft | Unavailable
    commits: bool


def _legs(ask: Generate, request: Request) -> list[_Leg]:
    found = []
    for when, outcome in hypotheses(ask, request):
        assert isinstance(outcome, Draft | Unavailable)  # noqa: S101  the two results of a Generate
        told = when if _impossible(ask.tier, request) else f"the {ask.tier} {when}"
        found.append(_Leg(told, outcome, _commits(outcome)))
    return found


def _commits(outcome: Draft | Unavailable) -> bool:
    if isinstance(outcome, Unavailable):
        return outcome.partial is not None
    return outcome.verdict is Verdict.COMMIT or outcome.kept > 0


def _race(when: str, a: Draft | Unavailable, b: Draft | Unavailable) -> Hypothesis:
    return Hypothesis(when, Raced(a, b))


def _impossible(tier: Tier, request: Request) -> Hypothesis | None:
    """Return the failure of any ask of a tier that is not configured or not capable, else None."""
    if tier not in request.tiers:
        return _not_configured(tier)
    if tier not in request.able:
        return Hypothesis(f"no {tier} capable of it", Unavailable("incapable", tier))
    return None


def _not_configured(tier: Tier) -> Hypothesis:
    return Hypothesis(f"no {tier} configured", Unavailable("not_configured", tier))


# --- each kind of watch: its description, and the possible drafts under it


@singledispatch
def told(watch: Watch) -> str:
    return f"watched ({type(watch).__name__})"


@singledispatch
def drafts(watch: Watch, tier: Tier, request: Request) -> list[Hypothesis]:
    return [
        Hypothesis("accepted", _draft(tier, Verdict.COMMIT)),
        Hypothesis("not accepted", _draft(tier, Verdict.GIVE_UP)),
        Hypothesis("stopped early", _draft(tier, Verdict.GIVE_UP, finish=None)),
    ]


@told.register
def _(watch: ConfidenceWatch) -> str:
    how = " sentences" if watch.release == "splice" else ""
    rules = [
        watch.commit is not None and f"commit{how} at confidence >= {watch.commit:g}",
        watch.give_up is not None and f"give up under {watch.give_up:g}",
        f"accept at >= {watch.accept:g}",
        watch.judged_below > watch.accept and f"have it judged under {watch.judged_below:g}",
    ]
    return f"watched: {', '.join(rule for rule in rules if rule)}"


@drafts.register
def _(watch: ConfidenceWatch, tier: Tier, request: Request) -> list[Hypothesis]:
    found: list[Hypothesis] = []
    if watch.commit is not None:
        found = [Hypothesis("committed", _draft(tier, Verdict.COMMIT, Reason.COMMITTED)), _broken_off(tier)]
    poor = [Hypothesis("low_confidence", _draft(tier, Verdict.GIVE_UP, Reason.LOW_CONFIDENCE))]
    if watch.give_up is not None:
        poor.append(Hypothesis("gave_up", _draft(tier, Verdict.GIVE_UP, Reason.GAVE_UP, finish=None)))
    if watch.commit is not None and watch.release == "splice":
        found += [_after_a_sentence(when, outcome) for when, outcome in poor if isinstance(outcome, Draft)]
    return [*found, *_accepted(watch, tier), *poor]


def _accepted(watch: ConfidenceWatch, tier: Tier) -> Iterator[Hypothesis]:
    """Yield a finished draft that is accepted, and one that is accepted only if a judgement agrees."""
    if watch.judged_below < 1.0:
        yield Hypothesis("confident", _draft(tier, Verdict.COMMIT, Reason.CONFIDENT))
    if watch.judged_below > watch.accept:
        yield Hypothesis("to be judged", _draft(tier, Verdict.CONTINUE, Reason.CONFIDENT))


def _after_a_sentence(when: str, poor: Draft) -> Hypothesis:
    begun = poor._replace(kept=1, kept_text=TEXT)
    return Hypothesis(f"committed in part, then {when}", begun)


@told.register
def _(watch: HeldWatch) -> str:
    return "held to its end"


@drafts.register
def _(watch: HeldWatch, tier: Tier, request: Request) -> list[Hypothesis]:
    loop = _draft(tier, Verdict.CONTINUE, Reason.LOOP)
    return [Hypothesis("drafted", _draft(tier, Verdict.CONTINUE)), Hypothesis("it loops", loop)]


@told.register
def _(watch: ObservingWatch) -> str:
    return ""


@drafts.register
def _(watch: ObservingWatch, tier: Tier, request: Request) -> list[Hypothesis]:
    return _written(tier, request, TEXT)


def _written(tier: Tier, request: Request, known: str) -> list[Hypothesis]:
    """Return the outcomes of an answer that streams unwatched; `known` is the text that the plan sees."""
    answered = Hypothesis("answered", _draft(tier, Verdict.COMMIT))
    return [answered, _broken_off(tier, known)] if request.stream else [answered]


def _broken_off(tier: Tier, known: str = TEXT) -> Hypothesis:
    begun = _draft(tier, Verdict.CONTINUE, finish=None)._replace(text=known)
    return Hypothesis("broken off midway", Unavailable("lost", tier, partial=begun))


def _draft(tier: Tier, verdict: Verdict, reason: Reason | None = None, finish: str | None = "stop") -> Draft:
    return Draft(tier, TEXT, verdict=verdict, reason=reason, finish=finish)
