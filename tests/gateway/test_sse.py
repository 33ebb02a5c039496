"""Server-sent events come out the same, however the network cuts the bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.sse import EventReader, comment, event, payload_of

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
    last = payload_of(reader.rest())
    return [*found, last] if last else found


@given(streams(), st.data())
def test_any_chunking_of_a_stream_gives_its_events(stream: tuple[bytes, list[bytes]], data: st.DataObject):
    wire, expected = stream
    assert read(data.draw(cuts(wire))) == expected


@given(st.lists(st.sampled_from([b"data: a", b"data:", b"\r", b"\n", b": x", "data: \U0001f600é".encode()])))
def test_bytes_one_by_one_read_as_all_at_once(pieces: list[bytes]):
    wire = b"".join(pieces)
    assert read([bytes([byte]) for byte in wire]) == read([wire])


@given(streams(), st.integers(0, 200))
def test_a_stream_closed_early_gives_its_first_events_and_perhaps_a_part(
    stream: tuple[bytes, list[bytes]], at: int
):
    wire, expected = stream
    reader = EventReader()
    found = reader.feed(wire[:at])
    assert found == expected[: len(found)]


@pytest.mark.parametrize("end", ENDS, ids=["LF", "CRLF", "CR"])
def test_a_missing_last_blank_line_is_made_up_for_by_rest(end: str):
    reader = EventReader()
    assert reader.feed(f"data: 1{end}{end}data: 2{end}".encode()) == [b"1"]
    assert payload_of(reader.rest()) == b"2"
    assert reader.rest() == b""


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
    assert EventReader().blocks(b": ping\r\n\r\nevent: x\r\ndata: 1\r\n\r\n") == [
        b": ping",
        b"event: x\ndata: 1",
    ]


def test_what_we_write_is_what_we_read():
    written = comment("smallfirst", {"route": "slm"}) + event({"a": "é\n\r"})
    assert EventReader().feed(written) == ['{"a":"é\\n\\r"}'.encode()]
