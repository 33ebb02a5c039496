"""What reaches an upstream, when it is asked again, when it is left alone, and what it costs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import genai_prices
import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.raw_server import listening, request_of
from support.scripted_server import Reply, Scripted
from support.waiting import until

from gateway.upstreams.failures import parse_failure
from gateway.upstreams.resilience.breaker import FAILURES_TO_OPEN, MAX_REST_S, MIN_REST_S, Breaker
from gateway.upstreams.settings import UpstreamSettings
from gateway.upstreams.upstream import Upstream
from policies.loading.loader import ConfigError
from routers.cost import Price, compute_cost
from routers.plan import Usage

ASK = {"model": "test", "messages": [{"role": "user", "content": "What is the opposite of hot?"}]}
LARGE = ASK | {"model": "large"}


async def one_llm(start: StartGateway, llm: Scripted, **changes: Any) -> Gateway:
    gateway: Gateway = await start(settings_of(upstream(llm, "llm", **changes)))
    return gateway


async def metric(gateway: Gateway, start: str) -> float:
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        lines = (await response.text()).splitlines()
    (found,) = [line for line in lines if line.startswith(start)]
    return float(found.split()[-1])


async def test_an_azure_like_upstream_gets_its_path_query_and_headers(start: StartGateway, llm: Scripted):
    gateway = await one_llm(
        start,
        llm,
        url=llm.url.replace("/v1", "/openai/deployments/large"),
        key=None,
        headers={"api-key": "azure-key", "X-Note": "as is"},
        query={"api-version": "2024-10-21", "odd": "a&b=c"},
    )
    for body in (LARGE, LARGE | {"stream": True}):
        status, _, _ = await gateway.post("/chat/completions", body)
        assert status == 200
    await gateway.post("/completions", {"model": "large", "prompt": "x"})
    await gateway.post("/embeddings", {"model": "large", "input": "x"})
    base = "/openai/deployments/large"
    ends = ("chat/completions", "chat/completions", "completions", "embeddings")
    assert llm.paths == [f"{base}/{end}" for end in ends]
    assert llm.queries == [{"api-version": "2024-10-21", "odd": "a&b=c"}] * 4
    for headers in llm.headers:
        assert (headers["api-key"], headers["X-Note"]) == ("azure-key", "as is")
        assert headers["Content-Type"] == "application/json"
        assert "Authorization" not in headers


async def test_paths_can_be_set_and_a_clients_key_never_goes_on(start: StartGateway, llm: Scripted):
    gateway = await one_llm(start, llm, key="sk-mine", url=f"{llm.url}/", chat_path="/talk")
    headers = {"Authorization": "Bearer theirs", "X-Own": "1"}
    async with gateway.http.post(f"{gateway.url}/chat/completions", json=LARGE, headers=headers) as response:
        assert response.status == 200
    assert llm.paths == ["/v1/talk"]
    assert llm.headers[0]["Authorization"] == "Bearer sk-mine"
    assert "X-Own" not in llm.headers[0]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"key": "sk-secret\n"}, "'Authorization'"),
        ({"headers": {"X-Team": "secret\r\nX-Evil: 1"}}, "'X-Team'"),
        ({"url": "http://me:secret@a.test/v1"}, "URL of a.test"),
    ],
)
def test_what_no_request_can_be_made_of_is_said_at_the_start_without_its_value(
    given: dict[str, Any], named: str
):
    fields = {"name": "far", "tier": "llm", "model": "large", "url": "http://a.test/v1"}
    with pytest.raises(ConfigError, match=named) as refused:
        Upstream(UpstreamSettings.model_validate(fields | given))
    assert str(refused.value).startswith("the upstream far: ")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_call_that_was_turned_away_is_asked_again(start: StartGateway, llm: Scripted, stream: bool):
    gateway = await one_llm(start, llm, limits={"retries": 2})
    soon = {"Retry-After": "0.01"}
    llm.says(Reply(status=429, headers=soon), Reply(status=503, headers=soon), Reply("Cold."))
    status, headers, raw = await gateway.post("/chat/completions", LARGE | {"stream": stream})
    assert status == 200
    assert b"Cold." in raw
    assert len(llm.requests) == 3
    assert len((await gateway.exchange(headers["x-smallfirst-id"]))["calls"]) == 1


async def test_retries_end(start: StartGateway, llm: Scripted):
    gateway = await one_llm(start, llm, limits={"retries": 2})
    llm.says(Reply(status=503, headers={"Retry-After": "0.01"}))
    status, _, _ = await gateway.post("/chat/completions", LARGE)
    assert (status, len(llm.requests)) == (503, 3)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=400),
        Reply(status=401),
        Reply(status=500),
        Reply(status=429, headers={"Retry-After": "30"}),
        Reply(body="<html>"),
    ],
    ids=["400", "401", "500", "429 for long", "garbage"],
)
async def test_what_a_retry_would_not_help_is_asked_once(start: StartGateway, llm: Scripted, reply: Reply):
    gateway = await one_llm(start, llm, limits={"retries": 2})
    llm.says(reply)
    status, _, _ = await gateway.post("/chat/completions", LARGE)
    assert status >= 400
    assert len(llm.requests) == 1


async def test_nothing_is_asked_again_after_the_first_byte(start: StartGateway, llm: Scripted):
    gateway = await one_llm(start, llm, limits={"retries": 2})
    llm.says(Reply("one two three four", cut_at=2))
    _, _, raw = await gateway.post("/chat/completions", LARGE | {"stream": True})
    assert b"upstream_lost" in raw
    assert len(llm.requests) == 1


def test_retry_after_is_read_in_both_of_its_forms():
    def seconds(value: str) -> float | None:
        return parse_failure("u", "llm", 429, {"retry-after": value}, b"").retry_after

    assert seconds("2.5") == 2.5
    assert seconds("-1") == 0.0
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert seconds(in_a_minute) == pytest.approx(60, abs=5)
    assert seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    for value in ("soon", "", "nan", "inf", "1e999", "Wed, 21 Oct"):
        assert seconds(value) is None, value


ANSWER = (
    b'{"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "Cold."}}]}'
)
KEPT = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)


class Closing:
    """A server that says it keeps connections and closes each after `answers` responses."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for _ in range(self.answers):
            await request_of(reader)
            writer.write(KEPT)
        # The next request arrives on a connection that is being given up.
        await reader.read(1)
        writer.transport.abort()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        async with listening(self.serve) as port:
            yield f"http://127.0.0.1:{port}/v1"


