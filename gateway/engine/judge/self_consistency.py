"""Judges an answer by samples: other answers to the same request, written in one call and compared with it."""

import orjson

from gateway.wire import requests
from gateway.wire.body_types import Body, Endpoint
from routers.judges.agreement import mean_agreement
from routers.plan import Judge, Judged, Usage

REPLY_FIELDS = frozenset(
    {"stream", "stream_options", "n", "best_of", "echo", "logprobs", "top_logprobs", "seed", "prediction"}
)
"""Fields that do not shape an answer's text, and `seed`, which would make all samples equal."""

EXTRA_TOKENS = 16
"""Tokens that a sample may have beyond the answer's length."""


def build_samples_request(
    ask: Judge, body: Body, endpoint: Endpoint, model: str, allowed: int | None
) -> Body:
    """Return the request that writes the samples.

    Each sample may be slightly longer than the answer, and has at most `allowed` tokens.
    """
    out = {key: value for key, value in body.items() if key not in REPLY_FIELDS}
    out = requests.build_upstream_request(out, endpoint, model, stream=False, needs_logprobs=False)
    out = requests.limit_max_tokens(out, endpoint, max_sample_tokens(ask.answer, allowed))
    return out | {"n": ask.samples, "temperature": out.get("temperature") or 1.0}


def max_sample_tokens(answer: str, allowed: int | None = None) -> int:
    """Return the maximum tokens of a sample. Nearly every token has at least three bytes."""
    needed = len(answer.encode()) // 3 + EXTRA_TOKENS
    return needed if allowed is None else max(1, min(needed, allowed))


def parse_samples(answer: bytes, prefix: str = "") -> list[str]:
    """Return the samples' texts, without `prefix`, the given beginning of the answer, which some servers repeat.

    Raises one of MISSHAPEN for a malformed answer.
    """
    choices = orjson.loads(answer)["choices"]
    texts = [
        (choice["message"]["content"] if "message" in choice else choice["text"]) or "" for choice in choices
    ]
    return [text.removeprefix(prefix) for text in texts]


def measure_agreement(ask: Judge, samples: list[str], usage: Usage) -> Judged:
    """Return the mean agreement of the samples with the answer. Raises ValueError if there are no samples."""
    if not samples:
        raise ValueError("no samples were written")
    return to_judged(ask, mean_agreement(ask.compare, ask.answer, samples), 1.0, usage)


def to_judged(ask: Judge, p: float, mass: float, usage: Usage) -> Judged:
    yes, no = ask.labels
    return Judged({yes: p, no: 1.0 - p}, mass, usage)
