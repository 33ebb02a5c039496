"""A Judge, asked of a chat endpoint: one token, and the probabilities of the labels among its alternatives."""

import re
from collections.abc import Sequence
from math import exp

import orjson

from gateway.skills.compress.surprisal import TokenSurprisal
from gateway.wire.body_types import Body, Endpoint
from gateway.wire.prompt_text import MAX_JUDGED_CHARS, SYSTEM_ROLES, find_last_user_text, render_conversation
from routers.plan import Judge, Judged, Usage

MAX_ALTERNATIVES = 20
"""Alternatives that a judge reads: OpenAI's and vLLM's servers give no more."""


MAX_CONVERSATION_CHARS = 2000
"""Characters of the conversation's end that a judge of a passage reads, and twice as many of the passage."""

MAX_PASSAGE_CHARS = 1500
"""Characters of a passage that is read before the question: with it, what the local engine reads at once."""

PLACEHOLDERS = re.compile(r"\{(request|messages|answer|passage|context|sample)\}")


def build_question(
    ask: Judge, body: Body, endpoint: Endpoint, model: str, top: int, passage: str | None = None
) -> Body:
    """The request that puts the question to a model, with the `top` likeliest alternatives of its first token."""
    values = {
        "request": render_conversation(body, endpoint),
        "messages": render_conversation(body, endpoint, excluded_roles=SYSTEM_ROLES),
        "answer": ask.answer,
        "passage": "",
        "context": shorten(ask.context),
        "sample": shorten(ask.sample),
    }
    if passage is not None:
        values |= {
            "request": values["request"][-MAX_CONVERSATION_CHARS:],
            "passage": passage[: 2 * MAX_CONVERSATION_CHARS],
        }
    return {
        "model": model,
        "messages": [
            {"role": "user", "content": PLACEHOLDERS.sub(lambda place: values[place[1]], ask.question)}
        ],
        "max_tokens": 1,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": min(top, MAX_ALTERNATIVES),
    }


def shorten(text: str) -> str:
    """Both ends of what a small model could not read whole."""
    return (
        text
        if len(text) <= MAX_JUDGED_CHARS
        else f"{text[: MAX_JUDGED_CHARS // 2]} [...] {text[-MAX_JUDGED_CHARS // 2 :]}"
    )


def build_likelihood_text(ask: Judge, body: Body, passage: str | None, endpoint: Endpoint) -> tuple[str, str]:
    """What is read for its likelihood, after what: the end of what the user asks."""
    before, _, _ = ask.question.partition("{request}")
    values = {"answer": ask.answer, "passage": (passage or "")[:MAX_PASSAGE_CHARS]}
    given = PLACEHOLDERS.sub(lambda place: values[place[1]], before)
    text = find_last_user_text(body, endpoint)[-MAX_CONVERSATION_CHARS:].strip()
    return given.rstrip(), f" {text}"


def to_likelihood(found: Sequence[TokenSurprisal], read: int) -> Judged:
    """Of a text's tokens; `read` is how many were read for it. Raises ValueError for a text without any."""
    logprobs = [one.logprob for one in found if one.logprob is not None]
    if not logprobs:
        raise ValueError("there is nothing to read")
    return Judged({"request": exp(sum(logprobs) / len(logprobs))}, 1.0, Usage(read))


def parse_judgement(ask: Judge, answer: bytes, usage: Usage) -> Judged:
    """What the first token's alternatives say of the labels. An alternative counts for a label that it is, or
    that it alone begins, in any case and after any space. Raises ValueError where none does."""
    alternatives = orjson.loads(answer)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    mass = dict.fromkeys(ask.labels, 0.0)
    for alternative in alternatives:
        label = _match_label(alternative["token"], ask.labels)
        if label is not None:
            mass[label] += exp(alternative["logprob"])
    total = sum(mass.values())
    if not total:
        raise ValueError(f"none of {', '.join(ask.labels)} is among the likeliest tokens")
    return Judged({label: part / total for label, part in mass.items()}, min(1.0, total), usage)


def _match_label(token: str, labels: tuple[str, ...]) -> str | None:
    text = token.strip().casefold()
    if not text:
        return None
    exact = [label for label in labels if label.casefold() == text]
    begun = [label for label in labels if label.casefold().startswith(text)]
    return exact[0] if exact else begun[0] if len(begun) == 1 else None
