"""What a server turns out not to take: it is asked again without it, or somebody else is."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from support.gateways import Gateway, StartGateway, settings_of, simple_calibrator, simple_policy, upstream
from support.scripted_server import Reply, Scripted, scripted
from support.strategy_requests import ASK, SENTENCE, figures_of, policy, text_of
from support.waiting import until

from policies.schema.policy import Policy
from routers.strategies.direct import Direct

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CUSTOM = {"type": "custom", "custom": {"name": "run"}}
USAGE = {"include_usage": True}

REFUSALS = [
    Reply(status=400, body={"error": {"message": "Unrecognized request argument supplied: stream_options"}}),
    Reply(
        status=422,
        body={"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "x"}]},
    ),
    Reply(status=500, body="unexpected keyword argument 'stream_options'"),
]


class Refusing(Scripted):
    """Refuses `stream_options` as `refusal` says."""

    refusal = REFUSALS[0]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if "stream_options" not in body:
            return await super().answer(request)
        self.requests.append(body)
        return self._fixed(self.refusal)


def cascade(engine: str = "openai") -> Policy:
    return simple_policy(calibrator=simple_calibrator(engine=engine))


RELAYED = policy(Direct(tier="slm", fallback=False)).replace(name="relayed")


@pytest.fixture
async def refusing(start: StartGateway, llm: Scripted) -> Any:
    async with scripted("small", Refusing) as server:
        yield server


async def pair(start: StartGateway, slm: Scripted, llm: Scripted, **more: Any) -> Gateway:
    settings = settings_of(upstream(slm, "slm", **more), upstream(llm, "llm"))
    return await start(settings, [cascade(more.get("engine", "openai")), RELAYED])


@pytest.mark.parametrize("model", ["test", "relayed"])
@pytest.mark.parametrize("refusal", REFUSALS, ids=["400", "422", "500"])
async def test_a_server_that_refuses_stream_options_is_asked_without_them_from_then_on(
    start: StartGateway, refusing: Refusing, llm: Scripted, refusal: Reply, model: str
):
    gateway = await pair(start, refusing, llm)
    refusing.refusal = refusal
    refusing.says(SENTENCE)
    for count in (2, 3, 4):
        _, _, raw = await gateway.post("/chat/completions", ASK | {"model": model, "stream": True})
        assert text_of(raw) == SENTENCE
        assert len(refusing.requests) == count
        found = await gateway.exchange(figures_of(raw)["id"])
        assert [(call["outcome"], call["estimated"]) for call in found["calls"]] == [("ok", True)]
    assert [one.get("stream_options") for one in refusing.requests] == [USAGE, None, None, None]
    assert llm.requests == []
    assert gateway.upstream("slm").is_up


async def test_a_value_of_the_clients_own_is_not_remembered(
    start: StartGateway, refusing: Refusing, llm: Scripted
):
    gateway = await pair(start, refusing, llm)
    own = {"include_usage": True, "include_obfuscation": False}
    body = ASK | {"model": "relayed", "stream": True}
    assert (await gateway.post("/chat/completions", body | {"stream_options": own}))[0] == 200
    assert (await gateway.post("/chat/completions", body))[0] == 200
    assert [one.get("stream_options") for one in refusing.requests] == [own, None, USAGE, None]
    assert (await gateway.post("/chat/completions", body | {"stream_options": {"x": 1}}))[
        0
    ] == 200  # it is known now that the server takes none


async def test_an_unknown_option_is_the_servers_to_refuse(
    start: StartGateway, refusing: Refusing, llm: Scripted
):
    gateway = await pair(start, refusing, llm)
    body = ASK | {"model": "relayed", "stream": True, "stream_options": {"x": 1}}
    status, _, raw = await gateway.post("/chat/completions", body)
    assert (status, len(refusing.requests)) == (400, 1)
    assert b"stream_options" in raw


async def test_other_refusals_are_not_repeated(start: StartGateway, slm: Scripted, llm: Scripted):
    gateway = await pair(start, slm, llm)
    slm.says(Reply(status=400, body={"error": {"message": "temperature is too high"}}))
    status, _, _ = await gateway.post("/chat/completions", ASK | {"model": "relayed", "stream": True})
    assert (status, len(slm.requests)) == (400, 1)


@pytest.fixture
def llamacpp(slm: Scripted) -> Scripted:
    slm.llamacpp, slm.shows_tools = True, False
    return slm


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_that_a_template_leaves_out_go_to_the_large_model(
    start: StartGateway, llamacpp: Scripted, llm: Scripted, stream: bool
):
    gateway = await pair(start, llamacpp, llm, engine="llamacpp")
    await gateway.post("/chat/completions", ASK)
    assert (len(llamacpp.requests), llamacpp.looks) == (1, [])
    for _ in range(2):
        status, headers, _ = await gateway.post(
            "/chat/completions", ASK | {"tools": [TOOL], "stream": stream}
        )
        assert (status, headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == (
            200,
            "llm",
            "not_capable",
        )
    assert llamacpp.looks == ["/apply-template"] * 2  # without and with tools, once
    assert (len(llamacpp.requests), len(llm.requests)) == (1, 2)


async def test_alone_it_says_so(start: StartGateway, llamacpp: Scripted):
    gateway = await start(settings_of(upstream(llamacpp, "slm", engine="llamacpp")))
    status, _, raw = await gateway.post("/chat/completions", ASK | {"model": "small", "tools": [TOOL]})
    error = json.loads(raw)["error"]
    assert (status, error["code"]) == (400, "not_supported")
    assert "tools (the model's chat template leaves them out)" in error["message"]
    assert llamacpp.requests == []
    assert (await gateway.post("/chat/completions", ASK | {"model": "small"}))[0] == 200


async def test_tools_that_a_template_shows_stay(start: StartGateway, llamacpp: Scripted, llm: Scripted):
    llamacpp.shows_tools = True
    gateway = await pair(start, llamacpp, llm, engine="llamacpp")
    llamacpp.says(Reply(calls=[("look", "{}")]))
    _, headers, _ = await gateway.post("/chat/completions", ASK | {"tools": [TOOL]})
    assert headers["x-smallfirst-route"] == "slm"


async def test_who_declares_it_is_believed(start: StartGateway, llamacpp: Scripted, llm: Scripted):
    gateway = await pair(start, llamacpp, llm, engine="llamacpp", capabilities={"tools": True})
    await gateway.post("/chat/completions", ASK | {"model": "relayed", "tools": [TOOL]})
    assert (llamacpp.looks, len(llamacpp.requests)) == ([], 1)


async def test_a_server_that_does_not_tell_gets_tools(start: StartGateway, slm: Scripted, llm: Scripted):
    gateway = await pair(start, slm, llm, engine="llamacpp")
    slm.says(Reply(status=404), "Cold.")
    for _ in range(2):
        await gateway.post("/chat/completions", ASK | {"model": "relayed", "tools": [TOOL]})
    assert slm.paths == ["/apply-template", "/v1/chat/completions", "/v1/chat/completions"]


async def test_a_server_that_refuses_tools_in_its_template_has_none(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await pair(start, slm, llm, engine="llamacpp")
    slm.says(Reply(body={"prompt": "Hi"}), Reply(status=500, body={"error": {"message": "needs --jinja"}}))
    _, headers, _ = await gateway.post("/chat/completions", ASK | {"tools": [TOOL]})
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "not_capable")
    assert gateway.upstream("slm").is_up


async def test_a_server_that_could_not_be_asked_is_asked_at_the_next_request(
    start: StartGateway, llamacpp: Scripted
):
    engine = upstream(llamacpp, "slm", engine="llamacpp", url="http://127.0.0.1:9/v1")
    gateway = await start(settings_of(engine))
    status, _, _ = await gateway.post("/chat/completions", ASK | {"model": "small", "tools": [TOOL]})
    assert status == 503
    assert gateway.upstream("slm").doubts_tools


NO_PARSER = Reply(
    status=400,
    body={
        "error": {
            "message": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        }
    },
)
"""The words of vLLM 0.32."""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["test", "home-first"])
async def test_a_vllm_that_parses_no_tool_calls_is_asked_for_none_from_then_on(
    start: StartGateway, slm: Scripted, llm: Scripted, model: str, stream: bool
):
    home_first = policy(Direct(tier="slm", fallback=True)).replace(name="home-first")
    settings = settings_of(upstream(slm, "slm", engine="vllm"), upstream(llm, "llm"))
    gateway = await start(settings, [cascade("vllm"), home_first])
    slm.says(NO_PARSER, "Cold.")
    body = ASK | {"model": model, "tools": [TOOL], "stream": stream}
    for _ in range(2):
        status, headers, raw = await gateway.post("/chat/completions", body)
        assert (status, headers["x-smallfirst-route"]) == (200, "llm"), raw
    assert (headers["x-smallfirst-reason"], len(slm.requests), len(llm.requests)) == ("not_capable", 1, 2)
    assert gateway.upstream("slm").is_up
    assert (await gateway.post("/chat/completions", ASK | {"model": "home-first"}))[0] == 200
    assert len(slm.requests) == 2


async def test_alone_it_says_that_it_lacks_the_options(start: StartGateway, slm: Scripted):
    gateway = await start(settings_of(upstream(slm, "slm", engine="vllm")))
    slm.says(NO_PARSER)
    for _ in range(2):
        status, _, raw = await gateway.post("/chat/completions", ASK | {"model": "offline", "tools": [TOOL]})
        error = json.loads(raw)["error"]
        assert (status, error["code"]) == (400, "not_supported")
        assert "started without vLLM's options --enable-auto-tool-choice" in error["message"]
    assert len(slm.requests) == 1


async def test_what_is_learned_while_a_call_waits_counts_when_it_leaves(start: StartGateway, slm: Scripted):
    gateway = await start(settings_of(upstream(slm, "slm", limits={"in_flight": 1})))
    engine, gate = gateway.upstream("slm"), asyncio.Event()
    slm.says(Reply("Cold.", gate=gate))
    first = asyncio.create_task(gateway.post("/chat/completions", ASK | {"model": "small"}))
    await slm.holding.wait()
    second = asyncio.create_task(gateway.post("/chat/completions", ASK | {"model": "small", "tools": [TOOL]}))
    await until(lambda: engine.waiting == 1)
    engine.lose_capability("tools", "the model's chat template leaves them out")
    gate.set()
    assert (await first)[0] == 200
    status, _, raw = await second
    assert (status, json.loads(raw)["error"]["code"]) == (400, "not_supported")
    assert (len(slm.requests), engine.load) == (1, 0)


@pytest.mark.parametrize("engine", ["llamacpp", "vllm", "mistral", "deepseek"])
async def test_custom_tools_go_to_nobody_who_has_none(
    start: StartGateway, slm: Scripted, llm: Scripted, engine: str
):
    first = upstream(slm, "slm", engine=engine)
    gateway = await start(settings_of(first, upstream(llm, "llm")), [policy(Direct(tier="slm"))])
    _, headers, _ = await gateway.post("/chat/completions", ASK | {"tools": [CUSTOM]})
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "not_capable")
    assert llm.requests[0]["tools"] == [CUSTOM]
    alone = await start(settings_of(first))
    status, _, raw = await alone.post("/chat/completions", ASK | {"model": "small", "tools": [TOOL, CUSTOM]})
    assert (status, json.loads(raw)["error"]["code"]) == (400, "not_supported")
    assert "custom_tools" in json.loads(raw)["error"]["message"]
    assert not [body for body in slm.requests if "model" in body and body.get("tools") == [CUSTOM]]
