"""How long a server asks to be left alone, in the forms that real servers send."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateways import StartGateway, settings_of, upstream
from support.scripted_server import Reply, Scripted

from gateway.upstreams.failures import parse_failure
from gateway.upstreams.resilience.retry_after import MAX_RETRY_AFTER_S, parse_duration

LARGE = {"model": "large", "messages": [{"role": "user", "content": "Is ice cold?"}]}


def seconds_of(body: Any, headers: dict[str, str] | None = None) -> float | None:
    return parse_failure("u", "llm", 429, headers or {}, json.dumps(body).encode()).retry_after


def says(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "tokens", "param": None, "code": "rate_limit_exceeded"}}


def google(delay: Any, message: str = "You exceeded your current quota.") -> dict[str, Any]:
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaValue": "15"}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ]
    return {"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}}


LIMIT = "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 14567, Requested 24754. "
BODIES = {
    "google": (google("17s"), 17.0),
    "google, to the nanosecond": (google("45.837906927s"), 45.837906927),
    "google, in a list": ([google("17s")], 17.0),
    "google, in its message": (google(None, "Quota exceeded. Please retry in 26.660853464s."), 26.660853464),
    "openai": (says(LIMIT + "Please try again in 18.642s. Visit https://platform.openai.com"), 18.642),
    "openai, milliseconds": (says(LIMIT + "Please try again in 644ms. Visit https://a.test"), 0.644),
    "groq": (says(LIMIT + "Please try again in 1m0.363142857s. Visit https://a.test"), 60.363142857),
    "groq, a day's limit": (says(LIMIT + "Please try again in 7m12s. Visit https://a.test"), 432.0),
    "azure": (
        says("Requests have exceeded call rate limit of your tier. Please retry after 6 seconds. Go on."),
        6.0,
    ),
    "azure's proxy": (
        {"error": {"code": "429", "message": "Rate limit is exceeded. Try again in 2 seconds."}},
        2.0,
    ),
    "in minutes": (says("Too many requests. Please wait 1 minute and 30 seconds before retrying."), 90.0),
    "cloudflare": (
        {"title": "Error 1015: You are being rate limited", "status": 429, "retry_after": 30},
        30.0,
    ),
    "behind openrouter": (
        {
            "error": {
                "message": "Provider returned error",
                "code": 429,
                "metadata": {
                    "raw": json.dumps(google("9s", "Please retry in 9s.")),
                    "provider_name": "Google",
                },
            }
        },
        9.0,
    ),
}


@pytest.mark.parametrize(("body", "seconds"), BODIES.values(), ids=list(BODIES))
def test_it_is_read_from_the_error(body: Any, seconds: float):
    assert seconds_of(body) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "body",
    [
        says("Number of requests has exceeded your rate limit. Please try again later."),
        says("The model is overloaded. Retry in a moment, with at most 5 messages."),
        says(LIMIT),
        says("Please try again in 10 messages"),
        google("soon"),
        google({"seconds": []}),
        google(17),
        {"error": {"message": "no", "details": "retryDelay"}},
        {"retry_after": [30]},
        {"error": {"message": "no", "retry_after": -3}},
        {"error": {"message": "no", "retry_after": True}},
    ],
    ids=str,
)
def test_an_error_that_does_not_say_it_is_not_guessed_at(body: Any):
    assert seconds_of(body) is None


def test_a_header_comes_first():
    assert seconds_of(google("17s"), {"retry-after": "3"}) == 3.0
    assert seconds_of(google("17s"), {"retry-after-ms": "250"}) == 0.25
    assert seconds_of(google("17s"), {"retry-after": "soon"}) == 17.0


def test_more_than_a_day_is_not_believed():
    in_a_week = format_datetime(datetime.now(UTC) + timedelta(days=7), usegmt=True)
    for headers in ({"retry-after": "86400.5"}, {"retry-after-ms": "86400500"}, {"retry-after": in_a_week}):
        assert seconds_of({}, headers) == MAX_RETRY_AFTER_S
    for duration in ("86400.5s", "999999999s", "25 hours", "999999999h"):
        for body in (google(duration), says(f"Please try again in {duration}.")):
            assert seconds_of(body) == MAX_RETRY_AFTER_S


@given(st.integers(0, 23), st.integers(0, 59), st.decimals(0, 59, places=3, allow_nan=False))
def test_durations_are_sums_of_their_parts(hours: int, minutes: int, seconds: Any):
    expected = pytest.approx(hours * 3600 + minutes * 60 + float(seconds))
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == expected
    assert seconds_of(says(f"Please try again in {hours}h{minutes}m{seconds}s.")) == expected
    assert parse_duration(f"{hours} hours, {minutes} minutes and {seconds} seconds") == expected


@given(st.text(alphabet="0123456789.smhd aintryge", max_size=60))
def test_no_text_is_a_fault(text: str):
    assert (seconds_of(says(f"Please try again in {text}")) or 0.0) >= 0.0


@pytest.mark.parametrize("in_band", [False, True], ids=["429", "in band"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_short_wait_is_kept_and_a_long_one_is_passed_on(
    start: StartGateway, llm: Scripted, stream: bool, in_band: bool
):
    gateway = await start(settings_of(upstream(llm, "llm", limits={"retries": 1})))
    status = 200 if in_band else 429
    llm.says(Reply(status=status, body=google("0.01s")), Reply("Cold."))
    code, _, raw = await gateway.post("/chat/completions", LARGE | {"stream": stream})
    assert (code, len(llm.requests)) == (200, 2)
    assert b"Cold." in raw
    llm.forget()
    llm.says(Reply(status=status, body=google("17s")))
    code, headers, _ = await gateway.post("/chat/completions", LARGE | {"stream": stream})
    assert (code, headers["retry-after"], len(llm.requests)) == (429, "17", 1)
    assert gateway.upstream("llm").is_backing_off
