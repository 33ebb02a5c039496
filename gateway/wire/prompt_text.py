"""What was asked, as text: for judges, and for what is measured of a prompt."""

from collections.abc import Mapping
from typing import Any

from routers.strategies.difficulty import features

from .shapes import Body, Endpoint

MOST_READ = 6000
"""Characters of the conversation's end that a judge reads: small models have small contexts."""


SYSTEM = frozenset({"system", "developer"})
"""Roles whose messages are the operator's."""


def conversation(body: Body, endpoint: Endpoint, but: frozenset[str] = frozenset()) -> str:
    """What was asked, as text, without the messages of the roles `but`; the end of it where it is long."""
    if endpoint != "chat":
        return str(body.get("prompt"))[-MOST_READ:]
    messages = [message for message in body["messages"] if message["role"] not in but]
    turns = [(message["role"], spoken(message.get("content"))) for message in messages]
    if len(turns) == 1:
        return turns[0][1][-MOST_READ:]
    return "\n".join(f"{role}: {text}" for role, text in turns)[-MOST_READ:]


def asked(body: Body, endpoint: Endpoint) -> str:
    """What the user said last; of a body without a user, its end."""
    if endpoint == "chat":
        said = [spoken(one.get("content")) for one in body["messages"] if one["role"] == "user"]
        if said and said[-1]:
            return said[-1]
    return conversation(body, endpoint)


def spoken(content: Any) -> str:
    """The text of a message's content, whichever of its forms it has."""
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return content if isinstance(content, str) else ""


def measured(body: Body, endpoint: Endpoint) -> Mapping[str, float]:
    """The prompt's features, for routers that decide before anything is generated."""
    if endpoint != "chat":
        prompt = str(body.get("prompt"))
        return features(prompt, len(prompt), 1)
    turns = [(message["role"], spoken(message.get("content"))) for message in body["messages"]]
    asked = [text for role, text in turns if role == "user"]
    return features(asked[-1] if asked else turns[-1][1], sum(len(text) for _, text in turns), len(asked))


def measured_again(body: Body) -> Mapping[str, float]:
    """The features of a recorded request's prompt, by its body alone."""
    return measured(body, "chat" if "messages" in body else "completions")
