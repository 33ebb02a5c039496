"""Texts of an upstream's answer pass filters, however its bytes are cut."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.skills.answer_rewriter import RewrittenResponse
from gateway.skills.transforms import UnusableAnswer, encode_request, wrap_response
from gateway.upstreams.transport.transport import TransportError


class Told:
    """A response whose body comes in given pieces."""

    status = 200

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.closed = False

    @property
    def headers(self) -> Mapping[str, str]:
        return {"content-type": "text/event-stream"}

    async def read(self, limit: int = 0) -> bytes:
        return b"".join(self._pieces)

    async def next(self, gap: float | None = None) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def close(self) -> None:
        self.closed = True


class Swap:
    """Replaces `[cat]` by `[dog & co]`, and holds back what may become one."""

    def __init__(self, was: str = "[cat]", now: str = "[dog & co]") -> None:
        self._was, self._now, self._held = was, now, ""

    @property
    def has_pending_text(self) -> bool:
        return bool(self._held)

    def feed(self, text: str) -> str:
        text = (self._held + text).replace(self._was, self._now)
        size = next((n for n in range(len(self._was) - 1, 0, -1) if text.endswith(self._was[:n])), 0)
        self._held = text[len(text) - size :]
        return text[: len(text) - size]

    def flush(self) -> str:
        held, self._held = self._held, ""
        return held


class Refuse(Swap):
    def feed(self, text: str) -> str:
        raise UnusableAnswer("leak", "it tells too much")


class Both:
    """A transform of bodies and of answers."""

    def rewrite_request(self, upstream: Any, body: dict[str, Any]) -> dict[str, Any]:
        return body | {"seen_by": upstream}

    def build_answer_filter(self, upstream: Any, *, json: bool) -> Swap | None:
        return None if json else Swap()


def swapping(json: bool) -> Sequence[Swap]:
    return [Swap()]


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": {"content": [{"token": "t"}]}}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


class Dripping(Told):
    """Goes on with comments after its pieces."""

    async def next(self, gap: float | None = None) -> bytes:
        return await super().next(gap) or b": still here\n\n"


async def test_comments_do_not_prolong_a_wait():
    response = RewrittenResponse(Dripping(chunk({"content": "a"}, "stop")), swapping)
    assert b'"a"' in await response.next(5.0)
    with pytest.raises(TransportError, match="in time"):
        await response.next(0.02)


async def test_a_blank_finish_reason_ends_no_text():
    pieces = [chunk({"content": "[ca"}, ""), chunk({"content": "t]"}, "null"), chunk({}, "stop")]
    chunks = await all_of(RewrittenResponse(Told(*pieces, b"data: [DONE] \n\n"), swapping))
    assert text_of(chunks) == "[dog & co]"


async def test_json_is_rewritten_for_a_stream():
    message = {"role": "assistant", "content": "a [cat]"}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    raw = json.dumps(whole, indent=1).encode()
    response = RewrittenResponse(Told(raw[:9], raw[9:]), swapping)
    block = await response.next()
    assert json.loads(block.removeprefix(b"data: "))["choices"][0]["message"]["content"] == "a [dog & co]"
    assert await response.next() == b""


async def test_a_stream_is_rewritten_for_a_plain_request():
    raw = chunk({"content": "[ca"}) + chunk({"content": "t]"}, "stop") + b"data: [DONE]\n\n"
    body = await RewrittenResponse(Told(raw), swapping).read()
    assert await all_of(RewrittenResponse(Told(body), lambda json: []))
    assert b"[dog & co]" in body


async def all_of(response: RewrittenResponse) -> list[dict[str, Any]]:
    raw = b""
    while piece := await response.next():
        raw += piece
    payloads = [block.removeprefix(b"data: ") for block in raw.split(b"\n\n") if block]
    assert payloads[-1] == b"[DONE]"
    return [json.loads(payload) for payload in payloads[:-1]]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"])


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from(["[cat]", "[ca", "t]", "[", "]", "a", "é", " ", "[cat", "☃"]), max_size=12),
    st.integers(1, 40),
)
async def test_a_stream_is_rewritten_alike_wherever_its_text_and_its_bytes_are_cut(
    words: list[str], size: int
):
    raw = chunk({"role": "assistant"}) + b"".join(chunk({"content": word}) for word in words)
    raw += (
        chunk({}, "stop")
        + b'data: {"id": "x", "choices": [], "usage": {"total_tokens": 3}}\n\ndata: [DONE]\n\n'
    )
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    chunks = await all_of(RewrittenResponse(Told(*pieces), swapping))
    assert text_of(chunks) == "".join(words).replace("[cat]", "[dog & co]")
    assert len(chunks) == len(words) + 3  # none is lost, and none added: each keeps its log-probabilities
    assert chunks[-1]["usage"] == {"total_tokens": 3}
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


async def test_a_whole_answer_is_rewritten_in_all_its_texts_and_keeps_the_rest():
    message = {
        "role": "assistant",
        "content": "a [cat]",
        "reasoning_content": "[ca",
        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"a": "[cat]"}'}}],
    }
    told = {"choices": [{"index": 0, "message": message, "x": 1}], "usage": {"total_tokens": 2}, "y": [2]}
    found = json.loads(await RewrittenResponse(Told(json.dumps(told).encode()), swapping).read())
    message |= {"content": "a [dog & co]"}
    message["tool_calls"][0]["function"]["arguments"] = '{"a": "[dog & co]"}'  # type: ignore[index]
    assert found == told


@pytest.mark.parametrize("body", [b"not json", b"[1]", b'{"prompt": "[cat]"}', b'{"choices": 3}'])
async def test_what_is_no_answer_is_left_as_it_is(body: bytes):
    assert await RewrittenResponse(Told(body), swapping).read() == body


async def test_a_stream_that_breaks_off_gives_what_was_held():
    response = RewrittenResponse(Told(chunk({"content": "so [ca"})), swapping)
    raw = b""
    while piece := await response.next():
        raw += piece
    assert json.loads(raw.removeprefix(b"data: "))["choices"][0]["delta"]["content"] == "so [ca"


async def test_what_may_not_be_used_ends_the_call():
    with pytest.raises(UnusableAnswer, match="too much"):
        await RewrittenResponse(Told(chunk({"content": "a"})), lambda json: [Refuse()]).next()


async def test_without_transforms_bytes_leave_and_arrive_as_they_are():
    response = Told(b"x")
    upstream: Any = "here"
    assert encode_request((), upstream, b'{ "a":1}') == b'{ "a":1}'
    assert wrap_response((), upstream, response) is response
    assert json.loads(encode_request([Both()], upstream, b'{"a":1}')) == {"a": 1, "seen_by": "here"}
    arrived = wrap_response([Both()], upstream, Told(chunk({"content": "[cat]"}, "stop")))
    assert b"[dog & co]" in await arrived.next()


async def test_each_call_s_arguments_are_one_text_however_the_server_numbers_the_calls():
    def part(call_id: str, arguments: Any) -> dict[str, Any]:
        return {"index": 0, "id": call_id, "function": {"name": "f", "arguments": arguments}}

    parts = [part("a", '{"x":"[c'), part("b", '{"x":"[c'), part("a", 'at]"}'), part("b", 'at]"}')]
    parts.append(part("c", {"x": "[cat]"}))
    raw = b"".join(chunk({"tool_calls": [each]}) for each in parts) + chunk({}, "tool_calls")
    chunks = await all_of(RewrittenResponse(Told(raw + b"data: [DONE]\n\n"), swapping))
    found = ["", "", ""]
    for one in chunks:
        for call in one["choices"][0]["delta"].get("tool_calls", []):
            found[call["index"]] += call["function"]["arguments"]
    assert found == ['{"x":"[dog & co]"}'] * 3


async def test_arguments_of_a_whole_answer_that_are_an_object_are_rewritten():
    calls = [{"id": "a", "function": {"name": "f", "arguments": {"x": "[cat]"}}}]
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "tool_calls": calls}}]}
    found = json.loads(await RewrittenResponse(Told(json.dumps(body).encode()), swapping).read())
    (call,) = found["choices"][0]["message"]["tool_calls"]
    assert call["function"]["arguments"] == '{"x":"[dog & co]"}'