async def test_a_kept_connection_that_the_server_had_closed_is_replaced(start: StartGateway, llm: Scripted):
    server = Closing(answers=1)
    async with server.running() as url:
        gateway = await one_llm(start, llm, url=url)
        for count in (1, 2, 3):
            status, _, _ = await gateway.post("/chat/completions", LARGE)
            assert (status, server.connections) == (200, count)


async def test_a_server_that_closes_every_time_is_asked_twice_and_no_more(start: StartGateway, llm: Scripted):
    server = Closing(answers=0)
    async with server.running() as url:
        gateway = await one_llm(start, llm, url=url)
        status, _, _ = await gateway.post("/chat/completions", LARGE)
        assert (status, server.connections) == (502, 2)


async def test_calls_beyond_the_limits_are_told_to_come_back(start: StartGateway, llm: Scripted):
    limits = {"in_flight": 1, "queued": 1, "retries": 0}
    gateway = await one_llm(start, llm, limits=limits)
    gate = asyncio.Event()
    llm.says(Reply("Cold.", gate=gate))
    asked = [asyncio.create_task(gateway.post("/chat/completions", LARGE)) for _ in range(4)]
    done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 2:
        more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    for task in done:
        status, headers, raw = task.result()
        assert (status, headers["retry-after"]) == (503, "1")
        assert b'"code":"overloaded"' in raw
    gate.set()
    assert [task.result()[0] for task in (await asyncio.wait(waiting))[0]] == [200, 200]
    assert len(llm.requests) == 2
    assert gateway.upstream("llm").is_up


