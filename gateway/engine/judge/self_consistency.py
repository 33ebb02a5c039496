"""A judgement by samples: the request itself is written again, several times in one call, and compared."""

import orjson

from gateway.wire import requests
from gateway.wire.body_types import Body, Endpoint
from routers.judges.agreement import mean_agreement
from routers.plan import Judge, Judged, Usage

REPLY_FIELDS = frozenset(
    {"stream", "stream_options", "n", "best_of", "echo", "logprobs", "top_logprobs", "seed", "prediction"}
)
"""Fields that ask for a certain reply, and not for what it says. With a seed all samples would be one."""

EXTRA_TOKENS = 16
"""Tokens that a sample may have beside as many as the answer."""


def build_samples_request(
    ask: Judge, body: Body, endpoint: Endpoint, model: str, allowed: int | None
) -> Body:
    """The request that has the samples written; each may be somewhat longer than the answer, and have `allowed` tokens
    at most."""
    out = {key: value for key, value in body.items() if key not in REPLY_FIELDS}
    out = requests.build_upstream_request(out, endpoint, model, stream=False, needs_logprobs=False)
    out = requests.limit_max_tokens(out, endpoint, max_sample_tokens(ask.answer, allowed))
    return out | {"n": ask.samples, "temperature": out.get("temperature") or 1.0}


def max_sample_tokens(answer: str, allowed: int | None = None) -> int:
    """A token has three bytes or more, nearly always."""
    needed = len(answer.encode()) // 3 + EXTRA_TOKENS
    return needed if allowed is None else max(1, min(needed, allowed))


def parse_samples(answer: bytes, begun: str = "") -> list[str]:
    """The samples' texts, without the begun answer that some servers repeat. Raises for another shape than
    OpenAI's."""
    choices = orjson.loads(answer)["choices"]
    texts = [(one["message"]["content"] if "message" in one else one["text"]) or "" for one in choices]
    return [text.removeprefix(begun) for text in texts]


def measure_agreement(ask: Judge, samples: list[str], usage: Usage) -> Judged:
    """How far they agree with the answer, where telling that takes no judge."""
    if not samples:
        raise ValueError("no samples were written")
    return to_judged(ask, mean_agreement(ask.compare, ask.answer, samples), 1.0, usage)


def to_judged(ask: Judge, p: float, mass: float, usage: Usage) -> Judged:
    yes, no = ask.labels
    return Judged({yes: p, no: 1.0 - p}, mass, usage)
