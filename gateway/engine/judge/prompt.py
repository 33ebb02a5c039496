"""A Judge, asked of a chat endpoint: one token, and the probabilities of the labels among its alternatives."""

import re
from collections.abc import Sequence
from math import exp

import orjson

from gateway.skills.compress.surprisal import Surprise
from gateway.wire.prompt_text import MOST_READ, SYSTEM, asked, conversation
from gateway.wire.shapes import Body, Endpoint
from routers.plan import Judge, Judged, Usage

MOST_TOP = 20
"""Alternatives that a judge reads: OpenAI's and vLLM's servers give no more."""


MOST_BESIDE = 2000
"""Characters of the conversation's end that a judge of a passage reads, and twice as many of the passage."""

MOST_BEFORE = 1500
"""Characters of a passage that is read before the question: with it, what the local engine reads at once."""

PLACES = re.compile(r"\{(request|messages|answer|passage|context|sample)\}")


def question_body(
    ask: Judge, body: Body, endpoint: Endpoint, model: str, top: int, passage: str | None = None
) -> Body:
    """The request that puts the question to a model, with the `top` likeliest alternatives of its first token."""
    told = {
        "request": conversation(body, endpoint),
        "messages": conversation(body, endpoint, but=SYSTEM),
        "answer": ask.answer,
        "passage": "",
        "context": shortened(ask.context),
        "sample": shortened(ask.sample),
    }
    if passage is not None:
        told |= {"request": told["request"][-MOST_BESIDE:], "passage": passage[: 2 * MOST_BESIDE]}
    return {
        "model": model,
        "messages": [{"role": "user", "content": PLACES.sub(lambda place: told[place[1]], ask.question)}],
        "max_tokens": 1,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": min(top, MOST_TOP),
    }


def shortened(text: str) -> str:
    """Both ends of what a small model could not read whole."""
    return text if len(text) <= MOST_READ else f"{text[: MOST_READ // 2]} [...] {text[-MOST_READ // 2 :]}"


def read_text(ask: Judge, body: Body, passage: str | None, endpoint: Endpoint) -> tuple[str, str]:
    """What is read for its likelihood, after what: the end of what the user asks."""
    before, _, _ = ask.question.partition("{request}")
    told = {"answer": ask.answer, "passage": (passage or "")[:MOST_BEFORE]}
    given = PLACES.sub(lambda place: told[place[1]], before)
    text = asked(body, endpoint)[-MOST_BESIDE:].strip()
    return given.rstrip(), f" {text}"


def likelihood(found: Sequence[Surprise], read: int) -> Judged:
    """Of a text's tokens; `read` is how many were read for it. Raises ValueError for a text without any."""
    logprobs = [one.logprob for one in found if one.logprob is not None]
    if not logprobs:
        raise ValueError("there is nothing to read")
    return Judged({"request": exp(sum(logprobs) / len(logprobs))}, 1.0, Usage(read))


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
