"""The picture of a request's way, and the story under it, are of a real request."""

import importlib
import re
from operator import attrgetter

import pytest

from tools.docs.markdown import ROOT
from tools.docs.trace.picture import Mark, Span, drawn
from tools.docs.trace.request import PICTURE, STORY, Called, Hop, hops, lanes, marks, traced

HOPS = hops(STORY.read_text(encoding="utf-8"))


def lanes_of(picture: str) -> list[str]:
    return re.findall(r'data-lane="([^"]+)"', picture)


def numbers_of(picture: str) -> list[int]:
    return [int(number) for number in re.findall(r'class="number"[^>]*>(\d+)<', picture)]


def test_every_numbered_item_of_the_story_is_a_hop() -> None:
    items = re.findall(r"^(\d+)\.", STORY.read_text(encoding="utf-8"), re.MULTILINE)
    assert [hop.number for hop in HOPS] == list(map(int, items)) == list(range(1, len(HOPS) + 1))


@pytest.mark.parametrize("hop", HOPS, ids=lambda hop: f"{hop.number} {hop.function}")
def test_every_file_and_function_of_the_story_exists(hop: Hop) -> None:
    assert (ROOT / hop.file).is_file()
    module = importlib.import_module(hop.file.removesuffix(".py").replace("/", "."))
    assert callable(attrgetter(hop.function)(module))


async def test_a_request_comes_by_every_hop_in_the_order_of_the_story() -> None:
    tracer = await traced(lanes(HOPS))
    made = drawn(lanes(HOPS), tracer.spans, marks(HOPS, tracer.calls))
    committed = PICTURE.read_text(encoding="utf-8")
    assert {span.lane for span in tracer.spans} == set(lanes(HOPS))
    assert lanes_of(made) == lanes_of(committed) == list(lanes(HOPS)), "run: python -m tools.docs.trace"
    assert numbers_of(made) == numbers_of(committed) == [hop.number for hop in HOPS]
    assert len(lanes_of(made)) <= 20


def test_a_hop_is_the_first_call_after_the_one_before() -> None:
    calls = [Called(at, "a.py", name) for at, name in enumerate(["f", "g", "f"])]
    found = marks([Hop(1, "a.py", "g"), Hop(2, "a.py", "f")], calls)
    assert found == [Mark(1, "a.py", 1), Mark(2, "a.py", 2)]
    with pytest.raises(ValueError, match=r"hop 2: a\.py g is not called after"):
        marks([Hop(1, "a.py", "g"), Hop(2, "a.py", "g")], calls)


def test_waits_are_cut_short_and_work_is_to_scale() -> None:
    spans = [Span("a", 0.0, 0.001), Span("b", 0.001, 0.003), Span("a", 5.003, 5.005)]
    widths = [
        float(width)
        for width in re.findall(r'<rect x="[\d.]+" y="\d+" width="([\d.]+)"', drawn("ab", spans, []))
    ]
    first, last, middle = widths
    assert first < middle
    assert last == pytest.approx(middle, rel=0.01)
    assert last == pytest.approx(2 * first, rel=0.01)
