"""Samples are the request itself, several times in one call, each somewhat longer than the answer at most."""

import json
from typing import Any

import pytest

from gateway.engine.judge.self_consistency import EXTRA_TOKENS, build_samples_request, parse_samples
from gateway.wire.body_types import Body
from routers.plan import Judge

ANSWER = "x" * 300
ASK = Judge("slm", "", ("yes", "no"), ANSWER, samples=3)
MESSAGES = [{"role": "user", "content": "Hi"}]
NEEDED = 100 + EXTRA_TOKENS


def body(allowed: int | None = None, **more: Any) -> Body:
    return build_samples_request(
        ASK, {"model": "test", "messages": MESSAGES} | more, "chat", "small", allowed
    )


def test_what_asks_for_a_certain_reply_is_left_out_and_the_rest_stays():
    asked = {"stream": True, "stream_options": {}, "seed": 1, "logprobs": True, "top_logprobs": 2, "n": 9}
    kept = {"top_p": 0.5, "tools": [], "stop": ["."], "unknown": 1}
    more = {
        "model": "small",
        "messages": MESSAGES,
        "n": 3,
        "temperature": 1.0,
        "max_completion_tokens": NEEDED,
    }
    assert body(**asked, **kept, smallfirst={"private": True}) == kept | more


@pytest.mark.parametrize(("given", "taken"), [(0, 1.0), (None, 1.0), (0.3, 0.3), (1.7, 1.7)])
def test_its_own_temperature_is_kept_where_samples_would_differ(given: float | None, taken: float):
    assert body(temperature=given)["temperature"] == taken


@pytest.mark.parametrize(
    ("given", "allowed", "most"), [(50, None, 50), (5000, None, NEEDED), (5000, 20, 20), (5000, 0, 1)]
)
def test_a_sample_has_as_many_tokens_as_the_answer_needs_and_no_more_than_it_may(
    given: int, allowed: int | None, most: int
):
    assert body(allowed, max_tokens=given)["max_tokens"] == most


def test_samples_are_read_of_either_endpoint_without_the_beginning_that_a_server_repeats():
    chat = {"choices": [{"message": {"content": "It is 4"}}, {"message": {"content": None}}]}
    assert parse_samples(json.dumps(chat).encode(), "It is") == [" 4", ""]
    text = {"choices": [{"text": "4"}, {"text": "5"}]}
    assert parse_samples(json.dumps(text).encode()) == ["4", "5"]
    with pytest.raises(KeyError):
        parse_samples(b'{"choices": [{}]}')
