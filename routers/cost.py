"""Token counts -> US dollars, live and in replay."""

from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from .config_models import Finite
from .plan import Usage

Dollars = Annotated[float, Field(ge=0.0)]


class Rates(Finite):
    """USD per million tokens."""

    input: Dollars = 0.0
    """Prompt tokens."""
    output: Dollars = 0.0
    """Completion tokens."""
    cached_input: Dollars | None = None
    """Prompt tokens read from the provider's cache; null: the same as `input`."""


class Bracket(Rates):
    """Rates for all tokens of a call whose prompt has at least `start` tokens."""

    start: Annotated[int, Field(gt=0)]
    """Least number of prompt tokens at which these rates apply."""


class Price(Rates):
    """An upstream's prices, in USD per million tokens. All zero means that its cost is not counted."""

    per_hour: Dollars = 0.0
    """USD per hour of one call: the machine's price per hour divided by the number of concurrent calls."""
    brackets: tuple[Bracket, ...] = ()
    """Rates that replace these for long prompts."""

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The price as plain values, computed once, for the record of every call."""
        return self.model_dump()


FREE = Price()


def _find_rates(price: Price, prompt_tokens: int) -> Rates:
    brackets = [bracket for bracket in price.brackets if prompt_tokens >= bracket.start]
    return max(brackets, key=lambda bracket: bracket.start, default=price)


def compute_cost(usage: Usage, price: Price, seconds: float = 0.0) -> float:
    """Return the cost in USD of one call that took `seconds`."""
    rates = _find_rates(price, usage.prompt_tokens) if price.brackets else price
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    cached_rate = rates.input if rates.cached_input is None else rates.cached_input
    per_million = (
        (usage.prompt_tokens - cached) * rates.input
        + cached * cached_rate
        + usage.completion_tokens * rates.output
    )
    return per_million / 1e6 + price.per_hour * seconds / 3600.0


def llm_alone_cost(prompt_tokens: int, served_tokens: int, length_ratio: float, price: Price) -> float:
    """Estimate what the LLM alone would have cost, in USD.

    Its answer is assumed to have `served_tokens` * `length_ratio` tokens, where `length_ratio` is the
    measured length of the LLM's answers relative to served ones.
    """
    return compute_cost(Usage(prompt_tokens, round(served_tokens * length_ratio)), price)
