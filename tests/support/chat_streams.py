"""Chat streams for the tests of what is made of them: chunks by hand, and by chance in any order that chat allows."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

Body = dict[str, Any]

MADE = 1_760_000_000
"""When every chunk here was made, seconds since 1970."""


def chunk(delta: Body, finish: str | None = None, **more: Any) -> Body:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": MADE,
        "model": "small",
        "choices": [choice],
    }


def call(index: int, arguments: str, name: str | None = None) -> Body:
    """A delta of a tool call, the first one where the call is named."""
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    first = {} if name is None else {"id": f"call_{name}_{index}", "type": "function"}
    return {"tool_calls": [{"index": index, **first, "function": function}]}


def usage_chunk(**more: Any) -> Body:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 7,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    return chunk({}) | {"choices": [], "usage": usage, **more}


def entry(token: str) -> Body:
    """A token's log-probabilities, as a server has them that says nothing of bytes."""
    return {
        "token": token,
        "logprob": -0.5,
        "top_logprobs": [{"token": token, "logprob": -0.5, "bytes": None}],
    }


TEXT = st.text(max_size=8)
JSON_OBJECT = st.dictionaries(TEXT, TEXT | st.integers(), max_size=2).map(lambda value: json.dumps(value))
ARGUMENTS = JSON_OBJECT | JSON_OBJECT.map(lambda text: text[:-1]) | st.sampled_from(["", "1234", "nonsense"])


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    """The text in pieces, empty ones among them."""
    at = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]


@st.composite
def interleaved(draw: st.DrawFn, lanes: Sequence[Sequence[Any]]) -> list[Any]:
    """The elements of all lanes, each lane's in its order."""
    turns = draw(st.permutations([number for number, lane in enumerate(lanes) for _ in lane]))
    iterators = [iter(lane) for lane in lanes]
    return [next(iterators[turn]) for turn in turns]


@st.composite
def texts(draw: st.DrawFn, key: str, logprobs: bool = False) -> list[tuple[Body, list[Body]]]:
    """Deltas of one text and their tokens' entries."""
    pieces = draw(cut(draw(TEXT)))
    return [({key: piece}, [entry(piece)] if logprobs and piece else []) for piece in pieces]


@st.composite
def calls(draw: st.DrawFn) -> list[list[tuple[Body, list[Body]]]]:
    """Of each call its deltas; their indexes are given when their order is known."""
    lanes = []
    for name in "fgh"[: draw(st.integers(0, 3))]:
        first, *rest = draw(cut(draw(ARGUMENTS)))
        lanes.append([(call(ord(name), first, name), []), *[(call(ord(name), piece), []) for piece in rest]])
    return lanes


@st.composite
def streams(draw: st.DrawFn, in_order: bool = False) -> list[Body]:
    """A chat stream's chunks: a role, texts and calls, a finish, perhaps usage. `in_order`: reasoning, then content,
    then refusal, then calls, whose arguments may still come in turns; else all of them in turns."""
    reasoning = draw(texts(draw(st.sampled_from(["reasoning", "reasoning_content"]))))
    content = draw(texts("content", draw(st.booleans())))
    refusal = draw(texts("refusal")) if draw(st.booleans()) else []
    lanes = draw(calls())
    if in_order:
        deltas = [*reasoning, *content, *refusal, *draw(interleaved(lanes))]
    else:
        deltas = draw(interleaved([reasoning, content, refusal, *lanes]))
    finish = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
    end = [usage_chunk()] if draw(st.booleans()) else []
    body = [
        chunk(delta, logprobs={"content": entries} if entries else None)
        for delta, entries in numbered(deltas)
    ]
    return [chunk({"role": "assistant", "content": ""}), *draw(joined(body)), chunk({}, finish), *end]


def numbered(deltas: list[tuple[Body, list[Body]]]) -> list[tuple[Body, list[Body]]]:
    """The same, calls numbered in the order in which they begin."""
    order: dict[int, int] = {}
    for delta, _ in deltas:
        for part in delta.get("tool_calls", ()):
            part["index"] = order.setdefault(part["index"], len(order))
    return deltas


@st.composite
def joined(draw: st.DrawFn, chunks: list[Body]) -> list[Body]:
    """Some neighbours in one chunk, where they say different things."""
    kept: list[Body] = []
    for one in chunks:
        choice, last = one["choices"][0], kept[-1]["choices"][0] if kept else None
        apart = (
            last is None
            or last["delta"].keys() & choice["delta"].keys()
            or (last["logprobs"] or choice["logprobs"])
        )
        if apart or draw(st.booleans()):
            kept.append(one)
        else:
            last["delta"] |= choice["delta"]
    return kept
