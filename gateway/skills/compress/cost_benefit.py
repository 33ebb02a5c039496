"""Estimates, before a compression begins, whether it takes more time or money than it saves."""

from typing import Literal, NamedTuple

from routers.cost import Price, cost
from routers.plan import Usage

Mode = Literal["both", "money", "always"]
WhyNot = Literal["", "takes_too_long", "costs_money", "costs_time"]


class Pair(NamedTuple):
    """The two models' prices, the seconds per token that the SLM scores, and the seconds per token that the
    LLM reads."""

    scored: float
    prefill: float
    slm: Price
    llm: Price


class Estimate(NamedTuple):
    """The time and money that scoring takes, and those that the LLM saves."""

    seconds: float
    usd: float
    spared_seconds: float
    spared_usd: float

    def why_not(self, mode: Mode, most: float) -> WhyNot:
        """Return the objection to compressing, or an empty string. `max_s` is the maximum seconds, whatever
        it saves."""
        if self.seconds > most:
            return "takes_too_long"
        if mode != "always" and self.usd > self.spared_usd:
            return "costs_money"
        return "costs_time" if mode == "both" and self.seconds > self.spared_seconds else ""


def estimated(reads: int, before: int, after: int, pair: Pair) -> Estimate:
    """Estimate a compression in which the small model reads `reads` tokens and the LLM reads `after` tokens
    instead of `before`."""
    seconds = reads * pair.scored
    spared = (before - after) * pair.prefill
    return Estimate(
        seconds,
        cost(Usage(reads), pair.slm, seconds),
        spared,
        cost(Usage(before), pair.llm, before * pair.prefill)
        - cost(Usage(after), pair.llm, after * pair.prefill),
    )
