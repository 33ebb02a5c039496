"""Each server's usage is read, wherever it puts it and whatever it calls it; what is no count is estimated."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.odd_answers import ANY_USAGE, DIALECTS, TrueUsage, as_strings, true_usages

from gateway.wire.parsing.usage import UsageReader, strip_usage
from gateway.wire.parsing.usage_fields import parse_usage
from gateway.wire.requests import estimate_prompt_tokens
from routers.plan import Usage

Dialect = Callable[[TrueUsage], dict[str, Any]]


def read(*events: dict[str, Any]) -> UsageReader:
    reader = UsageReader()
    for event in events:
        reader.read(event)
    return reader


def usage_of(*events: dict[str, Any], prompt: int = 7, written: int = 0) -> Usage:
    return read(*events).to_usage(prompt, written)


def test_usage_is_read_where_a_response_reports_it():
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    assert usage_of({"usage": usage}) == Usage(9, 2, 4)
    assert usage_of({"usage": {"prompt_tokens": 9, "prompt_tokens_details": None}}) == Usage(9, 0, 0)
    assert not UsageReader().read({"usage": None})
    assert not UsageReader().read({})
    assert estimate_prompt_tokens(b"x" * 400) == 100
    assert estimate_prompt_tokens(b"") == 1


@pytest.mark.parametrize("dialect", DIALECTS)
@given(usage=true_usages(), strings=st.booleans())
def test_every_servers_names_and_sums(dialect: Dialect, usage: TrueUsage, strings: bool):
    reported = dialect(usage)
    found = usage_of({"usage": as_strings(reported) if strings else reported}, written=1)
    assert found == Usage(usage.prompt, usage.completion, usage.cached)


@pytest.mark.parametrize(
    ("usage", "read_as"),
    [
        # xAI: 10120 + 1499 + 2809 reasoning = 14428
        (
            {
                "prompt_tokens": 10120,
                "completion_tokens": 1499,
                "total_tokens": 14428,
                "prompt_tokens_details": {"cached_tokens": 128},
                "completion_tokens_details": {"reasoning_tokens": 2809},
            },
            Usage(10120, 4308, 128),
        ),
        # Gemini: nothing but thoughts
        ({"prompt_tokens": 21, "completion_tokens": 0, "total_tokens": 81}, Usage(21, 60)),
        # DeepSeek, without the sum
        (
            {"prompt_cache_hit_tokens": 900, "prompt_cache_miss_tokens": 100, "completion_tokens": 5},
            Usage(1000, 5, 900),
        ),
        # cached tokens beside the prompt's
        (
            {
                "prompt_tokens": 10,
                "cache_read_input_tokens": 900,
                "completion_tokens": 50,
                "total_tokens": 960,
            },
            Usage(910, 50, 900),
        ),
        ({"prompt_tokens": 9.0, "completion_tokens": "2"}, Usage(9, 2)),
        ({"completion_tokens": 2, "total_tokens": 11}, Usage(9, 2)),
        # more cached than read, more accepted than written
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 20},
                "completion_tokens_details": {
                    "accepted_prediction_tokens": 5,
                    "rejected_prediction_tokens": 1,
                },
            },
            Usage(9, 2, 9, accepted=2),
        ),
    ],
)
def test_what_servers_report(usage: dict[str, Any], read_as: Usage):
    assert usage_of({"usage": usage}) == read_as


NONSENSE = [-5, True, 1.5, "-1", "1e3", "twelve", "", "9" * 1000, 10**1000, 1e308, float("nan"), [], {}, None]


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: str(value)[:9])
def test_what_is_no_count_is_estimated_and_marked_so(value: Any):
    assert usage_of({"usage": {"prompt_tokens": 9, "completion_tokens": value}}, written=3) == Usage(
        9, 3, estimated=True
    )
    assert usage_of({"usage": {"prompt_tokens": value, "completion_tokens": 2}}) == Usage(
        7, 2, estimated=True
    )
    odd_rest = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": value, "cached_tokens": value}
    assert usage_of({"usage": odd_rest}) == Usage(9, 2)
    details = dict.fromkeys(("prompt_tokens_details", "completion_tokens_details"), value)
    assert usage_of({"usage": {"prompt_tokens": 9, "completion_tokens": 2, **details}}) == Usage(9, 2)


@given(
    st.lists(st.tuples(ANY_USAGE, st.sampled_from(["top", "choice", "groq", "choices"]))), st.integers(0, 9)
)
def test_no_usage_is_too_odd(places: list[tuple[Any, str]], written: int):
    reader = UsageReader()
    for usage, place in places:
        event: dict[str, Any] = {
            "top": {"usage": usage},
            "choice": {"choices": [{"usage": usage}, None, "x"]},
            "groq": {"x_groq": {"usage": usage}},
            "choices": {"choices": usage, "x_groq": usage},
        }[place]
        reader.read(event)
        strip_usage(event)
    found = reader.to_usage(7, written)
    assert all(type(count) is int and 0 <= count <= 2 * 10**9 for count in found._replace(estimated=0))
    assert found.cached_tokens <= found.prompt_tokens
    assert found.accepted + found.rejected <= found.completion_tokens
    assert found.completion_tokens >= min(written, 1)
    cost = reader.reported.cost_usd
    assert cost is None or 0.0 <= cost < 1e9
    if reader.chunk is not None:
        assert reader.chunk["choices"] == []
        counts = [reader.chunk["usage"][f"{name}_tokens"] for name in ("prompt", "completion", "total")]
        assert all(type(count) is int and count >= 0 for count in counts)


USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
ZEROS = dict.fromkeys(USAGE, 0)


@given(st.permutations([{"usage": USAGE}, {"usage": ZEROS}, {"usage": None}, {"usage": {}}, {"choices": []}]))
def test_zeros_never_replace_counts(events: list[dict[str, Any]]):
    assert usage_of(*events, written=2) == Usage(9, 2)
    chunk = read(*events).chunk
    assert chunk is not None
    assert chunk["usage"] == USAGE


def test_zeros_alone_are_not_believed_of_a_call_that_wrote():
    assert usage_of({"usage": ZEROS}, written=4) == Usage(7, 4, estimated=True)


def test_the_usage_of_a_stream_grows():
    growing = [
        {"usage": {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count}}
        for count in range(4)
    ]
    assert usage_of(*growing, written=3) == Usage(9, 3)


def test_usage_in_a_choice_counts_and_choices_are_added_up():
    """Moonshot's streams have it in the choice that ends; each choice has the same prompt."""
    first = {"choices": [{"index": 0, "finish_reason": "stop", "usage": {**USAGE, "cached_tokens": 4}}]}
    second = {"choices": [{"index": 1, "finish_reason": "stop", "usage": USAGE}]}
    assert usage_of(first, written=2) == Usage(9, 2, 4)
    assert usage_of(first, second, written=4) == Usage(9, 4, 4)
    chunk = read(first, second).chunk
    assert chunk is not None
    assert chunk["usage"] == {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    assert usage_of(first, first, {"choices": [], "usage": USAGE}, written=2) == Usage(9, 2, 4)


def test_usage_of_groq():
    assert usage_of({"choices": [{"delta": {}}], "x_groq": {"id": "r", "usage": USAGE}}) == Usage(9, 2)


def test_the_chunk_for_the_client_has_openais_counts():
    event = {"id": "c", "choices": [{"index": 0, "usage": {"input_tokens": "9", "output_tokens": 2}}]}
    reader = read(event)
    strip_usage(event)
    assert event == {"id": "c", "choices": [{"index": 0}]}
    assert reader.chunk == {
        "id": "c",
        "choices": [],
        "usage": {"input_tokens": "9", "output_tokens": 2} | USAGE,
    }


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        ({"cost": 0.95}, 0.95),
        ({"cost": "0.95"}, 0.95),
        ({"cost": 0}, 0.0),
        ({"cost": 0.05, "is_byok": True, "cost_details": {"upstream_inference_cost": 1.0}}, 1.05),
        ({"cost": 0.95, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.95}}, 0.95),
        ({"cost": {"input_tokens_cost": 0.1, "total_cost": 0.3}}, 0.3),
        ({"cost_in_usd_ticks": 232856000}, 0.0232856),
        ({"cost": -1}, None),
        ({"cost": True}, None),
        ({"cost": 1e308}, None),
        ({"cost": 10**400}, None),
        ({"cost": "much"}, None),
        ({"cost": [1]}, None),
        ({}, None),
    ],
)
def test_reported_costs(usage: dict[str, Any], dollars: float | None):
    assert parse_usage(usage).cost_usd == dollars


@pytest.mark.parametrize("details", [7, "none", [1], True])
def test_details_that_are_no_object_are_left_out_of_a_streams_usage(details: Any):
    counted = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    odd = {"prompt_tokens_details": details, "completion_tokens_details": details}
    chunk = read({"choices": [], "usage": counted | odd}).chunk
    assert chunk is not None
    assert chunk["usage"] == counted
