"""The passage filter: selects and orders the retrieved passages that are shown to the writing model.

Each passage is judged by itself: by the likelihood of the question after it (Sachan et al., "Improving
Passage Retrieval with Zero-Shot Question Generation", arXiv 2204.07496), or by P(yes) that it helps to
answer, read from one token. Both measures depend on the question more than on the passage, so the mean over
the request's passages is subtracted (Zhou et al., "Batch Calibration", arXiv 2309.17249). The best passages
stand at both ends, since models make the least use of the middle of a long prompt (Liu et al., "Lost in the
Middle", arXiv 2307.03172).
"""

from collections.abc import Sequence
from functools import partial
from math import exp, log
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from routers.config_models import Finite
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
from routers.plan_run import intercept_asks
from routers.router import Request

MAX_PASSAGES = 64
"""Maximum retrieved passages of one request. Each takes one call to the judge."""

VERDICT_PROMPT = """Here are a question and a passage.

Question:
{request}

Passage:
{passage}

Does the passage help to answer the question? Reply with one word, yes or no."""
"""The prompt for measure `verdict`. The question comes first, so that all passages of a request share a
prefix that servers cache."""

LIKELIHOOD_PROMPT = """Passage: {passage}

A question that the passage answers: {request}"""
"""The prompt for measure `likelihood`, which is that of the request at its end."""

Measure = Literal["likelihood", "verdict"]

MIN_PROBABILITY = 1e-6
"""Bound that keeps log-odds finite: a judge whose top tokens lack "yes" reports a probability of 0."""

Order = Literal["edges", "best_first", "given"]


class PassageFilter(Finite):
    """Drops retrieved passages that are not relevant to the question."""

    bar: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Lowest P(relevant) of a passage that is shown; if `calibrated`, 0.5 is the average of the request's
    passages."""
    by: Measure = "likelihood"
    """`likelihood`: how likely the judge finds the question after the passage, if its server reports the
    probabilities of a given text (the local engine, llama.cpp, vLLM), else as `verdict`; `verdict`: P(yes)
    that the passage helps to answer."""
    calibrated: bool = True
    """Whether P(relevant) is relative to the request's other passages: the mean of their log-odds is
    subtracted. `false`: the judge's own probability."""
    most: Annotated[int, Field(ge=1)] | None = None
    """Maximum number of passages shown, the best ones; null: all that reach the bar."""
    least: Annotated[int, Field(ge=0)] = 1
    """Minimum number of passages shown, the best ones, even if they are below the bar."""
    order: Order = "edges"
    """`edges`: the best first, the second best last, and so on to the worst in the middle; `best_first`;
    `given`: in the request's order."""
    tier: Tier = "slm"
    """The tier that judges."""

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.most is not None and self.least > self.most:
            raise ValueError(f"least must not be over most ({self.most}), found {self.least}")
        return self

    def calibrate(self, p: Sequence[float]) -> list[float]:
        """Return each passage's P(relevant), to be compared with `bar`, given the judge's probabilities."""
        return center_log_odds(p) if self.calibrated else [*p]

    def select(self, p: Sequence[float]) -> tuple[int, ...]:
        """Return the indices of the passages to show, in order, given the judge's probabilities."""
        p = self.calibrate(p)
        ranked = sorted(range(len(p)), key=lambda place: -p[place])
        relevant_count = sum(p[place] >= self.bar for place in ranked)
        selected = ranked[: max(relevant_count, self.least)][: self.most]
        if self.order == "edges":
            return (*selected[::2], *reversed(selected[1::2]))
        return tuple(sorted(selected) if self.order == "given" else selected)


def center_log_odds(p: Sequence[float]) -> list[float]:
    """Shift probabilities so that their mean log-odds are 0, a probability of 0.5."""
    odds = [
        log(one / (1.0 - one)) for one in (min(max(one, MIN_PROBABILITY), 1.0 - MIN_PROBABILITY) for one in p)
    ]
    mean = sum(odds) / len(odds) if odds else 0.0
    return [1.0 / (1.0 + exp(mean - one)) for one in odds]


def select_passages(filter: PassageFilter, count: int) -> Fragment[tuple[int, ...]]:
    """Judge `count` passages and return the indices of those to show, in order. Raises Unavailable."""
    p: list[float] = []
    by = filter.by
    while len(p) < count:
        try:
            judged = yield _build_judge(filter.tier, by, len(p))
        except Unavailable as failure:
            if p or by == "verdict" or failure.why != "incapable":
                raise
            by = "verdict"
        else:
            assert isinstance(judged, Judged)  # noqa: S101  every driver answers an ask in kind
            p.append(judged.p["yes" if by == "verdict" else "request"])
    return filter.select(p)


def _build_judge(tier: Tier, by: Measure, place: int) -> Judge:
    if by == "verdict":
        return Judge(tier, VERDICT_PROMPT, ("yes", "no"), because=Reason.RELEVANCE, passage=place)
    return Judge(tier, LIKELIHOOD_PROMPT, (), because=Reason.RELEVANCE, passage=place)


def filter_passages(plan: Plan, filter: PassageFilter, request: Request) -> Plan:
    """Run `plan` with only the relevant passages shown, or with all as given if no judge is available."""
    try:
        passages = yield from select_passages(filter, request.passages)
    except Unavailable:
        return (yield from plan)
    return (yield from intercept_asks(plan, partial(_perform_with_passages, passages=passages)))


def _perform_with_passages(ask: Ask, passages: tuple[int, ...]) -> Fragment[Outcome]:
    return (yield _with_passages(ask, passages))


def _with_passages(ask: Ask, passages: tuple[int, ...]) -> Ask:
    if isinstance(ask, Both):
        return Both(ask.a._replace(passages=passages), ask.b._replace(passages=passages))
    return ask._replace(passages=passages) if isinstance(ask, Generate) else ask
