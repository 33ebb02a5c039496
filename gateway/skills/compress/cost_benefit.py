"""Estimates, before a compression begins, whether it takes more time or money than it saves."""

from typing import Literal, NamedTuple

from routers.cost import Price, compute_cost
from routers.plan import Usage

Mode = Literal["both", "money", "always"]
Objection = Literal["", "takes_too_long", "costs_money", "costs_time", "unmeasured"]


class ModelPair(NamedTuple):
    """The two models' prices, the seconds per token that the SLM scores, and the seconds per token that the
    LLM reads."""

    scoring_s: float
    prefill_s: float
    slm: Price
    llm: Price
    is_measured: bool = True
    """Whether the LLM's time is its own, and not assumed."""


class Estimate(NamedTuple):
    """The time and money that scoring takes, and those that the LLM saves."""

    seconds: float
    usd: float
    spared_seconds: float
    spared_usd: float

    def find_objection(self, mode: Mode, max_s: float, *, is_measured: bool = True) -> Objection:
        """Return the objection to compressing, or an empty string. `max_s` is the maximum seconds, whatever
        it saves. If the LLM's time is not measured yet, nobody knows whether time is saved."""
        if self.seconds > max_s:
            return "takes_too_long"
        if mode != "always" and self.usd > self.spared_usd:
            return "costs_money"
        if mode != "both":
            return ""
        if self.seconds > self.spared_seconds:
            return "costs_time"
        return "" if is_measured else "unmeasured"


def estimate_cost_benefit(reads: int, before: int, after: int, pair: ModelPair) -> Estimate:
    """Estimate a compression in which the small model reads `reads` tokens and the LLM reads `after` tokens
    instead of `before`."""
    seconds = reads * pair.scoring_s
    spared = (before - after) * pair.prefill_s
    return Estimate(
        seconds,
        compute_cost(Usage(reads), pair.slm, seconds),
        spared,
        compute_cost(Usage(before), pair.llm, before * pair.prefill_s)
        - compute_cost(Usage(after), pair.llm, after * pair.prefill_s),
    )
