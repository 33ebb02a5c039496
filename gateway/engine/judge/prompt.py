"""Builds a judge's prompt, and parses the labels' probabilities from the alternatives of one token."""

import re
from collections.abc import Sequence

import orjson

from gateway.skills.compress.surprisal import TokenSurprisal
from gateway.wire.body_types import Body, Endpoint
from gateway.wire.prompt_text import MAX_JUDGED_CHARS, SYSTEM_ROLES, find_last_user_text, render_conversation
from routers.confidence.signals import to_probability
from routers.plan import Judge, Judged, Usage

MAX_ALTERNATIVES = 20
"""Maximum number of alternatives of a token: OpenAI's and vLLM's servers return no more."""

MAX_CONVERSATION_CHARS = 2000
"""Characters of the conversation's end that a judge of a passage reads. It reads twice as many of the passage."""

MAX_PASSAGE_CHARS = 1500
"""Characters of a passage that are read before the question. Both fit into one batch of the local engine."""

PLACEHOLDERS = re.compile(r"\{(request|messages|answer|passage|context|sample)\}")


def build_question(
    ask: Judge, body: Body, endpoint: Endpoint, model: str, top: int, passage: str | None = None
) -> Body:
    """Return the chat request for a judgement. It asks for the `top` likeliest alternatives of the first token."""
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
    """Return the text; only its two ends if it has more than MAX_JUDGED_CHARS characters."""
    return (
        text
        if len(text) <= MAX_JUDGED_CHARS
        else f"{text[: MAX_JUDGED_CHARS // 2]} [...] {text[-MAX_JUDGED_CHARS // 2 :]}"
    )


def build_likelihood_text(ask: Judge, body: Body, passage: str | None, endpoint: Endpoint) -> tuple[str, str]:
    """Return a context (passage or answer), and the end of the user's question, whose likelihood is to be read."""
    before, _, _ = ask.question.partition("{request}")
    values = {"answer": ask.answer, "passage": (passage or "")[:MAX_PASSAGE_CHARS]}
    context = PLACEHOLDERS.sub(lambda place: values[place[1]], before)
    text = find_last_user_text(body, endpoint)[-MAX_CONVERSATION_CHARS:].strip()
    return context.rstrip(), f" {text}"


def to_likelihood(surprisals: Sequence[TokenSurprisal], tokens_read: int) -> Judged:
    """Return the geometric mean probability of a text's tokens, as the label `request`.

    `tokens_read` is the number of prompt tokens, for the usage. Raises ValueError if no token has a log-probability.
    """
    logprobs = [token.logprob for token in surprisals if token.logprob is not None]
    if not logprobs:
        raise ValueError("there is nothing to read")
    return Judged({"request": to_probability(sum(logprobs) / len(logprobs))}, 1.0, Usage(tokens_read))


def parse_judgement(ask: Judge, answer: bytes, usage: Usage) -> Judged:
    """Return the labels' probabilities, from the alternatives of the first token.

    An alternative counts for a label if it equals the label, or begins this label and no other; case and surrounding
    space do not matter. Raises ValueError if no alternative counts.
    """
    alternatives = orjson.loads(answer)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    mass = dict.fromkeys(ask.labels, 0.0)
    for alternative in alternatives:
        label = _match_label(alternative["token"], ask.labels)
        if label is not None and alternative["logprob"] is not None:
            mass[label] += to_probability(alternative["logprob"])
    total = sum(mass.values())
    if not total:
        raise ValueError(f"none of {', '.join(ask.labels)} is among the likeliest tokens")
    return Judged({label: part / total for label, part in mass.items()}, min(1.0, total), usage)


def _match_label(token: str, labels: tuple[str, ...]) -> str | None:
    text = token.strip().casefold()
    if not text:
        return None
    exact = [label for label in labels if label.casefold() == text]
    prefixed = [label for label in labels if label.casefold().startswith(text)]
    return exact[0] if exact else prefixed[0] if len(prefixed) == 1 else None
