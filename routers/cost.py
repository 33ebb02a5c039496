"""Tokens -> dollars. Usage is read once, cost is computed once, here, live and in replay."""

from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from .plan import Usage
from .strict import Finite

Dollars = Annotated[float, Field(ge=0.0)]


class Rates(Finite):
    """USD per million tokens."""

    input: Dollars = 0.0
    """Prompt tokens."""
    output: Dollars = 0.0
    """Completion tokens."""
    cached_input: Dollars | None = None
    """Prompt tokens read from the provider's cache; `input` where absent."""


class Bracket(Rates):
    """Rates of a whole call whose prompt has at least `start` tokens."""

    start: Annotated[int, Field(gt=0)]
    """Prompt tokens from which these rates hold."""


class Price(Rates):
    """What an upstream charges, in USD per million tokens. All zero means: not counted."""

    per_hour: Dollars = 0.0
    """USD for an hour of one call: a machine's price divided by the calls it serves at a time."""
    brackets: tuple[Bracket, ...] = ()
    """Other rates for long prompts."""

    @cached_property
    def fields(self) -> dict[str, Any]:
        """As plain values, for records: made once, written with every call."""
        return self.model_dump()


FREE = Price()


def _reached(price: Price, prompt_tokens: int) -> Rates:
    reached = [bracket for bracket in price.brackets if prompt_tokens >= bracket.start]
    return max(reached, key=lambda bracket: bracket.start, default=price)


def cost(usage: Usage, price: Price, seconds: float = 0.0) -> float:
    """USD of one call that took `seconds`."""
    rates = _reached(price, usage.prompt_tokens) if price.brackets else price
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    cached_rate = rates.input if rates.cached_input is None else rates.cached_input
    per_million = (
        (usage.prompt_tokens - cached) * rates.input
        + cached * cached_rate
        + usage.completion_tokens * rates.output
    )
    return per_million / 1e6 + price.per_hour * seconds / 3600.0


def llm_alone(prompt_tokens: int, served_tokens: int, length_ratio: float, price: Price) -> float:
    """USD the LLM alone would have cost: an estimate from the served answer's length times the measured
    ratio of the LLM's answers' length to it."""
    return cost(Usage(prompt_tokens, round(served_tokens * length_ratio)), price)
