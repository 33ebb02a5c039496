"""Ten digits in a row are a telephone number only if something says so; nearly all of them are valid somewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.skills.privacy.detection import Detector
from policies.schema.private import Private

pytest.importorskip("presidio_analyzer", reason="smallfirst[privacy] is not installed")


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(Private(action="redact", entities=("PHONE_NUMBER",)))


@pytest.mark.parametrize(
    "text",
    [
        "at 1700000000",
        '{"created": 1764524000, "id": 4155552671}',
        "[1700000000, 1700000001]",
        "2026-01-01 12:00:01 1700000000",
        "1700000000 1700000001 1700000002",
        "order 9876543210",
        "(2025550123)",
    ],
)
def test_a_time_or_an_id_is_none(detector: Detector, text: str) -> None:
    assert detector.find(text) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("My phone is 2025550123.", "2025550123"),
        ('{"phoneNumber": "2025550123"}', "2025550123"),
        ("2025550123 (mobile)", "2025550123"),
        ("You can reach me at 9876543210", "9876543210"),
        ("my work number: 2025550123", "2025550123"),
        ("Rufnummer 2025550123", "2025550123"),
        ("+12025550123", "+12025550123"),
        ("+1 2025550123", "+1 2025550123"),
        ("001 2025550123", "2025550123"),
        ("1-2025550123", "1-2025550123"),
        ("202-555-0123", "202-555-0123"),
        ("98765 43210", "98765 43210"),
        ("0612345678", "0612345678"),
        ("2025550123 ext 12", "2025550123 ext 12"),
    ],
)
def test_a_separator_a_code_a_zero_or_a_word_makes_it_one(detector: Detector, text: str, number: str) -> None:
    assert any(number in found.value for found in detector.find(text))


@given(
    st.integers(10**9, 10**10 - 1),
    st.sampled_from(["at ", "ts=", "id: ", '"created": ', "took (", "\n", "order no. ", "seed "]),
    st.sampled_from(["", " ", ")", ", next", "\n", "s"]),
)
def test_no_ten_digits_are_one_by_themselves(
    detector: Detector, number: int, before: str, after: str
) -> None:
    assert detector.find(f"{before}{number}{after}") == []


@given(st.integers(200, 999), st.integers(200, 999), st.integers(0, 9999), st.sampled_from("- ."))
def test_separators_decide_as_before(
    detector: Detector, area: int, office: int, line: int, separator: str
) -> None:
    """With a word and without one, a number in groups is the same."""
    number = separator.join((str(area), str(office), f"{line:04}"))
    alone, said = (detector.find(f"{before} {number}") for before in ("at", "phone"))
    assert [found.value for found in alone] == [found.value for found in said]
