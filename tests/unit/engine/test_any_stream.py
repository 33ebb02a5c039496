"""Whatever servers send in answer to a chat or a prompt, clients get one well-formed answer or one clean error, the
account says what was sent, every record replays, and only faults of a server open its breaker."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from hypothesis import event, given
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from support.gateways import Gateway, gateway_of, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted, scripted
from support.stream_changes import relayed_scripts, scripts
from support.upstream_scripts import PROMPT_TOKENS, Script

from gateway.upstreams.resilience.breaker import FAILURES_TO_OPEN

ASKS: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "Is ice cold?"}]},
    "completions": {"prompt": "Is ice cold?"},
}
GOES_ON = "length"
"""Stands in for no finish reason in a chunk of completions."""
PATHS = {"chat": "/chat/completions", "completions": "/completions"}
USAGE = {"stream_options": {"include_usage": True}}


class Got(NamedTuple):
    """What a client got: an answer's text and tool calls, and the completion's tokens if it was told; or an error's
    code. All choices of a whole answer are the same."""

    status: int
    text: str
    tools: list[tuple[str, str]]
    tokens: int | None
    code: str | None
    calls: list[dict[str, Any]]


def read_stream(raw: bytes, script: Script) -> tuple[str, list[tuple[str, str]], int | None, str | None]:
    """Return a stream's text, tool calls, usage and error, and check that it is well formed."""
    events = [json.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: {")]
    ends_well = raw.endswith(b"data: [DONE]\n\n")
    code = None if ends_well else events.pop()["error"]["code"]
    assert raw.count(b"data: [DONE]") == ends_well
    kind = ChatCompletionChunk if script.endpoint == "chat" else Completion
    chunks: list[Any] = [kind.model_validate(one, strict=True) for one in map(accept_null_finish, events)]
    assert len({chunk.id for chunk in chunks}) <= 1
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) <= ends_well
    assert not any(chunk.usage for chunk in chunks if chunk.choices)
    by_choice: dict[int, list[Any]] = {}
    for choice in [choice for chunk in chunks for choice in chunk.choices]:
        by_choice.setdefault(choice.index, []).append(choice)
    read = read_chat_choice if script.endpoint == "chat" else read_text_choice
    answers = [read(choices, ends_well) for choices in by_choice.values()] or [("", [])]
    if ends_well:
        assert [*by_choice] == [*range(script.choices)]
        assert answers == [answers[0]] * script.choices
    return *answers[0], usages[0].completion_tokens if usages else None, code


def accept_null_finish(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as OpenAI's own type takes it: that of completions knows no choice that goes on."""
    if event["object"] != "text_completion":
        return event
    choices = [choice | {"finish_reason": choice["finish_reason"] or GOES_ON} for choice in event["choices"]]
    return event | {"choices": choices}


def read_chat_choice(choices: list[Any], ends_well: bool) -> tuple[str, list[tuple[str, str]]]:
    assert [choice.delta.role for choice in choices].count("assistant") == 1
    check_finishes([choice.finish_reason for choice in choices], ends_well)
    for choice in choices[1:]:  # the first names the role
        assert choice.delta.content or choice.delta.tool_calls or choice.finish_reason
    tools: dict[int, list[str]] = {}
    for delta in [delta for choice in choices for delta in choice.delta.tool_calls or ()]:
        name, arguments = tools.get(delta.index, ["", ""])
        tools[delta.index] = [
            name + (delta.function.name or ""),
            arguments + (delta.function.arguments or ""),
        ]
    text = "".join(choice.delta.content or "" for choice in choices)
    return text, [(name, arguments) for name, arguments in tools.values()]


def read_text_choice(choices: list[Any], ends_well: bool) -> tuple[str, list[tuple[str, str]]]:
    finishes = [None if choice.finish_reason == GOES_ON else choice.finish_reason for choice in choices]
    check_finishes(finishes, ends_well)
    for choice, finish in [*zip(choices, finishes, strict=True)][1:]:
        assert choice.text or finish
    return "".join(choice.text for choice in choices), []


def check_finishes(finishes: list[str | None], ends_well: bool) -> None:
    """Check that an answer is finished at its end, and once."""
    given = [finish for finish in finishes if finish]
    assert given == ([finishes[-1]] if ends_well else given[:1])


def read_plain(raw: bytes, script: Script) -> tuple[str, list[tuple[str, str]], int | None]:
    kind = ChatCompletion if script.endpoint == "chat" else Completion
    answer: Any = kind.model_validate(json.loads(raw), strict=True)
    assert [choice.index for choice in answer.choices] == [*range(script.choices)]
    answers = [read_plain_choice(choice) for choice in answer.choices]
    assert answers == [answers[0]] * script.choices
    return *answers[0], answer.usage.completion_tokens if answer.usage else None


def read_plain_choice(choice: Any) -> tuple[str, list[tuple[str, str]]]:
    assert choice.finish_reason
    if not hasattr(choice, "message"):
        return choice.text, []
    calls = [call.function for call in choice.message.tool_calls or ()]
    return choice.message.content or "", [(function.name, function.arguments) for function in calls]


async def ask(gateway: Gateway, model: str, script: Script, *, stream: bool) -> Got:
    body = ASKS[script.endpoint] | {"model": model} | ({"stream": True} | USAGE if stream else {})
    if script.choices > 1:
        body["n"] = script.choices
    status, headers, raw = await gateway.post(PATHS[script.endpoint], body)
    calls = (await gateway.exchange(headers["x-smallfirst-id"]))["calls"]
    if status != 200:
        error = json.loads(raw)["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return Got(status, "", [], None, error["code"], calls)
    if stream:
        return Got(status, *read_stream(raw, script), calls)
    return Got(status, *read_plain(raw, script), None, calls)


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
            got = await ask(gateway, "large", script, stream=bool(number % 2))
            check_relayed(script, got, twin)
        assert gateway.upstream("llm").breaker.is_open == script.is_fault


async def ask_twin(gateway: Gateway, llm: Scripted, script: Script) -> Got | None:
    """Return what the client gets if the server reports the script's error with its status."""
    if not script.error or not script.status:
        return None
    llm.says(Reply(status=script.status, body={"error": script.error}))
    twin = await ask(gateway, "large", script, stream=False)
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
            got = await ask(gateway, "test", script, stream=stream)
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


@given(relayed_scripts())
def test_any_relayed_answer_is_well_formed_or_one_clean_error(script: Script):
    event("whole" if script.is_whole else "reports an error" if script.error else "breaks off")
    asyncio.run(ask_relayed(script))


@given(scripts())
def test_any_watched_answer_is_well_formed_or_one_clean_error(script: Script):
    event("whole" if script.is_whole else "reports an error" if script.error else "breaks off")
    asyncio.run(ask_watched(script))
