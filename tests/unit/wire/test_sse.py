"""Server-sent events come out the same, however the network cuts the bytes, and wherever it ends them; the official
client's own decoder reads ours as we do."""

from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from gateway.wire.sse import (
    BYTE_ORDER_MARK,
    DONE_EVENT,
    HEARTBEAT,
    MAX_EVENT,
    EventReader,
    EventTooLarge,
    encode_comment,
    encode_event,
    is_json,
    payload_of,
)

ENDS = ["\n", "\r\n", "\r"]
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
VALUE = TEXT.filter(lambda text: not text.startswith(" "))


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream with lines of every kind, and the data of its events."""
    wire, expected = "", []
    for _ in range(draw(st.integers(0, 4))):
        data: list[str] = []
        for _ in range(draw(st.integers(1, 4))):
            kind = draw(st.sampled_from(["data: ", "data:", ":", "event: ", "id: ", "retry: "]))
            value = draw(VALUE)
            if kind.startswith("data"):
                data.append(value)
            wire += kind + value + draw(st.sampled_from(ENDS))
        # After a line that ends in CR, a blank line of LF would be the same line's CRLF.
        wire += draw(st.sampled_from(["\r\n", "\r"] if wire.endswith("\r") else ENDS))
        expected.append("\n".join(data).encode())
    return wire.encode(), [data for data in expected if data]


@st.composite
def cuts(draw: st.DrawFn, whole: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    return [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]


def read(parts: list[bytes]) -> list[bytes]:
    reader = EventReader()
    found = [payload for part in parts for payload in reader.feed(part)]
    last = payload_of(reader.flush())
    return [*found, last] if last else found


@given(streams(), st.data())
def test_any_chunking_of_a_stream_gives_its_events(stream: tuple[bytes, list[bytes]], data: st.DataObject):
    wire, expected = stream
    assert read(data.draw(cuts(wire))) == expected


FIELDS = [
    "data: ",
    "data:",
    "data",
    "data: {}",
    "data:  two",
    "event: e",
    "id: 7",
    "retry: 3",
    ": ping",
    "x",
    " ",
]
LINES = st.sampled_from(FIELDS) | TEXT
PIECES = st.lists(st.tuples(LINES, st.sampled_from([*ENDS, *ENDS, "\n\n", "\r\r", ""])), max_size=12).map(
    lambda found: "".join(line + end for line, end in found).encode()
)
"""Whatever is made of lines and line ends."""


@given(PIECES, st.data())
def test_any_bytes_in_any_chunks_read_as_the_official_client_reads_them(wire: bytes, data: st.DataObject):
    assume(not is_json(wire))  # no stream begins like that
    reader = EventReader()
    ours = [payload for part in data.draw(cuts(wire)) for payload in reader.feed(part)]
    assert ours == decoded(data.draw(cuts(wire)))


def decoded(parts: list[bytes]) -> list[bytes]:
    """The data of events that have any, as the official client's decoder reads them."""
    return [found.data.encode() for found in SSEDecoder().iter_bytes(iter(parts)) if found.data]


@given(PIECES)
def test_bytes_one_by_one_read_as_all_at_once(wire: bytes):
    assert read([wire[at : at + 1] for at in range(len(wire))]) == read([wire])


@given(streams(), st.data())
def test_a_byte_order_mark_at_the_beginning_says_nothing(
    stream: tuple[bytes, list[bytes]], data: st.DataObject
):
    wire, expected = stream
    assert read(data.draw(cuts(BYTE_ORDER_MARK + wire))) == expected


def test_a_byte_order_mark_elsewhere_is_text():
    marked = b"data: {" + BYTE_ORDER_MARK + b"}\n\n"
    assert read([marked]) == [marked[6:-2]]
    assert read([b"data: {}\n\n", BYTE_ORDER_MARK + b"data: 2\n\n", b"data: 3\n\n"]) == [b"{}", b"3"]
    assert read([b": ping\n\n", BYTE_ORDER_MARK, b"data: 2\n\n"]) == []


@given(streams(), st.data())
def test_a_stream_closed_at_any_byte_gives_its_first_events_and_a_beginning_of_the_next(
    stream: tuple[bytes, list[bytes]], data: st.DataObject
):
    wire, expected = stream
    reader = EventReader()
    cut = wire[: data.draw(st.integers(0, len(wire)))]
    found = [payload for part in data.draw(cuts(cut)) for payload in reader.feed(part)]
    assert found == expected[: len(found)]
    begun = payload_of(reader.flush())
    assert not begun or expected[len(found)].startswith(begun)


def test_a_field_without_a_colon_has_an_empty_value():
    assert read([b"data: 1\ndata\ndata: 2\n\n"]) == [b"1\n\n2"]


def test_a_line_may_end_in_cr_whatever_the_event_ends_in():
    assert read([b"data: {\rdata: }\n\n"]) == [b"{\n}"]


@pytest.mark.parametrize("end", ENDS, ids=["LF", "CRLF", "CR"])
def test_a_missing_last_blank_line_is_made_up_for_by_rest(end: str):
    reader = EventReader()
    assert reader.feed(f"data: 1{end}{end}data: 2{end}".encode()) == [b"1"]
    assert payload_of(reader.flush()) == b"2"
    assert reader.flush() == b""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"data: 1\r", b"\n\r\ndata: 2\r\n\r\n"),
        (b"data: 1\r\n", b"\r\ndata: 2\r\n\r\n"),
        (b"data: 1\r\n\r", b"\ndata: 2\r\n\r\n"),
    ],
)
def test_a_crlf_split_between_two_reads_is_one_line_end(first: bytes, second: bytes):
    reader = EventReader()
    assert reader.feed(first) + reader.feed(b"") + reader.feed(second) == [b"1", b"2"]


def test_blocks_keep_comments_and_other_fields():
    assert EventReader().read_blocks(b": ping\r\n\r\nevent: x\r\ndata: 1\r\n\r\n") == [
        b": ping",
        b"event: x\ndata: 1",
    ]


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
OBJECTS = st.dictionaries(
    ANY_TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | ANY_TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)


@given(st.lists(OBJECTS, max_size=4), st.data())
def test_whatever_we_write_is_what_we_and_the_official_client_read(
    objects: list[dict[str, Any]], data: st.DataObject
):
    noise = [encode_comment("smallfirst", found) for found in objects] + [HEARTBEAT] * 2
    written = [part for found in objects for part in (encode_event(found), data.draw(st.sampled_from(noise)))]
    wire = b"".join([*written, DONE_EVENT])
    for payloads in (read(data.draw(cuts(wire))), decoded(data.draw(cuts(wire)))):
        *found, done = payloads
        assert [orjson.loads(payload) for payload in found] == objects
        assert done == b"[DONE]"


@pytest.mark.parametrize("size", [MAX_EVENT - 6, MAX_EVENT - 5, 2 * MAX_EVENT])
@pytest.mark.parametrize("pieces", [1, 2, 300])
@pytest.mark.parametrize("ends", [True, False])
def test_an_event_may_have_so_many_bytes_and_no_more(size: int, pieces: int, ends: bool):
    wire = b"data: 1\n\ndata: " + b"x" * size + (b"\n\ndata: 2\n\n" if ends else b"")
    step = -(-len(wire) // pieces)
    parts = [wire[at : at + step] for at in range(0, len(wire), step)]
    if size + 6 > MAX_EVENT:
        with pytest.raises(EventTooLarge, match=str(MAX_EVENT)):
            read(parts)
    else:
        assert list(map(len, read(parts))) == [1, size, 1][: 2 + ends]