async def test_a_client_that_leaves_the_queue_frees_its_place(start: StartGateway, llm: Scripted):
    gateway = await one_llm(start, llm, limits={"in_flight": 1, "queued": 1, "retries": 0})
    gate = asyncio.Event()
    llm.says(Reply("Cold.", gate=gate))
    first = asyncio.create_task(gateway.post("/chat/completions", LARGE))
    await llm.arrived.wait()
    upstream_waiting = gateway.upstream("llm")
    second = asyncio.create_task(gateway.post("/chat/completions", LARGE))
    await until(lambda: upstream_waiting.waiting == 1)
    second.cancel()
    await until(lambda: upstream_waiting.waiting == 0)
    third = asyncio.create_task(gateway.post("/chat/completions", LARGE))
    await until(lambda: upstream_waiting.waiting == 1)
    gate.set()
    assert [(await task)[0] for task in (first, third)] == [200, 200]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_breaker(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(FAILURES_TO_OPEN):
        assert breaker.admit()
        breaker.record_failure()
    return breaker


def test_a_breaker_opens_after_failures_in_a_row(clock: Clock):
    breaker = Breaker(clock)
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.record_failure()
    breaker.record_success()
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.record_failure()
    assert not breaker.is_open
    assert breaker.retry_in_s == 0.0
    breaker.record_failure()
    assert breaker.is_open
    assert breaker.retry_in_s == MIN_REST_S
    assert not breaker.admit()


def test_a_half_open_breaker_lets_one_call_try(clock: Clock, open_breaker: Breaker):
    clock.now += MIN_REST_S
    assert not open_breaker.is_open
    assert open_breaker.admit()
    assert not open_breaker.admit()
    open_breaker.record_success()
    assert open_breaker.admit()
    open_breaker.record_failure()
    assert not open_breaker.is_open


def test_each_failed_try_doubles_the_rest_up_to_a_minute(clock: Clock, open_breaker: Breaker):
    rests = []
    for _ in range(6):
        clock.now += open_breaker.retry_in_s
        assert open_breaker.admit()
        open_breaker.record_failure()
        rests.append(open_breaker.retry_in_s)
    assert rests == [2 * MIN_REST_S, 4 * MIN_REST_S, 8 * MIN_REST_S, MAX_REST_S, MAX_REST_S, MAX_REST_S]
    clock.now += MAX_REST_S
    assert open_breaker.admit()
    open_breaker.record_success()
    for _ in range(FAILURES_TO_OPEN):
        open_breaker.record_failure()
    assert open_breaker.retry_in_s == MIN_REST_S


def test_calls_that_were_under_way_when_it_opened_do_not_prolong_the_rest(open_breaker: Breaker):
    for _ in range(100):
        open_breaker.record_failure()
    assert open_breaker.retry_in_s == MIN_REST_S


def test_a_try_whose_client_left_is_followed_by_another(clock: Clock, open_breaker: Breaker):
    clock.now += MIN_REST_S
    assert open_breaker.admit()
    clock.now += MIN_REST_S
    assert open_breaker.admit()


async def test_a_dead_llm_is_left_alone_and_taken_back(start: StartGateway, slm: Scripted, llm: Scripted):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [simple_policy()])
    clock = Clock()
    gateway.upstream("llm").breaker._clock = clock
    gauge = 'smallfirst_upstream_up{tier="llm",upstream="large-server"}'
    slm.says(Reply("Maybe blue?", logprobs=-1.5))
    llm.says(Reply(status=500))
    for _ in range(FAILURES_TO_OPEN):
        assert await metric(gateway, gauge) == 1
        _, headers, _ = await gateway.post("/chat/completions", ASK)
        assert headers["x-smallfirst-reason"] == "no_llm"
    assert await metric(gateway, gauge) == 0
    status, ready = await gateway.get("/health/ready")
    assert (status, ready["upstreams"]["large-server"]) == (200, {"tier": "llm", "up": False})

    _, headers, _ = await gateway.post("/chat/completions", ASK)
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert [call["tier"] for call in exchange["calls"]] == ["slm"]
    status, _, raw = await gateway.post("/chat/completions", LARGE)
    assert (status, b"resting" in raw) == (503, True)
    assert len(llm.requests) == FAILURES_TO_OPEN

    llm.says("Cold.")
    clock.now += MIN_REST_S
    _, headers, raw = await gateway.post("/chat/completions", ASK)
    assert (headers["x-smallfirst-route"], b"Cold." in raw) == ("llm", True)
    assert await metric(gateway, gauge) == 1
    assert (await gateway.get("/health/ready"))[1]["upstreams"]["large-server"]["up"] is True


def priced(model: str, url: str, **more: Any) -> Upstream:
    return Upstream(
        UpstreamSettings.model_validate({"name": "u", "tier": "llm", "model": model, "url": url} | more)
    )


OPENAI = "https://api.openai.com/v1"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai"


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("gpt-4.1-mini", OPENAI),
        ("gpt-5-mini", OPENAI),
        ("gemini-2.5-pro", GOOGLE),
        ("gemini-2.5-flash", GOOGLE),
        ("claude-sonnet-4-5", "https://api.anthropic.com/v1"),
    ],
)
@pytest.mark.parametrize(
    "usage",
    [
        Usage(1, 1),
        Usage(1234, 567),
        Usage(1234, 567, 1000),
        Usage(1234, 0, 1234),
        Usage(199_999, 10),
        Usage(200_000, 10),
        Usage(200_001, 10, 150_000),
        Usage(900_000, 5000, 1),
    ],
    ids=lambda usage: f"{usage.prompt_tokens}-{usage.completion_tokens}-{usage.cached_tokens}",
)
def test_a_cloud_models_calls_cost_what_genai_prices_says(model: str, url: str, usage: Usage):
    upstream = priced(model, url)
    counted = genai_prices.Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=usage.cached_tokens,
    )
    expected: Decimal = genai_prices.calc_price(counted, model, provider_api_url=url).total_price
    assert upstream.has_price
    assert expected > 0
    assert compute_cost(usage, upstream.price) == pytest.approx(float(expected), rel=1e-9)


def test_an_own_price_wins_even_where_it_is_nothing():
    own = Price(input=1.0, output=4.0)
    assert priced("gpt-4.1-mini", OPENAI, price=own).price == own
    free = priced("gpt-4.1-mini", OPENAI, price={})
    assert (free.has_price, compute_cost(Usage(1000, 1000), free.price)) == (True, 0.0)


@pytest.mark.parametrize(
    ("model", "url"), [("gpt-99-unheard-of", OPENAI), ("gpt-4.1-mini", "http://127.0.0.1:9/v1")]
)
def test_what_nobody_knows_the_price_of_counts_as_nothing_and_says_so(model: str, url: str):
    unknown = priced(model, url)
    assert (unknown.has_price, compute_cost(Usage(1000, 1000), unknown.price)) == (False, 0.0)


async def test_a_call_of_unknown_price_saves_nothing_that_could_be_shown(start: StartGateway, llm: Scripted):
    gateway = await one_llm(start, llm, price=None)
    _, headers, _ = await gateway.post("/chat/completions", LARGE)
    assert float(headers["x-smallfirst-cost-usd"]) == 0.0
    assert "x-smallfirst-saved-usd" not in headers
