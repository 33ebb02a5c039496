"""Which of a request's retrieved passages are shown to whoever writes, and in which order.

Each passage is judged by itself: by how likely the question is after it (Sachan et al., "Improving Passage Retrieval
with Zero-Shot Question Generation", arXiv 2204.07496), or by P(yes) to whether it helps to answer, read from one token
as in `judge`. Both depend on the question more than on the passage: what the passages of a request have in common is
taken out (Zhou et al., "Batch Calibration", arXiv 2309.17249). The best ones stand at both ends, since models make the
least of what is in the middle of a long prompt (Liu et al., "Lost in the Middle", arXiv 2307.03172).
"""

from collections.abc import Sequence
from functools import partial
from math import exp, log
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from routers.plan import (
    Ask,
    Both,
    Fragment,
    Generate,
    Judge,
    Judged,
    Outcome,
    Plan,
    Reason,
    Tier,
    Unavailable,
)
from routers.router import Request
from routers.strict import Finite

from .held import through

MOST_PASSAGES = 64
"""Of one request: each is a call to the judge."""

QUESTION = """Here are a question and a passage.

Question:
{request}

Passage:
{passage}

Does the passage help to answer the question? Reply with one word, yes or no."""
"""Asked for a verdict. The question comes first: all passages of a request have that beginning in common, which servers
read once."""

READING = """Passage: {passage}

A question that the passage answers: {request}"""
"""Read for the likelihood of what it ends in."""

By = Literal["likelihood", "verdict"]

SURE = 1e-6
"""Nobody is surer than this: a judge that has not thought of "yes" at all says 0."""

Place = Literal["edges", "best_first", "given"]


class Filter(Finite):
    """Drops retrieved passages that don't bear on the question."""

    bar: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Lowest P(relevant) of a passage that is shown; where they are `calibrated`, 0.5 is what the request's passages
    have on average."""
    by: By = "likelihood"
    """`likelihood`: how likely the judge finds the question after the passage, where its server tells the
    probabilities of a text that it reads (the local engine, llama.cpp, vLLM), else as `verdict`; `verdict`: P(yes) to
    whether the passage helps."""
    calibrated: bool = True
    """Whether P(relevant) is told against the other passages of the request: of its log-odds, their mean is taken off.
    `false`: as the judge says it."""
    most: Annotated[int, Field(ge=1)] | None = None
    """At most so many are shown, the best of them; null: as many as reach the bar."""
    least: Annotated[int, Field(ge=0)] = 1
    """At least so many are shown, the best of them, though they are under the bar."""
    order: Place = "edges"
    """`edges`: the best first, the second best last, and so on to the worst in the middle; `best_first`; `given`: as
    they came."""
    tier: Tier = "slm"
    """Who judges."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.most is not None and self.least > self.most:
            raise ValueError(f"least must not be over most ({self.most}), found {self.least}")
        return self

    def read(self, p: Sequence[float]) -> list[float]:
        """Each passage's P(relevant), as the bar is held against it, by what the judge said of each."""
        return calibrated(p) if self.calibrated else [*p]

    def chosen(self, p: Sequence[float]) -> tuple[int, ...]:
        """The places of the passages that are shown, in their order, by what the judge said of each."""
        p = self.read(p)
        ranked = sorted(range(len(p)), key=lambda place: -p[place])
        over = sum(p[place] >= self.bar for place in ranked)
        kept = ranked[: max(over, self.least)][: self.most]
        if self.order == "edges":
            return (*kept[::2], *reversed(kept[1::2]))
        return tuple(sorted(kept) if self.order == "given" else kept)


def calibrated(p: Sequence[float]) -> list[float]:
    """Probabilities without what they have in common: 0.5 is their mean, in log-odds."""
    odds = [log(one / (1.0 - one)) for one in (min(max(one, SURE), 1.0 - SURE) for one in p)]
    mean = sum(odds) / len(odds) if odds else 0.0
    return [1.0 / (1.0 + exp(mean - one)) for one in odds]


def relevant(filter: Filter, count: int) -> Fragment[tuple[int, ...]]:
    """The places of those of `count` passages that are shown, in their order. Raises Unavailable."""
    p: list[float] = []
    by = filter.by
    while len(p) < count:
        try:
            judged = yield _judgement(filter.tier, by, len(p))
        except Unavailable as lost:
            if p or by == "verdict" or lost.why != "incapable":
                raise
            by = "verdict"
        else:
            assert isinstance(judged, Judged)  # noqa: S101  every driver answers an ask in kind
            p.append(judged.p["yes" if by == "verdict" else "request"])
    return filter.chosen(p)


def _judgement(tier: Tier, by: By, place: int) -> Judge:
    if by == "verdict":
        return Judge(tier, QUESTION, ("yes", "no"), because=Reason.RELEVANCE, passage=place)
    return Judge(tier, READING, (), because=Reason.RELEVANCE, passage=place)


def filtered(plan: Plan, filter: Filter, request: Request) -> Plan:
    """The plan, whose writers are shown the passages that bear on the question; all as given, where nobody judges."""
    try:
        shown = yield from relevant(filter, request.passages)
    except Unavailable:
        return (yield from plan)
    return (yield from through(plan, partial(_showing, passages=shown)))


def _showing(ask: Ask, passages: tuple[int, ...]) -> Fragment[Outcome]:
    return (yield _with(ask, passages))


def _with(ask: Ask, passages: tuple[int, ...]) -> Ask:
    if isinstance(ask, Both):
        return Both(ask.a._replace(passages=passages), ask.b._replace(passages=passages))
    return ask._replace(passages=passages) if isinstance(ask, Generate) else ask
