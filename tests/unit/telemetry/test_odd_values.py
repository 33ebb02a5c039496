"""Whatever an upstream sends in place of words and counts, the exchange is counted, shown, recorded and replayed."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateways import Gateway
from support.record_builders import PRICE, policy
from support.scripted_server import Reply, Scripted

from gateway.exchange.call import Call
from gateway.exchange.captured import CapturedAnswer
from gateway.exchange.exchange import Exchange
from gateway.state.exchanges import Exchanges
from gateway.telemetry.account_values import encode
from gateway.telemetry.ledger import Ledger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.record_writer import Recorder
from gateway.telemetry.settings import RecordSettings
from policies.records.differences import find_differences
from policies.records.reader import LeftOut, read_records
from policies.records.replay import replay
from policies.records.schema import Record
from routers.plan import Answer, Draft, Generate, Reason, Token, Usage
from routers.router import Request
from routers.watch import ObservingWatch

HUGE = int("9" * 1000)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(HUGE),
    st.floats(),
    st.text(st.characters(), max_size=200),
    st.just("\ud83d"),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)


def exchange_with(**changes: Any) -> Exchange:
    """An exchange whose one call was answered, with an upstream's odd values on its account."""
    ask = Generate("llm", because=Reason.NOT_JUDGED)
    call = Call(ask, "llm", "large", "large", PRICE["llm"], started=0.0, prompt_tokens=100, sent=0.1)
    call.settle(0.5, Usage(10, 20))
    answer = Answer([Draft("llm", usage=Usage(10, 20))], Reason.NOT_JUDGED)
    request = Request(judgeable=False)
    exchange = Exchange("chat", "chat", policy(), {}, b"", request, PRICE["llm"], calls=[call], answer=answer)
    exchange.account()
    for name, value in changes.items():
        setattr(call, name, value)
    return exchange


def book(
    folder: Path, *exchanges: Exchange, content: bool = False
) -> tuple[Metrics, Exchanges, list[Record]]:
    """Book exchanges, and read their records back."""
    metrics, kept = Metrics(), Exchanges()
    recorder = Recorder(RecordSettings(content=content), folder, metrics.count_dropped_record)
    ledger = Ledger(metrics, kept, recorder)
    ledger._ended += exchanges
    ledger.book()
    recorder.close()
    left_out = LeftOut()
    found = list(read_records(folder, left_out))
    assert left_out.reasons == []
    return metrics, kept, found


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"smallfirst_{name}", labels)


@given(finish=VALUES, counts=st.lists(VALUES, min_size=5, max_size=5))
def test_an_odd_account_is_booked_and_replays(
    tmp_path_factory: pytest.TempPathFactory, finish: Any, counts: list[Any]
) -> None:
    prompt, completion, cached, accepted, rejected = counts
    odd = exchange_with(finish=finish, usage=Usage(prompt, completion, cached, False, accepted, rejected))
    plain = exchange_with()
    metrics, kept, found = book(tmp_path_factory.mktemp("records"), odd, plain)
    assert [record.exchange.id for record in found] == [odd.id, plain.id]
    assert [find_differences(replay(record)) for record in found] == [[], []]
    assert kept.get(odd.id) is not None
    spent = sample(metrics, "cost_usd_total", tier="llm", model="large")
    assert spent == pytest.approx(odd.cost_usd + plain.cost_usd)


def test_counts_that_are_none_are_estimated(tmp_path: Path) -> None:
    _, _, (record,) = book(tmp_path, exchange_with(usage=Usage("12", 1e308, {}), finish=5))  # type: ignore[arg-type]
    (call,) = record.exchange.calls
    assert (call.usage.prompt_tokens, call.usage.estimated, call.finish) == (100, True, "5")
    assert record.exchange.cost_usd == pytest.approx(100 * PRICE["llm"].input / 1e6)


class Unreadable(dict[str, Any]):
    """A report that no JSON can hold."""

    def __str__(self) -> str:
        raise ValueError("no text either")

    def items(self) -> Any:
        raise ValueError("no items")


def test_what_cannot_be_recorded_still_costs(tmp_path: Path) -> None:
    broken, plain = exchange_with(), exchange_with()
    broken.skills = Unreadable(a=1)
    broken.answer = broken.answer and broken.answer._replace(speculation=5)  # type: ignore[arg-type]
    metrics, _, found = book(tmp_path, broken, plain)
    assert [record.exchange.id for record in found] == [plain.id]
    spent = sample(metrics, "cost_usd_total", tier="llm", model="large")
    assert spent == pytest.approx(broken.cost_usd + plain.cost_usd)
    assert sample(metrics, "records_dropped_total") == 1


def test_odd_logprobs_of_a_draft_are_left_out(tmp_path: Path) -> None:
    tokens = [Token("Cold", float("nan"), [-0.1, float("-inf")]), Token(".", -0.2, [-0.2, None])]  # type: ignore[list-item]
    odd = exchange_with(tokens=tokens, at=[0.1, 0.2])
    odd.calls[0].ask = Generate("llm", ObservingWatch)
    _, _, (record,) = book(tmp_path, odd)
    line = record.exchange.calls[0].tokens
    assert line is not None
    assert (line.logprobs, line.top) == ([None, -0.2], [[-0.1], [-0.2]])


DEEP: Any = json.loads("[" * 230 + "]" * 230)
ODD_CONTENT = [
    ({"seed": HUGE}, {"seed": HUGE}),
    ({"seed": 2**70}, {"seed": 2**70}),
    ({"user": "\ud83d and \ud83d\ude00"}, {"user": "\ufffd and \U0001f600"}),
    ({"metadata": DEEP}, {"metadata": DEEP}),
    ({"temperature": float("nan")}, {"temperature": None}),
]


@pytest.mark.parametrize(("body", "recorded"), ODD_CONTENT)
def test_odd_content_is_recorded_and_read(tmp_path: Path, body: Any, recorded: Any) -> None:
    odd, plain = exchange_with(), exchange_with()
    odd.body = body
    _, kept, found = book(tmp_path, odd, plain, content=True)
    assert [record.exchange.content for record in found] == [recorded, {}]
    assert kept.get(odd.id) is not None


@pytest.mark.parametrize("message", [5, [], "text", None, {"content": "\ud83d"}])
def test_an_odd_answer_loses_no_other_record(tmp_path: Path, message: Any) -> None:
    odd, plain = exchange_with(), exchange_with()
    odd.captured = CapturedAnswer()
    odd.captured.response(json.dumps({"choices": [{"message": message}]}).encode())
    _, _, found = book(tmp_path, odd, plain, content=True)
    assert [record.exchange.id for record in found] == [odd.id, plain.id]


def test_integers_beyond_64_bits_keep_their_digits() -> None:
    assert encode({"n": 2**64, "s": "\ud83d"}) == b'{"n":18446744073709551616,"s":"\xef\xbf\xbd"}'


FINISHES = [5, True, ["stop"], {"why": "stop"}, "x" * 500]


@pytest.mark.parametrize("finish", FINISHES)
async def test_odd_finish_reasons_of_a_server_are_recorded(
    gateway: Gateway, llm: Scripted, finish: Any
) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Cold."}, "finish_reason": finish}
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    llm.says(Reply(body={"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}))
    body = {"model": "large", "messages": [{"role": "user", "content": "Is ice cold?"}]}
    _, headers, _ = await gateway.post("/chat/completions", body)
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    (call,) = exchange["calls"]
    assert isinstance(call["finish"], str)
    assert exchange["cost_usd"] == pytest.approx((10 * 1.0 + 2 * 4.0) / 1e6)
