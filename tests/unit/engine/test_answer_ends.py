"""A finished answer stays finished, an unfinished one is not, and a response ends soon after its answer."""

import json
from typing import Any

import pytest
from support.gateways import Gateway
from support.scripted_server import Reply, Scripted
from support.strategy_requests import assert_well_formed, chunks_of, text_of
from support.stream_changes import TRAILERS
from support.upstream_scripts import DONE, Event, chunk_of, openai_script, usage_of
from support.waiting import soon

ASK: dict[str, Any] = {"model": "test", "messages": [{"role": "user", "content": "Is ice cold?"}]}
WORDS = ["Ice", " is", " very", " cold", " to", " the", " touch."]
TEXT = "".join(WORDS)
ROLE, *WRITTEN, FINISH, USAGE, _ = openai_script(WORDS).events
MODELS = pytest.mark.parametrize("model", ["test", "large"], ids=["watched", "relayed"])
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


def stream_of(*events: Event) -> bytes:
    blocks = [
        event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() for event in events
    ]
    return b"".join(block + b"\n\n" for block in blocks)


def says(servers: tuple[Scripted, Scripted], model: str, raw: bytes, **more: Any) -> None:
    """The server that is asked first answers with these bytes; the other one says something else."""
    slm, llm = servers
    first, other = (slm, llm) if model == "test" else (llm, slm)
    first.says(Reply(raw=raw, **more))
    other.says("Something else.")


def text_in(raw: bytes, stream: bool) -> str:
    return text_of(raw) if stream else json.loads(raw)["choices"][0]["message"]["content"]


async def outcomes(gateway: Gateway, headers: dict[str, str]) -> list[str]:
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    return [call["outcome"] for call in exchange["calls"]]


@STREAMS
@MODELS
@pytest.mark.parametrize("then", ["end", "abort"])
@pytest.mark.parametrize(
    "trailer",
    [*TRAILERS, b"data: [DONE] ", b"data: [DONE]\n\ndata: [DONE]", b'data: {"choices":[],"error":null}', b""],
)
async def test_nothing_that_follows_undoes_a_finished_answer(
    gateway: Gateway, slm: Scripted, llm: Scripted, trailer: bytes, then: str, model: str, stream: bool
):
    says((slm, llm), model, stream_of(ROLE, *WRITTEN, FINISH, trailer), then=then)
    status, headers, raw = await gateway.post("/chat/completions", ASK | {"model": model, "stream": stream})
    assert (status, text_in(raw, stream)) == (200, TEXT)
    assert await outcomes(gateway, headers) == ["ok"]
    if stream:
        assert_well_formed(chunks_of(raw))


@MODELS
@pytest.mark.parametrize("blank", ["", "null"])
async def test_a_blank_finish_reason_is_none(
    gateway: Gateway, slm: Scripted, llm: Scripted, blank: str, model: str
):
    """The answer goes on after it, and a break is a lost answer, whose record replays."""
    words = [chunk | {"choices": [{**chunk["choices"][0], "finish_reason": blank}]} for chunk in WRITTEN]
    says((slm, llm), model, stream_of(ROLE, *words, FINISH, USAGE, DONE))
    _, _, raw = await gateway.post("/chat/completions", ASK | {"model": model, "stream": True})
    assert text_of(raw) == TEXT
    assert_well_formed(chunks_of(raw))
    says((slm, llm), model, stream_of(ROLE, *words[:3]), then="abort")
    status, headers, raw = await gateway.post("/chat/completions", ASK | {"model": model})
    assert (await outcomes(gateway, headers))[0] == "lost"
    assert (status, b"Something else." in raw) == ((200, True) if model == "test" else (502, False))


