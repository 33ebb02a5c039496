"""A Judge, asked of a chat endpoint: one token, and the probabilities of the labels among its alternatives."""

from math import exp

import orjson

from gateway.prompt import conversation
from gateway.wire import Body, Endpoint
from routers.plan import Judge, Judged, Usage

MOST_TOP = 20
"""Alternatives that a judge reads: OpenAI's and vLLM's servers give no more."""


def question_body(ask: Judge, body: Body, endpoint: Endpoint, model: str, top: int) -> Body:
    """The request that puts the question to a model, with the `top` likeliest alternatives of its first token."""
    question = ask.question.replace("{answer}", ask.answer).replace("{request}", conversation(body, endpoint))
    return {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 1,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": min(top, MOST_TOP),
    }


def judged(ask: Judge, answer: bytes, usage: Usage) -> Judged:
    """What the first token's alternatives say of the labels. An alternative counts for a label that it is, or
    that it alone begins, in any case and after any space. Raises ValueError where none does."""
    found = orjson.loads(answer)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    mass = dict.fromkeys(ask.labels, 0.0)
    for alternative in found:
        label = _label(alternative["token"], ask.labels)
        if label is not None:
            mass[label] += exp(alternative["logprob"])
    total = sum(mass.values())
    if not total:
        raise ValueError(f"none of {', '.join(ask.labels)} is among the likeliest tokens")
    return Judged({label: part / total for label, part in mass.items()}, min(1.0, total), usage)


def _label(token: str, labels: tuple[str, ...]) -> str | None:
    text = token.strip().casefold()
    if not text:
        return None
    exact = [label for label in labels if label.casefold() == text]
    begun = [label for label in labels if label.casefold().startswith(text)]
    return exact[0] if exact else begun[0] if len(begun) == 1 else None
