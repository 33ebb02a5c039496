"""A plain chunk read by its places is what it is when it is read whole."""

import json
import re
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from gateway.engine.attempt import Attempt
from gateway.engine.streams.watched import WatchedStream
from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.wire.body_types import Event
from gateway.wire.fast_chunks import (
    PlainChunks,
    is_plain_chunk,
    is_plain_completion,
    parse_plain_chunk,
    replace_id,
)
from gateway.wire.responses import text_of, tokens_of, trim_logprobs
from policies.schema.policy import Policy
from routers.cost import FREE
from routers.plan import Draft, Generate
from routers.router import Request
from routers.strategies.direct import Direct
from routers.watch import ObservingWatch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
OTHER = st.dictionaries(
    st.text(max_size=8).filter(lambda key: key not in ("choices", "id", "usage", "error")), JSON, max_size=3
)
LOGPROB = st.floats(-30, 0)
WORD = st.text(min_size=1, max_size=6)
ENTRY = st.builds(
    lambda token, logprob, top, other: {
        "token": token,
        "logprob": logprob,
        "top_logprobs": [{"token": word, "logprob": value, "bytes": [1]} for word, value in top],
        **{key: value for key, value in other.items() if key not in ("token", "logprob", "top_logprobs")},
    },
    WORD,
    LOGPROB,
    st.lists(st.tuples(WORD, LOGPROB), max_size=3),
    OTHER,
)


@st.composite
def chunks(draw: st.DrawFn) -> dict[str, Any]:
    """Chunks of every kind, most of them plain."""
    plain = draw(st.integers(0, 3)) > 0
    logprobs = {"content": draw(st.lists(ENTRY, min_size=int(plain), max_size=2)), "refusal": None}
    choice = {
        "index": 0 if plain else draw(st.integers(0, 1)),
        "delta": {"content": draw(WORD)} if plain else draw(st.sampled_from(DELTAS)),
        "finish_reason": None if plain else draw(st.sampled_from([None, "stop"])),
        "logprobs": logprobs if plain else draw(st.sampled_from([logprobs, None])),
        **{k: v for k, v in draw(OTHER).items() if k not in ("index", "delta", "finish_reason", "logprobs")},
    }
    keys = draw(st.permutations(list(choice)))
    usage = {} if plain else draw(st.sampled_from([{}, {"usage": None}, {"usage": {"prompt_tokens": 1}}]))
    return {
        "id": draw(st.text(max_size=9)),
        **draw(OTHER),
        **usage,
        "choices": [{k: choice[k] for k in keys}],
    }


DELTAS: list[dict[str, Any]] = [
    {},
    {"role": "assistant", "content": "a"},
    {"refusal": "no"},
    {"tool_calls": [], "content": "a"},
    {"content": None},
    {"content": ""},
]


def read_whole(payload: bytes) -> tuple[str, list[tuple[str, float | None, list[float], bool]], Any]:
    chunk = orjson.loads(payload)
    choice = chunk["choices"][0]
    text = text_of(choice)
    tokens = [(one.text, one.logprob, list(one.top), one.reasoning) for one in tokens_of(choice, text)]
    return text, tokens, trim_logprobs(chunk, None)


@given(chunks(), st.booleans())
def test_a_plain_chunk_is_what_reading_it_whole_finds(chunk: dict[str, Any], ascii_only: bool) -> None:
    payload = json.dumps(chunk, ensure_ascii=ascii_only, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )
    try:
        found = parse_plain_chunk(payload)
    except UnicodeError:
        pytest.fail("it never raises")
    event(f"plain: {found is not None}")
    if found is None:
        return
    text, tokens, rest = read_whole(payload)
    assert found.text == text
    assert [(one.text, one.logprob, one.top, one.reasoning) for one in found.tokens] == tokens
    assert orjson.loads(found.payload) == rest
    renamed = replace_id(found.payload, b"sf-1")
    if renamed is not None:
        assert orjson.loads(renamed) == rest | {"id": "sf-1"}


class Arrived:
    """A response whose events come one at a time."""

    status = 200
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, *events: Any) -> None:
        self._left = [b"data: %b\n\n" % compact(one) for one in events]

    async def read(self, limit: int = 0) -> bytes:
        return b"".join(self._left)

    async def next(self, gap: float | None = None) -> bytes:
        return self._left.pop(0) if self._left else b""

    def close(self) -> None:
        pass


class Nowhere:
    begun = True

    async def events(self, events: Sequence[Event]) -> None:
        pass

    async def raw(self, data: bytes) -> None:
        pass

    async def whole(self, body: bytes) -> None:
        pass


