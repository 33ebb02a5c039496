"""Prices of cloud models, from the data in the genai-prices package. Nothing is downloaded."""

from datetime import UTC, datetime
from decimal import Decimal

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import TieredPrices

from routers.cost import Bracket, Price

Column = Decimal | TieredPrices | None


def find_price(model: str, url: str) -> Price | None:
    """Return the current price of `model` at the provider of `url`; None if genai-prices does not know them.

    Rates that depend on the time of day are those at the time of the call.
    """
    try:
        _, model_info = get_snapshot().find_provider_model(model, None, None, url)
    except LookupError:
        return None
    prices = model_info.get_prices(datetime.now(UTC))
    columns: dict[str, Column] = {
        "input": prices.input_mtok,
        "output": prices.output_mtok,
        "cached_input": prices.cache_read_mtok,
    }
    tiered = [column for column in columns.values() if isinstance(column, TieredPrices)]
    starts = sorted({tier.start for column in tiered for tier in column.tiers if tier.start > 0})
    # genai-prices' tiers exclude their start; our brackets include it.
    brackets = tuple(Bracket(start=start + 1, **_build_rates(columns, start + 1)) for start in starts)
    return Price(**_build_rates(columns, 0), brackets=brackets)


def _build_rates(columns: dict[str, Column], prompt_tokens: int) -> dict[str, float]:
    return {name: _find_rate(column, prompt_tokens) for name, column in columns.items() if column is not None}


def _find_rate(column: Decimal | TieredPrices, prompt_tokens: int) -> float:
    if isinstance(column, Decimal):
        return float(column)
    rate = column.base
    for tier in column.tiers:
        if prompt_tokens > tier.start:
            rate = tier.price
    return float(rate)
