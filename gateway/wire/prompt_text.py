"""The prompt as text: for judges, and for prompt features."""

from collections.abc import Mapping
from typing import Any

from routers.strategies.difficulty import features

from .shapes import Body, Endpoint

MOST_READ = 6000
"""Characters from the conversation's end that a judge reads. Small models have small contexts."""


SYSTEM = frozenset({"system", "developer"})
"""Roles of the operator's messages."""


def conversation(body: Body, endpoint: Endpoint, but: frozenset[str] = frozenset()) -> str:
    """Return the prompt as text, without messages of `excluded_roles`, cut to its last `MAX_JUDGED_CHARS`
    characters."""
    if endpoint != "chat":
        return str(body.get("prompt"))[-MOST_READ:]
    messages = [message for message in body["messages"] if message["role"] not in but]
    turns = [(message["role"], spoken(message.get("content"))) for message in messages]
    if len(turns) == 1:
        return turns[0][1][-MOST_READ:]
    return "\n".join(f"{role}: {text}" for role, text in turns)[-MOST_READ:]


def asked(body: Body, endpoint: Endpoint) -> str:
    """Return the text of the last user message. Without one, return the end of the whole prompt."""
    if endpoint == "chat":
        said = [spoken(one.get("content")) for one in body["messages"] if one["role"] == "user"]
        if said and said[-1]:
            return said[-1]
    return conversation(body, endpoint)


def spoken(content: Any) -> str:
    """Return the text of a message's content, which is a string or a list of parts."""
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return content if isinstance(content, str) else ""


def measured(body: Body, endpoint: Endpoint) -> Mapping[str, float]:
    """Compute the prompt's features, for routers that decide before generation."""
    if endpoint != "chat":
        prompt = str(body.get("prompt"))
        return features(prompt, len(prompt), 1)
    turns = [(message["role"], spoken(message.get("content"))) for message in body["messages"]]
    asked = [text for role, text in turns if role == "user"]
    return features(asked[-1] if asked else turns[-1][1], sum(len(text) for _, text in turns), len(asked))


def measured_again(body: Body) -> Mapping[str, float]:
    """Compute the prompt's features from a recorded request body alone."""
    return measured(body, "chat" if "messages" in body else "completions")