def chunk(words: list[str], first: int = 0, finish: str | None = None) -> dict[str, Any]:
    """Adds all of `words`, whose log-probabilities are told by their places."""
    content = [
        {"token": word, "logprob": -place / 8, "top_logprobs": []} for place, word in enumerate(words, first)
    ]
    delta = {"content": "".join(words)} if words else {}
    return PLAIN | {
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": {"content": content}}]
    }


async def followed(*events: dict[str, Any]) -> Draft:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    policy = Policy(name="p", description="x", router=Direct(tier="slm"))
    exchange = Exchange("chat", "chat", policy, body, b"", Request(stream=True), None)
    call = Call(Generate("slm"), "slm", "u", "m", FREE, started=0.0, prompt_tokens=1)
    attempt = Attempt(None, call, None, is_last=True)  # type: ignore[arg-type]
    return await WatchedStream(exchange, attempt, Nowhere(), ObservingWatch()).read(Arrived(*events))


async def test_reasoning_within_the_content_keeps_its_logprobs() -> None:
    words = ["<think>", " hm", "</think>", " Yes"]
    events = [chunk([word], place) for place, word in enumerate(words)]
    draft = await followed(*events, chunk([], finish="stop"))
    told = [(token.text, token.logprob, token.reasoning) for token in draft.tokens]
    assert told == [(word, -place / 8, place < 3) for place, word in enumerate(words)]


@given(
    st.lists(st.sampled_from(["<", "think", ">", "</", "</think>", "<think>", "<thin", "k> a", " b", "b <"])),
    st.data(),
)
async def test_any_chunking_tells_the_same_tokens_of_reasoning(words: list[str], data: st.DataObject) -> None:
    bounds = [0, *sorted(data.draw(st.sets(st.integers(0, len(words))))), len(words)]
    chunks = [chunk(words[a:b], a) for a, b in pairwise(bounds) if a < b]
    draft = await followed(*chunks, chunk([], finish="stop"))
    assert [token.text for token in draft.tokens] == words
    assert draft.text == "".join(words)
    assert [token.reasoning for token in draft.tokens] == in_think_blocks(words)


def in_think_blocks(words: list[str]) -> list[bool]:
    """By every letter's place."""
    text = "".join(words)
    inside = [False] * len(text)
    for found in re.finditer(r"<think>.*?(</think>|$)", text, re.DOTALL):
        inside[found.start() : found.end()] = [True] * (found.end() - found.start())
    ends = [*accumulate(map(len, words), initial=0)]
    return [any(inside[start:end]) for start, end in pairwise(ends)]


PLAIN = {
    "id": "up-1",
    "object": "chat.completion.chunk",
    "choices": [
        {
            "index": 0,
            "delta": {"content": ' say "logprobs":'},
            "finish_reason": None,
            "logprobs": {
                "content": [{"token": " say", "logprob": -0.1, "top_logprobs": [], "bytes": [1, 2]}]
            },
            "new_field": {"kept": [1]},
        }
    ],
    "system_fingerprint": "f",
}


def compact(chunk: Any) -> bytes:
    return json.dumps(chunk, separators=(",", ":")).encode()


def changed(**choice: Any) -> bytes:
    return compact(PLAIN | {"choices": [PLAIN["choices"][0] | choice]})  # type: ignore[index]


def test_all_but_the_logprobs_and_the_id_stays_byte_by_byte() -> None:
    found = parse_plain_chunk(compact(PLAIN))
    assert found is not None
    without = json.loads(compact(PLAIN))
    del without["choices"][0]["logprobs"]
    assert found.payload == compact(without)
    assert replace_id(found.payload, b"sf-9") == compact(without | {"id": "sf-9"})


@pytest.mark.parametrize(
    "payload",
    [
        compact({"object": "x", **PLAIN}),
        json.dumps(PLAIN).encode(),
        compact(PLAIN | {"usage": {"prompt_tokens": 1}}),
        compact(PLAIN | {"error": {"message": "no"}}),
        compact(PLAIN | {"choices": []}),
        compact(PLAIN | {"choices": PLAIN["choices"] * 2}),  # type: ignore[operator]
        changed(index=1),
        changed(finish_reason="stop"),
        changed(delta={"role": "assistant", "content": "a"}),
        changed(delta={"content": "a", "reasoning_content": "b"}),
        changed(delta={"tool_calls": []}),
        changed(delta={"content": ""}),
        changed(delta={"content": None}),
        changed(delta={"content": [1]}),
        changed(logprobs=None),
        changed(logprobs={"content": []}),
        changed(logprobs={"content": [{"token": 1, "logprob": -1}]}),
        changed(logprobs=[]),
        b"",
        b'{"id":"',
        b'{"id":"\xff"}',
        b"[]",
        b"null",
    ],
)
def test_what_says_more_or_is_written_otherwise_is_no_plain_chunk(payload: bytes) -> None:
    assert parse_plain_chunk(payload) is None


