"""How often a call is sent, and how long it waits between two attempts."""

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from gateway.upstreams.failures import Failure
from gateway.upstreams.settings import UpstreamSettings
from gateway.upstreams.transport.transport import TransportError
from gateway.upstreams.upstream import Call, Upstream

MAX_BACK_OFFS_S = (0.4, 0.8, 1.6, 3.2, 4.0, 4.0)
"""The longest wait before each retry if the server names none. The actual wait is a random part of it."""

Answer = tuple[int, dict[str, str]] | TransportError
"""A status with headers, or what the transport raises."""

SOON: Answer = (503, {"retry-after": "3"})
AT_THE_LIMIT: Answer = (429, {"retry-after": "4"})
LATE: Answer = (503, {"retry-after": "4.001"})
UNSAID: Answer = (429, {})
DOWN: Answer = TransportError("down", "no connection", before_response=True)
GOOD: Answer = (200, {})


class JumpingSelector(selectors.DefaultSelector):
    """Waits for nothing: its clock jumps to the end of each wait."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now_s += timeout or 0.0
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time."""

    def __init__(self) -> None:
        self._clock = JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s


class Head(NamedTuple):
    """A response of which only the head matters."""

    status: int
    headers: Mapping[str, str]

    async def read(self, limit: int = 0) -> bytes:
        return b""

    async def next(self, gap: float | None = None) -> bytes:
        return b""

    def close(self) -> None:
        pass


class Network:
    """Answers the calls in turn, the last answer again and again, and notes when each call came."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.sent_at: list[float] = []

    async def post(self, url: str, body: bytes, timeout_s: float) -> Head:
        self.sent_at.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, TransportError):
            raise answer
        return Head(*answer)

    async def close(self) -> None:
        pass

    @property
    def waits_s(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.sent_at)]


def run(task: Coroutine[Any, Any, Call]) -> Call:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(task)


def send(network: Network, retries: int, is_last: bool = True) -> Call:
    fields = {
        "name": "u",
        "tier": "llm",
        "url": "http://127.0.0.1:9/v1",
        "model": "m",
        "limits": {"retries": retries},
    }
    upstream = Upstream(UpstreamSettings.model_validate(fields), network)
    return run(upstream.send(upstream.url("chat"), b"", stream=False, is_last=is_last))


@pytest.mark.parametrize("retries", range(4))
@pytest.mark.parametrize(("answer", "wait_s"), [(SOON, 3.0), (AT_THE_LIMIT, 4.0)])
def test_each_retry_waits_as_long_as_the_server_asks(retries: int, answer: Answer, wait_s: float):
    network = Network(answer)
    with pytest.raises(Failure) as raised:
        send(network, retries)
    assert raised.value.retry_after == wait_s
    assert network.waits_s == pytest.approx([wait_s] * retries)


@pytest.mark.parametrize(
    ("answer", "retries"),
    [
        *((UNSAID, retries) for retries in (*range(4), 6)),
        *((DOWN, retries) for retries in range(4)),  # a fifth failure would open the breaker
    ],
)
def test_each_retry_without_a_retry_after_waits_a_random_part_of_a_growing_time(retries: int, answer: Answer):
    runs = []
    for _ in range(100):
        network = Network(answer)
        with pytest.raises(Failure):
            send(network, retries)
        assert len(network.sent_at) == retries + 1
        runs.append(network.waits_s)
    for waits_s, max_s in zip(zip(*runs, strict=True), MAX_BACK_OFFS_S, strict=False):
        assert 0.0 <= min(waits_s) < 0.2 * max_s
        assert 0.8 * max_s < max(waits_s) <= max_s + 1e-9


@pytest.mark.parametrize("retries", range(4))
@pytest.mark.parametrize(
    ("answers", "attempts"),
    [
        ([LATE], 1),
        ([SOON, LATE], 2),
        ([SOON, SOON, LATE], 3),
        ([SOON, (500, {})], 2),
        ([(400, {})], 1),
        ([TransportError("timeout", "too late", before_response=True)], 1),
        ([TransportError("lost", "broken off", before_response=False)], 1),
    ],
    ids=["late", "late second", "late third", "error second", "rejected", "timeout", "lost"],
)
def test_a_failure_that_is_not_repeated_ends_the_call(retries: int, answers: list[Answer], attempts: int):
    network = Network(*answers)
    with pytest.raises(Failure):
        send(network, retries)
    assert len(network.sent_at) == min(attempts, retries + 1)
    assert network.waits_s == pytest.approx([3.0] * (len(network.sent_at) - 1))


@pytest.mark.parametrize("retries", range(4))
@pytest.mark.parametrize("failures", range(5))
def test_a_retry_that_succeeds_is_the_last_one(retries: int, failures: int):
    network = Network(*[SOON] * failures, GOOD)
    if failures > retries:
        with pytest.raises(Failure, match="503"):
            send(network, retries)
    else:
        assert send(network, retries).response.status == 200
    assert len(network.sent_at) == min(failures, retries) + 1


def test_the_last_failure_is_the_one_that_is_raised():
    with pytest.raises(Failure, match="429"):
        send(Network(SOON, SOON, AT_THE_LIMIT), 2)


@pytest.mark.parametrize("retries", range(4))
def test_nothing_is_repeated_while_another_upstream_can_be_called(retries: int):
    network = Network(SOON)
    with pytest.raises(Failure, match="503"):
        send(network, retries, is_last=False)
    assert len(network.sent_at) == 1
