"""Streams of tool calls as servers of all kinds send them, and what a client makes of such a stream."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson
from hypothesis import strategies as st
from support.chat_streams import Body, chunk, cut, interleaved

ARGUMENTS = st.dictionaries(st.text(max_size=4), st.text(max_size=6) | st.integers(-9, 9), max_size=2)


class SentCalls(NamedTuple):
    """The calls that a server means, each with its id, name and arguments, and the chunks that it sends."""

    calls: list[tuple[str, str, str]]
    chunks: list[Body]


class Dialect(NamedTuple):
    """How a server tells its calls apart.

    index: each call's own number, the same as text, counted from 1, 0 for all, or none. ids, names: in the first delta
    of a call, in every one, or (ids) in none. as_object: whether the arguments come as an object, whole.
    """

    index: str
    ids: str
    names: str
    as_object: bool

    @property
    def has_numbers(self) -> bool:
        return self.index in ("own", "text", "from one")

    @property
    def is_clear_in_any_order(self) -> bool:
        return self.has_numbers or self.ids == "every"

    def numbered(self, number: int) -> Body:
        values: dict[str, Any] = {"own": number, "text": str(number), "from one": number + 1, "zero": 0}
        return {"index": values[self.index]} if self.index in values else {}


DIALECTS = st.builds(
    Dialect,
    index=st.sampled_from(["own", "text", "from one", "zero", "none"]),
    ids=st.sampled_from(["first", "every", "none"]),
    names=st.sampled_from(["first", "every"]),
    as_object=st.booleans(),
)


@st.composite
def tool_call_streams(draw: st.DrawFn) -> SentCalls:
    """Calls in the order of their beginnings, and their deltas in any split and any order that the dialect allows."""
    dialect = draw(DIALECTS)
    calls = [
        (f"call_{number}", draw(st.sampled_from("fg")), orjson.dumps(draw(ARGUMENTS)).decode())
        for number in range(draw(st.integers(0, 3)))
    ]
    lanes = [draw(_deltas(dialect, number, *call)) for number, call in enumerate(calls)]
    one_by_one = [part for lane in lanes for part in lane]
    parts = draw(interleaved(lanes)) if dialect.is_clear_in_any_order else one_by_one
    order = list(dict.fromkeys(number for number, _ in parts))
    sent = [calls[number] if dialect.ids != "none" else ("", *calls[number][1:]) for number in order]
    return SentCalls(
        sent, [chunk({"role": "assistant"}), *draw(_chunks(dialect, parts)), chunk({}, "tool_calls")]
    )


@st.composite
def _deltas(
    draw: st.DrawFn, dialect: Dialect, number: int, call_id: str, name: str, arguments: str
) -> list[tuple[int, Body]]:
    """One call's deltas, each with the call's number. A call that nothing but its completeness ends comes whole."""
    whole = dialect.as_object or (dialect.ids == "none" and not dialect.has_numbers)
    pieces = [arguments] if whole else draw(cut(arguments))
    deltas = []
    for place, piece in enumerate(pieces):
        function: Body = {"arguments": orjson.loads(piece) if dialect.as_object else piece}
        if place == 0 or dialect.names == "every":
            function = {"name": name, **function}
        more: Body = {"type": "function"} if place == 0 or dialect.names == "every" else {}
        if dialect.ids == "every" or (dialect.ids == "first" and place == 0):
            more["id"] = call_id
        elif draw(st.booleans()):
            more["id"] = draw(st.sampled_from(["", None]))
        deltas.append((number, {**dialect.numbered(number), **more, "function": function}))
    return deltas


@st.composite
def _chunks(draw: st.DrawFn, dialect: Dialect, parts: list[tuple[int, Body]]) -> list[Body]:
    """The deltas in chunks: some hold deltas of several calls."""
    chunks: list[tuple[set[int], list[Body]]] = []
    for number, part in parts:
        fits = chunks and number not in chunks[-1][0] and dialect.is_clear_in_any_order
        if fits and draw(st.booleans()):
            chunks[-1][0].add(number)
            chunks[-1][1].append(part)
        else:
            chunks.append(({number}, [part]))
    return [chunk({"tool_calls": held}) for _, held in chunks]


def joined_calls(chunks: Iterable[Body]) -> list[tuple[str, str, str]]:
    """The calls as a simple client joins them: by index, each text appended. The indexes count from 0."""
    calls: dict[int, list[str]] = {}
    for each in chunks:
        for choice in each["choices"]:
            for part in choice["delta"].get("tool_calls") or ():
                call = calls.setdefault(part["index"], ["", "", ""])
                function = part["function"]
                told = (part.get("id"), function.get("name"), function.get("arguments"))
                for place, text in enumerate(told):
                    call[place] += text or ""
    assert list(calls) == list(range(len(calls)))
    return [(call[0], call[1], call[2]) for call in calls.values()]
