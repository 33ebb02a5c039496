"""A plain response is the same however its chunks are read: most bring only text, and are read faster."""

from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.responses import assemble_response

TEXT = st.sampled_from(["", "a", " word", "é"])
LOGPROBS = st.sampled_from([None, {"content": [{"token": "a", "logprob": -0.1}]}, {"content": None}])
DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "role": st.just("assistant"),
        "content": st.none() | TEXT,
        "reasoning_content": TEXT,
        "refusal": st.none() | TEXT,
    },
)
CHOICES = st.fixed_dictionaries(
    {"index": st.integers(0, 1), "delta": DELTAS},
    optional={
        "finish_reason": st.sampled_from([None, "stop"]),
        "logprobs": LOGPROBS,
        "stop_reason": st.none() | st.just(7),
        "token_ids": st.none() | st.lists(st.integers(0, 3), max_size=2),
    },
)
EVENTS = st.lists(st.fixed_dictionaries({"id": st.just("1"), "choices": st.lists(CHOICES, max_size=2)}))


def read_slowly(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same events, none of which brings only text: each delta has a value that says nothing."""
    events = deepcopy(events)
    for event in events:
        for choice in event["choices"]:
            choice["delta"]["nothing"] = None
    return events


@given(EVENTS)
def test_chunks_of_text_alone_add_up_as_all_others_do(events: list[dict[str, Any]]) -> None:
    slowly = read_slowly(events)
    assert assemble_response(deepcopy(events), "chat") == assemble_response(slowly, "chat")


def test_repeated_log_probabilities_are_kept_each_time() -> None:
    logprobs = {"content": [{"token": "a", "logprob": -0.1}]}
    event = {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": logprobs}]}
    whole = assemble_response([deepcopy(event) for _ in range(3)], "chat")
    assert whole["choices"][0]["message"]["content"] == "aaa"
    assert whole["choices"][0]["logprobs"]["content"] == logprobs["content"] * 3
