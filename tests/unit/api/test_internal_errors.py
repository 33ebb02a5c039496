"""Whatever fails unexpectedly, at whichever endpoint, ends as an internal error: told, logged, counted once."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi.responses import StreamingResponse
from support.gateways import Gateway, StartGateway, settings_of, upstream
from support.judge_replies import said
from support.scripted_server import Scripted

from gateway.engine.engine import AccountedFault, Engine
from gateway.engine.runner import run_fragment
from gateway.exchange.exchange import Exchange
from policies.schema.policy import Policy
from routers import router
from routers.strategies.direct import Direct

MESSAGES = [{"role": "user", "content": "Hi"}]
INTERNAL = {
    "message": "the gateway failed; see its log",
    "type": "api_error",
    "param": None,
    "code": "internal_error",
}


class Defective(Direct):
    """Fails as a request is opened, before there is an exchange."""

    @property
    def reads_features(self) -> bool:
        raise RuntimeError("a defect of ours")


DEFECTIVE = Policy(name="defective", description="x", router=Defective(tier="slm"))


@pytest.fixture
async def defective(start: StartGateway, slm: Scripted) -> Gateway:
    gateway: Gateway = await start(settings_of(upstream(slm, "slm")), [DEFECTIVE])

    async def broken() -> None:
        raise RuntimeError("a defect of ours")

    async def breaking_off(media_type: str) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            raise RuntimeError("a defect of ours")

        return StreamingResponse(parts(), media_type=media_type)

    gateway.app.add_api_route("/broken/{anything:path}", broken)
    gateway.app.add_api_route("/breaking_off", breaking_off)
    return gateway


async def failures(gateway: Gateway) -> list[str]:
    """The endpoints of the requests that are counted as failed here."""
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        lines = (await response.text()).splitlines()
    found = []
    for line in lines:
        if line.startswith("smallfirst_requests_total") and 'reason="internal_error"' in line:
            assert 'status="500"' in line
            found += [line.partition('endpoint="')[2].partition('"')[0]] * int(float(line.split()[-1]))
    return found


BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": MESSAGES},
    "completions": {"prompt": "Hi"},
    "responses": {"input": "Hi"},
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_hot_endpoint_that_fails_says_so(
    defective: Gateway, path: str, stream: bool, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.ERROR):
        body = {"model": "defective", "stream": stream, **BODIES[path]}
        status, headers, raw = await defective.post(f"/{path}", body)
    assert (status, headers["content-type"]) == (500, "application/json")
    assert json.loads(raw) == {"error": INTERNAL}
    assert "a defect of ours" in caplog.text
    assert "Traceback" in caplog.text
    assert await failures(defective) == [path.removesuffix("/completions")]


async def test_any_other_endpoint_that_fails_says_the_same(
    defective: Gateway, caplog: pytest.LogCaptureFixture
):
    for anything in ("one", "two"):  # its name in metrics is the route's, not the client's
        async with defective.http.get(f"{defective.root}/broken/{anything}") as response:
            assert (response.status, response.headers["content-type"]) == (500, "application/json")
            assert await response.json() == {"error": INTERNAL}
    assert await failures(defective) == ["broken", "broken"]
    assert caplog.text.count("Traceback") == 2


async def test_a_stream_that_fails_in_its_midst_ends_with_an_error_event(
    defective: Gateway, caplog: pytest.LogCaptureFixture
):
    url = f"{defective.root}/breaking_off?media_type=text/event-stream"
    async with defective.http.get(url) as response:
        first, second, rest = (await response.read()).split(b"\n\n")
    assert (first, rest) == (b"data: 1", b"")
    assert json.loads(second.removeprefix(b"data: ")) == {"error": INTERNAL}
    assert await failures(defective) == ["breaking_off"]


async def test_another_response_that_fails_in_its_midst_is_never_taken_for_whole(
    defective: Gateway, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(Exception, match=r"not completed|disconnected|TransferEncoding"):
        async with defective.http.get(f"{defective.root}/breaking_off?media_type=text/plain") as response:
            await response.read()
    assert await failures(defective) == ["breaking_off"]


async def test_work_for_an_exchange_that_fails_is_counted_with_its_exchange():
    over: list[Exchange] = []
    engine = Engine({}, leave=over.append)
    exchange = Exchange("chat", "chat", DEFECTIVE, {}, b"", router.Request(), None, aside="evaluate")

    def fragment() -> Any:
        raise RuntimeError("a defect of ours")
        yield

    with pytest.raises(AccountedFault) as raised:
        await engine.perform(exchange, run_fragment(fragment()))
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert over == [exchange]
    assert (exchange.status, exchange.error) == (500, "internal_error")


async def test_an_evaluation_that_fails_is_counted_once(start: StartGateway, slm: Scripted, llm: Scripted):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")))
    gateway.upstream("slm").price = None  # type: ignore[assignment]  a defect: nothing can be accounted
    slm.says(said(yes=0.6, no=0.2))
    status, _, raw = await gateway.post(
        "/evaluate", {"input": "Hi", "output": "Hi", "evaluators": ["verify"]}
    )
    assert (status, json.loads(raw)) == (500, {"error": INTERNAL})
    assert await failures(gateway) == ["evaluate"]
