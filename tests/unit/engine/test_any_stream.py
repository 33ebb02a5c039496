"""Whatever servers send in answer to a chat, clients get one well-formed answer or one clean error, the account says
what was sent, every record replays, and only faults of a server open its breaker."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from hypothesis import event, given
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from support.gateways import Gateway, gateway_of, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted, scripted
from support.stream_changes import scripts
from support.upstream_scripts import PROMPT_TOKENS, Script

from gateway.upstreams.resilience.breaker import FAILURES_TO_OPEN

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Is ice cold?"}]}
USAGE = {"stream_options": {"include_usage": True}}


class Got(NamedTuple):
    """What a client got: an answer's text and tool calls, and the completion's tokens if it was told; or an error's
    code."""

    status: int
    text: str
    tools: list[tuple[str, str]]
    tokens: int | None
    code: str | None
    calls: list[dict[str, Any]]


def read_stream(raw: bytes) -> tuple[str, list[tuple[str, str]], int | None, str | None]:
    """Return a stream's text, tool calls, usage and error, and check that it is well formed."""
    events = [json.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: {")]
    ends_well = raw.endswith(b"data: [DONE]\n\n")
    code = None if ends_well else events.pop()["error"]["code"]
    assert raw.count(b"data: [DONE]") == ends_well
    chunks = [ChatCompletionChunk.model_validate(one, strict=True) for one in events]
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert len({chunk.id for chunk in chunks}) <= 1
    assert [choice.delta.role for choice in choices].count("assistant") == bool(choices)
    finishes = [choice.finish_reason for choice in choices]
    assert [one for one in finishes if one] == ([finishes[-1]] if ends_well else [])
    for choice in choices[1:]:  # the first names the role
        assert choice.delta.content or choice.delta.tool_calls or choice.finish_reason
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) <= ends_well
    assert not any(chunk.usage for chunk in chunks if chunk.choices)
    text = "".join(choice.delta.content or "" for choice in choices)
    tools: dict[int, list[str]] = {}
    for delta in [delta for choice in choices for delta in choice.delta.tool_calls or ()]:
        assert delta.function
        name, arguments = tools.get(delta.index, ["", ""])
        tools[delta.index] = [
            name + (delta.function.name or ""),
            arguments + (delta.function.arguments or ""),
        ]
    called = [(name, arguments) for name, arguments in tools.values()]
    return text, called, usages[0].completion_tokens if usages else None, code


def read_plain(raw: bytes) -> tuple[str, list[tuple[str, str]], int | None]:
    answer = ChatCompletion.model_validate(json.loads(raw), strict=True)
    (choice,) = answer.choices
    assert choice.finish_reason
    calls = [call.function for call in choice.message.tool_calls or ()]
    tools = [(function.name, function.arguments) for function in calls]
    return choice.message.content or "", tools, answer.usage.completion_tokens if answer.usage else None


async def ask(gateway: Gateway, model: str, *, stream: bool) -> Got:
    body = ASK | {"model": model} | ({"stream": True} | USAGE if stream else {})
    status, headers, raw = await gateway.post("/chat/completions", body)
    calls = (await gateway.exchange(headers["x-smallfirst-id"]))["calls"]
    if status != 200:
        error = json.loads(raw)["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return Got(status, "", [], None, error["code"], calls)
    if stream:
        return Got(status, *read_stream(raw), calls)
    return Got(status, *read_plain(raw), None, calls)


def reply_with(script: Script) -> Reply:
    """A body that breaks off says what it is: what claims to be JSON is read whole."""
    content_type = script.content_type if script.then == "end" else "text/event-stream"
    raw = script.encode()
    cuts = [round(share * len(raw)) for share in script.cuts]
    return Reply(raw=raw, then=script.then, content_type=content_type, cuts=cuts)


async def ask_relayed(script: Script) -> None:
    """The large model answers alone, often enough to open its breaker."""
    async with scripted("large") as llm, run(upstream(llm, "llm")) as gateway:
        twin = await ask_twin(gateway, llm, script)
        llm.says(reply_with(script))
        for number in range(FAILURES_TO_OPEN):
            got = await ask(gateway, "large", stream=bool(number % 2))
            check_relayed(script, got, twin)
        assert gateway.upstream("llm").breaker.is_open == script.is_fault


async def ask_twin(gateway: Gateway, llm: Scripted, script: Script) -> Got | None:
    """Return what the client gets if the server reports the script's error with its status."""
    if not script.error or not script.status:
        return None
    llm.says(Reply(status=script.status, body={"error": script.error}))
    twin = await ask(gateway, "large", stream=False)
    gateway.upstream("llm").breaker.record_success()
    return twin


def check_relayed(script: Script, got: Got, twin: Got | None) -> None:
    (call,) = got.calls
    if script.is_whole:
        assert (got.status, got.text, got.code, call["outcome"]) == (200, script.text, None, "ok")
        assert (got.tools, got.tokens) == ([*script.calls], script.usage)
        reported = (PROMPT_TOKENS, script.usage, False)
        if script.usage is not None:
            assert (call["prompt_tokens"], call["completion_tokens"], call["estimated"]) == reported
        else:
            assert call["estimated"]
        return
    assert got.code is not None
    assert script.text.startswith(got.text)
    if twin is None:
        assert call["outcome"] in ("lost", "garbage")
        assert got.status in (200, 502)
    else:
        assert (got.code, call["outcome"]) == (twin.code, twin.calls[0]["outcome"])
        assert got.status in (200, twin.status)


async def ask_watched(script: Script) -> None:
    """The small model's answer is watched, and the large one answers if that fails."""
    async with (
        scripted("small") as slm,
        scripted("large") as llm,
        run(upstream(slm, "slm"), upstream(llm, "llm")) as gateway,
    ):
        llm.says("Fine.")
        slm.says(reply_with(script))
        for stream in (False, True):
            got = await ask(gateway, "test", stream=stream)
            if script.is_whole:
                assert (got.status, got.code) == (200, None)
                assert got.text in (script.text, "Fine.")
            elif got.code is None:
                assert got.text.endswith("Fine.")
        assert (gateway.upstream("slm").breaker._failures > 0) == script.is_fault


def run(*upstreams: dict[str, Any]) -> Any:
    return _Running(upstreams)


class _Running:
    """A gateway that proves, when it ends, that every record replays."""

    def __init__(self, upstreams: tuple[dict[str, Any], ...]) -> None:
        self._upstreams = upstreams
        self._folder = tempfile.TemporaryDirectory()

    async def __aenter__(self) -> Gateway:
        folder = Path(self._folder.name)
        self._context = gateway_of(settings_of(*self._upstreams), folder, [simple_policy()])
        served = await self._context.__aenter__()
        self._http = aiohttp.ClientSession()
        self._gateway = Gateway(served, self._http)
        return self._gateway

    async def __aexit__(self, *error: Any) -> None:
        await self._gateway.client.close()
        await self._http.close()
        await self._context.__aexit__(*error)
        self._folder.cleanup()


@given(scripts())
def test_any_relayed_answer_is_well_formed_or_one_clean_error(script: Script):
    event("whole" if script.is_whole else "reports an error" if script.error else "breaks off")
    asyncio.run(ask_relayed(script))


@given(scripts())
def test_any_watched_answer_is_well_formed_or_one_clean_error(script: Script):
    event("whole" if script.is_whole else "reports an error" if script.error else "breaks off")
    asyncio.run(ask_watched(script))