@pytest.mark.parametrize("then", ["end", "abort"])
async def test_several_choices_have_ended_when_the_last_one_has(gateway: Gateway, llm: Scripted, then: str):
    def choice(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "finish_reason": finish}

    def both(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
        return chunk_of({}) | {"choices": [a, b]}

    begun = [
        both(choice(0, {"role": "assistant", "content": "a"}), choice(1, {"content": "b"})),
        both(choice(0, {}, "stop"), choice(1, {"content": "b"})),
    ]
    body = ASK | {"model": "large", "n": 2, "stream": True}
    llm.says(Reply(raw=stream_of(*begun), then=then))
    status, headers, raw = await gateway.post("/chat/completions", body)
    assert await outcomes(gateway, headers) == ["lost"]
    llm.says(Reply(raw=stream_of(*begun, chunk_of({}) | {"choices": [choice(1, {}, "length")]}), then=then))
    status, headers, raw = await gateway.post("/chat/completions", body)
    assert (status, await outcomes(gateway, headers)) == (200, ["ok"])
    choices = [one["choices"][0] for one in chunks_of(raw)]
    for index, text, finish in ((0, "a", "stop"), (1, "bb", "length")):
        mine = [one for one in choices if one["index"] == index]
        assert "".join(one["delta"].get("content") or "" for one in mine) == text
        assert [one["finish_reason"] for one in mine if one["finish_reason"]] == [finish]
        assert [one["delta"].get("role") for one in mine].count("assistant") == 1


@MODELS
async def test_text_after_a_finish_reason_is_kept(gateway: Gateway, slm: Scripted, llm: Scripted, model: str):
    """Some servers finish each of several chunks. The last finish reason ends the answer."""
    words = [chunk | {"choices": [{**chunk["choices"][0], "finish_reason": "stop"}]} for chunk in WRITTEN]
    says((slm, llm), model, stream_of(ROLE, *words, DONE))
    _, _, raw = await gateway.post("/chat/completions", ASK | {"model": model, "stream": True})
    assert text_of(raw) == TEXT
    assert_well_formed(chunks_of(raw))


async def test_a_stream_that_ends_without_a_finish_reason_gets_one(gateway: Gateway, llm: Scripted):
    llm.says(Reply(raw=stream_of(ROLE, *WRITTEN, DONE)))
    _, _, raw = await gateway.post("/chat/completions", ASK | {"model": "large", "stream": True})
    chunks = chunks_of(raw)
    assert_well_formed(chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_a_stream_of_nothing_is_lost(gateway: Gateway, llm: Scripted):
    llm.says(Reply(raw=stream_of(DONE)))
    status, headers, _ = await gateway.post("/chat/completions", ASK | {"model": "large", "stream": True})
    assert (status, await outcomes(gateway, headers)) == (502, ["lost"])


@MODELS
@pytest.mark.parametrize("ending", [[FINISH, USAGE, DONE], [FINISH]], ids=["[DONE]", "finish"])
async def test_a_server_that_drips_comments_after_its_end_is_left(
    gateway: Gateway,
    slm: Scripted,
    llm: Scripted,
    model: str,
    ending: list[Event],
    monkeypatch: pytest.MonkeyPatch,
):
    """The grace is for all that follows, and not for each read."""
    monkeypatch.setattr("gateway.engine.streams.end_grace.FINISH_GRACE_S", 0.1)
    says((slm, llm), model, stream_of(ROLE, *WRITTEN, *ending), then="drip")
    post = gateway.post("/chat/completions", ASK | {"model": model, "stream": True})
    status, _, raw = await soon(post)
    assert (status, text_of(raw)) == (200, TEXT)


# Roles, usage and empty chunks of relayed streams.


async def relayed(gateway: Gateway, llm: Scripted, *events: Event, **more: Any) -> list[dict[str, Any]]:
    """The chunks that a client gets of these events; compact, as servers write them."""
    compact = [
        event if isinstance(event, bytes) else b"data: " + json.dumps(event, separators=(",", ":")).encode()
        for event in events
    ]
    llm.says(Reply(raw=stream_of(*compact)))
    _, _, raw = await gateway.post("/chat/completions", ASK | {"model": "large", "stream": True} | more)
    return chunks_of(raw)


async def test_a_role_in_every_chunk_is_relayed_once(gateway: Gateway, llm: Scripted):
    words = [chunk_of({"role": "assistant", "content": word}) for word in WORDS]
    chunks = await relayed(gateway, llm, ROLE, *words, FINISH, DONE)
    assert_well_formed(chunks)
    assert len(chunks) == len(WORDS) + 2


@pytest.mark.parametrize("wanted", [False, True])
async def test_usage_in_every_chunk_is_relayed_once(gateway: Gateway, llm: Scripted, wanted: bool):
    words = [chunk_of({"content": word}) | {"usage": usage_of(at)} for at, word in enumerate(WORDS, 1)]
    chunks = await relayed(gateway, llm, ROLE, *words, FINISH, DONE, stream_options={"include_usage": wanted})
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert usages == ([usage_of(len(WORDS))] if wanted else [])
    assert not any("usage" in chunk for chunk in chunks if chunk["choices"])


async def test_a_bare_usage_gets_the_answers_id(gateway: Gateway, llm: Scripted):
    bare = {"choices": [], "usage": usage_of(len(WORDS))}
    options = {"include_usage": True}
    chunks = await relayed(gateway, llm, ROLE, *WRITTEN, FINISH, bare, DONE, stream_options=options)
    assert chunks[-1]["usage"] == usage_of(len(WORDS))
    assert_well_formed(chunks)


async def test_continuous_usage_is_for_clients_that_ask_for_it(gateway: Gateway, llm: Scripted):
    words = [chunk_of({"content": word}) | {"usage": usage_of(at)} for at, word in enumerate(WORDS, 1)]
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = await relayed(gateway, llm, ROLE, *words, FINISH, USAGE, DONE, stream_options=options)
    counted = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")]
    assert counted == [*range(1, len(WORDS) + 1), len(WORDS)]


async def test_empty_chunks_are_not_relayed(gateway: Gateway, llm: Scripted):
    empty = [chunk_of({}), chunk_of({"content": ""}), chunk_of({}) | {"choices": []}]
    chunks = await relayed(gateway, llm, *empty, ROLE, *empty, *WRITTEN, *empty, FINISH, *empty, DONE)
    assert_well_formed(chunks)
    assert len(chunks) == len(WORDS) + 2


async def test_what_a_chunk_has_beside_text_is_relayed_as_it_came(gateway: Gateway, llm: Scripted):
    """A plain chunk, one with other fields, and one with digits that no float holds."""
    others = [
        chunk_of({"reasoning_content": "hm"}),
        chunk_of({"content": "", "audio": {"id": 1}}),
        chunk_of({"content": "a"}, score=123456789012345678901234567890),
    ]
    chunks = await relayed(gateway, llm, ROLE, *WRITTEN, *others, FINISH, DONE)
    assert chunks[1:-1] == [*WRITTEN, *others]


# Either framing for either request.


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
@MODELS
async def test_json_in_answer_to_a_stream(
    gateway: Gateway, slm: Scripted, llm: Scripted, model: str, content_type: str
):
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    if model == "test":
        content = [entry for chunk in WRITTEN for entry in chunk["choices"][0]["logprobs"]["content"]]
        choice["logprobs"] = {"content": content}
    whole = chunk_of({}) | {"object": "chat.completion", "choices": [choice], "usage": usage_of(7)}
    raw = json.dumps(whole, indent=2).encode()
    says((slm, llm), model, b"\n" + raw, content_type=content_type)
    body = ASK | {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    status, headers, answer = await gateway.post("/chat/completions", body)
    chunks = chunks_of(answer)
    assert (status, text_of(answer), chunks[-1]["usage"]) == (200, TEXT, usage_of(7))
    assert_well_formed(chunks)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len(chunks) == (2 if model == "large" else 3)  # what was watched ends apart from its text
    assert await outcomes(gateway, headers) == ["ok"]


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
async def test_a_stream_in_answer_to_a_plain_request(gateway: Gateway, llm: Scripted, content_type: str):
    llm.says(Reply(raw=stream_of(ROLE, *WRITTEN, FINISH, USAGE, DONE), content_type=content_type))
    status, headers, raw = await gateway.post("/chat/completions", ASK | {"model": "large"})
    answer = json.loads(raw)
    (choice,) = answer["choices"]
    assert (status, answer["object"], answer["usage"]) == (200, "chat.completion", usage_of(7))
    assert (choice["message"]["content"], choice["finish_reason"]) == (TEXT, "stop")
    assert len(choice["logprobs"]["content"]) == len(WORDS)
    assert await outcomes(gateway, headers) == ["ok"]


async def test_a_stream_in_answer_to_a_plain_request_may_never_close(gateway: Gateway, llm: Scripted):
    llm.says(Reply(raw=stream_of(ROLE, *WRITTEN, FINISH, DONE), then="hang"))
    status, _, raw = await soon(gateway.post("/chat/completions", ASK | {"model": "large"}), 10)
    assert (status, text_in(raw, False)) == (200, TEXT)


@pytest.mark.parametrize("stream", [False, True])
async def test_either_framing_of_a_completion(gateway: Gateway, llm: Scripted, stream: bool):
    choice = {"index": 0, "text": TEXT, "finish_reason": "stop"}
    whole = {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
    raw = stream_of(whole, DONE) if not stream else json.dumps(whole).encode()
    llm.says(Reply(raw=raw))
    body = {"model": "large", "prompt": "Ice", "stream": stream}
    status, _, answer = await gateway.post("/completions", body)
    (one,) = chunks_of(answer) if stream else [json.loads(answer)]
    assert (status, one["choices"][0]["text"], one["choices"][0]["finish_reason"]) == (200, TEXT, "stop")
