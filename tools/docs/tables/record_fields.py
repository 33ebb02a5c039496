"""The schema of records -> tables of its lines."""

from collections.abc import Iterator

from policies.records.schema import (
    AnswerLine,
    CallLine,
    ExchangeLine,
    InApi,
    JudgedLine,
    Line,
    PolicyLine,
    RequestLine,
    ScoredLine,
    SpeculationLine,
    TokensLine,
    UsageLine,
)
from tools.docs.table import code, table
from tools.docs.tables.model_fields import meanings

TITLES: dict[type[Line], str] = {
    PolicyLine: "`policy` line",
    ExchangeLine: "`exchange` line",
    RequestLine: "`request` of an exchange",
    AnswerLine: "`answer` of an exchange",
    SpeculationLine: "`speculation` of an exchange",
    CallLine: "each of the `calls` of an exchange",
    UsageLine: "`usage` of a call",
    TokensLine: "`tokens` of a call",
    JudgedLine: "`judged` of a call",
    ScoredLine: "`scored` of a call",
}


def record_tables() -> str:
    """Return a table for every line of a record: its keys, their names in the API, and their meanings."""
    head = ("key", "in the API", "meaning")
    parts = [
        f"**{title}**: {' '.join((model.__doc__ or '').split())}\n\n{table(head, _rows(model))}"
        for model, title in TITLES.items()
    ]
    return "\n\n".join(parts)


def _rows(model: type[Line]) -> Iterator[list[str]]:
    texts = meanings(model)
    for key, field in model.model_fields.items():
        names = [code(mark.name or key) for mark in field.metadata if isinstance(mark, InApi)]
        yield [code(key), "".join(names), texts[key]]
