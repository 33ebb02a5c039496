"""A judgement by samples: the request itself is written again, several times in one call, and compared."""

import orjson

from gateway.wire import requests
from gateway.wire.shapes import Body, Endpoint
from routers.judges.agreement import agreement
from routers.plan import Judge, Judged, Usage

OF_THE_REPLY = frozenset(
    {"stream", "stream_options", "n", "best_of", "echo", "logprobs", "top_logprobs", "seed", "prediction"}
)
"""Fields that ask for a certain reply, and not for what it says. With a seed all samples would be one."""

SPARE = 16
"""Tokens that a sample may have beside as many as the answer."""


def samples_body(ask: Judge, body: Body, endpoint: Endpoint, model: str, allowed: int | None) -> Body:
    """The request that has the samples written; each may be somewhat longer than the answer, and have `allowed` tokens
    at most."""
    out = {key: value for key, value in body.items() if key not in OF_THE_REPLY}
    out = requests.outgoing(out, endpoint, model, stream=False, watched=False)
    out = requests.limited(out, endpoint, most_tokens(ask.answer, allowed))
    return out | {"n": ask.samples, "temperature": out.get("temperature") or 1.0}


def most_tokens(answer: str, allowed: int | None = None) -> int:
    """A token has three bytes or more, nearly always."""
    needed = len(answer.encode()) // 3 + SPARE
    return needed if allowed is None else max(1, min(needed, allowed))


def samples_of(answer: bytes, begun: str = "") -> list[str]:
    """The samples' texts, without the begun answer that some servers repeat. Raises for another shape than
    OpenAI's."""
    choices = orjson.loads(answer)["choices"]
    texts = [(one["message"]["content"] if "message" in one else one["text"]) or "" for one in choices]
    return [text.removeprefix(begun) for text in texts]


def agreed(ask: Judge, samples: list[str], usage: Usage) -> Judged:
    """How far they agree with the answer, where telling that takes no judge."""
    if not samples:
        raise ValueError("no samples were written")
    return told(ask, agreement(ask.compare, ask.answer, samples), 1.0, usage)


def told(ask: Judge, p: float, mass: float, usage: Usage) -> Judged:
    yes, no = ask.labels
    return Judged({yes: p, no: 1.0 - p}, mass, usage)
