"""Whether a compression takes more time or money than it saves: an estimate, made before it is begun."""

from typing import Literal, NamedTuple

from routers.cost import Price, cost
from routers.plan import Usage

Mode = Literal["both", "money", "always"]
WhyNot = Literal["", "takes_too_long", "costs_money", "costs_time"]


class Pair(NamedTuple):
    """Who reads for whom: seconds a token that the small model scores and that the large one reads, and prices."""

    scored: float
    prefill: float
    slm: Price
    llm: Price


class Estimate(NamedTuple):
    """What the reading takes, and what the large model is spared by it."""

    seconds: float
    usd: float
    spared_seconds: float
    spared_usd: float

    def why_not(self, mode: Mode, most: float) -> WhyNot:
        """Empty where it is worth it; `most` are the seconds that it may take whatever it saves."""
        if self.seconds > most:
            return "takes_too_long"
        if mode != "always" and self.usd > self.spared_usd:
            return "costs_money"
        return "costs_time" if mode == "both" and self.seconds > self.spared_seconds else ""


def estimated(reads: int, before: int, after: int, pair: Pair) -> Estimate:
    """Of a compression: the small model reads so many tokens, and the large one `after` instead of `before`."""
    seconds = reads * pair.scored
    spared = (before - after) * pair.prefill
    return Estimate(
        seconds,
        cost(Usage(reads), pair.slm, seconds),
        spared,
        cost(Usage(before), pair.llm, before * pair.prefill)
        - cost(Usage(after), pair.llm, after * pair.prefill),
    )
