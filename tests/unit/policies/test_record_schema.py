"""Every field of the schema is written, read, documented, and shown by the API where it is marked."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.record_builders import PRICE, policy

from gateway.exchange.call import Call
from gateway.exchange.captured import CapturedAnswer
from gateway.exchange.exchange import Exchange
from gateway.state.exchanges import to_api_object
from gateway.telemetry.account_values import encode_compact
from gateway.telemetry.line_builder import compile_builder
from gateway.telemetry.record_lines import build_exchange_line
from gateway.telemetry.record_writer import Recorder
from gateway.telemetry.settings import RecordSettings
from policies.records import schema
from policies.records.reader import read_records
from policies.records.schema import ExchangeLine, InApi, JudgedLine, Line, Record
from routers.plan import (
    Answer,
    Draft,
    Generate,
    GreedyToken,
    Judge,
    Judged,
    Reason,
    Score,
    Scored,
    ScoredToken,
    Speculation,
    Tier,
    Token,
)
from routers.router import Request
from routers.watch import ObservingWatch
from tools.docs.tables.model_fields import meanings
from tools.docs.tables.record_fields import TITLES, record_tables

LINES = [
    model
    for model in vars(schema).values()
    if isinstance(model, type) and issubclass(model, Line) and model not in (Line, Record)
]
EXCHANGE_KEYS = {
    *("id", "object", "created", "endpoint", "stream", "policy", "route", "reason", "confidence"),
    *("cost_usd", "llm_alone_usd", "saved_usd", "status", "error", "cancelled", "seconds"),
    *("time_to_first_token", "speculation", "skills", "aside", "tags", "shadow_of", "calls"),
}
CALL_KEYS = {
    *("ask", "tier", "upstream", "model", "because", "outcome", "retried", "verdict", "reason"),
    *("confidence", "finish", "prompt_tokens", "completion_tokens", "estimated", "cost_usd", "seconds"),
}


def call(tier: Tier, ask: Generate | Judge | Score, **changes: Any) -> Call:
    return Call(ask, tier, tier, tier, PRICE[tier], started=0.25, prompt_tokens=100, **changes)


def full_exchange() -> Exchange:
    """An exchange with a value in every part of its record."""
    choice = GreedyToken(7, -0.1)
    calls = [
        call("slm", Generate("slm", ObservingWatch), tokens=[Token("Yes", -0.2, (-0.2,))], at=[0.1]),
        call("slm", Judge("slm", "?", ("yes", "no")), judged=Judged({"yes": 0.75, "no": 0.25}, 0.5)),
        call("llm", Score("llm", "Yes"), scored=Scored([ScoredToken(7, -0.1, choice)], choice)),
    ]
    answer = Answer([Draft("slm", "Yes")], Reason.VERIFIED, 0.7, Speculation(1, 1, 1))
    captured = CapturedAnswer()
    captured.response(json.dumps({"choices": [{"message": {"content": "Yes"}}]}).encode())
    return Exchange(
        *("chat", "chat", policy(), {"model": "test"}, b"", Request(), PRICE["llm"]),
        calls=calls,
        answer=answer,
        captured=captured,
        llm_alone_usd=0.5,
        cost_usd=0.1,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the record of the full exchange, its content included."""
    path = tmp_path_factory.mktemp("records")
    exchange = full_exchange()
    line = build_exchange_line(exchange)
    recorder = Recorder(RecordSettings(content=True), path, lambda: pytest.fail("dropped"))
    recorder.add(exchange, line, encode_compact(line))
    recorder.close()
    return path


def test_every_field_is_written_and_read(folder: Path) -> None:
    (record,) = read_records(folder)
    lines = list(lines_in(record.exchange))
    assert {type(line) for line in lines} == {*LINES} - {schema.PolicyLine}
    late = {("CallLine", "tokens")}  # only of followed drafts
    assert {
        (type(line).__name__, key)
        for line in lines
        for key in type(line).model_fields.keys() - line.model_fields_set
    } == late
    assert any(getattr(line, "tokens", None) is not None for line in lines)


def lines_in(value: object) -> Iterator[Line]:
    """Yield a line and all lines in it."""
    if isinstance(value, Line):
        yield value
        for key in type(value).model_fields:
            yield from lines_in(getattr(value, key))
    elif isinstance(value, list):
        for element in value:
            yield from lines_in(element)


def test_a_record_holds_all_that_a_router_knows() -> None:
    assert schema.RequestLine.model_fields.keys() == set(Request._fields)


def test_the_api_shows_exactly_the_marked_fields() -> None:
    shown = to_api_object(json.loads(encode_compact(build_exchange_line(full_exchange()))))
    (_, judgement, _) = shown["calls"]
    derived = {"object", "created", "saved_usd", "calls"}
    of_lines = marked(ExchangeLine) | marked(schema.RequestLine) | marked(schema.AnswerLine)
    assert shown.keys() == of_lines | derived
    assert judgement.keys() == marked(schema.CallLine) | marked(schema.UsageLine)
    assert (shown["route"], shown["saved_usd"], judgement["ask"]) == ("slm", 0.4, "judge")


def test_the_api_keeps_the_names_it_has() -> None:
    shown = to_api_object(json.loads(encode_compact(build_exchange_line(full_exchange()))))
    assert shown.keys() >= EXCHANGE_KEYS
    assert shown["calls"][0].keys() >= CALL_KEYS


def test_the_example_in_the_documentation_has_every_field_of_the_api() -> None:
    page = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
    _, section = page.split("## `GET /v1/exchanges/{id}`\n")
    example = json.loads(section.split("```json\n")[1].split("```")[0])
    shown = to_api_object(json.loads(encode_compact(build_exchange_line(full_exchange()))))
    assert example.keys() == shown.keys() | {"evaluation"}
    assert example["calls"][0].keys() == shown["calls"][0].keys()


def marked(model: type[Line]) -> set[str]:
    return {
        mark.name or key
        for key, field in model.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, InApi)
    }


def test_every_line_and_field_is_documented() -> None:
    assert set(TITLES) == set(LINES)
    for model in LINES:
        assert meanings(model).keys() >= model.model_fields.keys()
    assert "| `ttft` | `time_to_first_token` | Seconds to the first byte" in record_tables()


class WiderLine(JudgedLine):
    share: float


def test_a_field_without_a_source_is_an_error_when_the_builder_is_made() -> None:
    with pytest.raises(TypeError, match=r"WiderLine\.share has no source: Judged has no attribute share"):
        compile_builder(WiderLine, Judged)
    with pytest.raises(TypeError, match="JudgedLine has no field share"):
        compile_builder(JudgedLine, Judged, {"share": "mass"})


def test_a_field_is_read_from_what_its_source_says() -> None:
    judged = Judged({"yes": 1.0}, 0.5)
    assert compile_builder(WiderLine, Judged, {"share": "usage.prompt_tokens"})(judged)["share"] == 0
    assert (
        compile_builder(WiderLine, Judged, {"share": lambda judged: judged.p["yes"]})(judged)["share"] == 1.0
    )
    converted = compile_builder(WiderLine, Judged, {"share": "mass"}, converters={"share": str})
    assert converted(judged) == {"p": {"yes": 1.0}, "mass": 0.5, "share": "0.5"}
    assert compile_builder(WiderLine, Judged, absent=("share",))(judged) == {"p": {"yes": 1.0}, "mass": 0.5}