def test_an_id_with_escapes_is_left_to_whoever_reads_the_chunk_whole() -> None:
    found = parse_plain_chunk(compact(PLAIN | {"id": 'a"b'}))
    assert found is not None
    assert replace_id(found.payload, b"sf-9") is None


def relayed(delta: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None, **fields}]}


@pytest.mark.parametrize(
    ("event", "is_plain"),
    [
        (relayed({"content": "a"}), True),
        (relayed({"content": "a", "tool_calls": None, "role": None}, logprobs={"content": [1]}), True),
        (relayed({"content": "", "reasoning_content": "a"}), True),
        (relayed({"content": '"error" "role" {}'}) | {"usage": None, "error": None, "x": 10**30}, True),
        (relayed({"content": ""}), False),
        (relayed({}), False),
        (relayed({"content": "a", "role": "assistant"}), False),
        (relayed({"content": "a", "tool_calls": [{"index": 0}]}), False),
        (relayed({"content": "a"}, finish_reason="stop"), False),
        (relayed({"content": "a"}, finish_reason=""), False),
        (relayed({"content": "a"}, index=1), False),
        (relayed({"content": "a"}, usage={"prompt_tokens": 1}), False),
        (relayed({"content": "a"}, error={"code": 502}), False),
        (relayed({"content": "a"}) | {"error": {"code": 502}}, False),
        (relayed({"content": "a"}) | {"usage": {"prompt_tokens": 1}}, False),
        (relayed({"content": "a"}) | {"choices": relayed({"content": "a"})["choices"] * 2}, False),
        ({"choices": []}, False),
    ],
)
def test_a_relayed_chunk_is_plain_if_it_only_adds_text(event: dict[str, Any], is_plain: bool) -> None:
    for space in (None, (",", ":")):
        text = json.dumps(event, separators=space).encode()
        for start in (b"data: ", b"data:", b"event: message\ndata: "):
            assert is_plain_chunk(start + text) is is_plain
        assert not is_plain_chunk(b"data: " + text[:-1])
        assert not is_plain_chunk(b": " + text[:-2])


def test_a_relayed_completion_is_plain_if_it_only_adds_text() -> None:
    for text, finish, is_plain in (("a", None, True), ("", None, False), ("a", "stop", False)):
        choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
        assert is_plain_completion(b"data: " + json.dumps({"choices": [choice]}).encode()) is is_plain


ADDED = {"chat": lambda text: {"delta": {"content": text}}, "completions": lambda text: {"text": text}}
DECODE = {"chat": is_plain_chunk, "completions": is_plain_completion}
TEXTS = st.sampled_from(["a", " b", 'say "c"', "\\", "\u00e9", "", "\ud83d", "x,y", "~", "^", "|"])
ODD_BYTES = bytes.maketrans(b"~^|", b'\t"\xff')
"""Bytes that no server should write, for signs in the texts."""
BESIDE = st.sampled_from(
    [{}, {"note": '"content":"'}, {"content": "z"}, {"usage": {"total_tokens": 3}}, {"seed": 7}]
)


@st.composite
def relayed_blocks(draw: st.DrawFn, endpoint: str) -> list[bytes]:
    """Events of one stream, some of them malformed, with raw control characters, or with more than text."""
    separators, ensure_ascii = draw(st.sampled_from([None, (",", ":")])), draw(st.booleans())
    usual = draw(BESIDE)
    blocks = []
    for text in draw(st.lists(TEXTS, min_size=1, max_size=20)):
        choice = {"index": 0, **ADDED[endpoint](text), "finish_reason": None}
        event = json.dumps(
            {"id": "up-1", **draw(st.just(usual) | BESIDE), "choices": [choice]},
            ensure_ascii=ensure_ascii,
            separators=separators,
        )
        raw = event.encode("utf-8", "surrogatepass").translate(ODD_BYTES)
        blocks.append(b"data: " + raw[: draw(st.sampled_from([None, None, None, -1, -9]))])
    return blocks


@pytest.mark.parametrize("endpoint", DECODE)
def test_a_chunk_that_is_compared_is_plain_if_it_is_plain_when_decoded(endpoint: Any) -> None:
    @given(relayed_blocks(endpoint))
    def compare(blocks: list[bytes]) -> None:
        chunks, decode = PlainChunks(endpoint), DECODE[endpoint]
        assert [chunks.has(block) for block in blocks] == [decode(block) for block in blocks]

    compare()
