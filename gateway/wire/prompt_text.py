"""The prompt as text: for judges, and for prompt features."""

from collections.abc import Mapping
from typing import Any

from routers.strategies.difficulty import measure_features

from .body_types import Body, Endpoint

MAX_JUDGED_CHARS = 6000
"""Characters from the conversation's end that a judge reads. Small models have small contexts."""


SYSTEM_ROLES = frozenset({"system", "developer"})
"""Roles of the operator's messages."""


def render_conversation(body: Body, endpoint: Endpoint, excluded_roles: frozenset[str] = frozenset()) -> str:
    """Return the prompt as text, without messages of `excluded_roles`, cut to its last `MAX_JUDGED_CHARS`
    characters."""
    if endpoint != "chat":
        return str(body.get("prompt"))[-MAX_JUDGED_CHARS:]
    messages = [message for message in body["messages"] if message["role"] not in excluded_roles]
    role_texts = [(message["role"], extract_text(message.get("content"))) for message in messages]
    if len(role_texts) == 1:
        return role_texts[0][1][-MAX_JUDGED_CHARS:]
    return "\n".join(f"{role}: {text}" for role, text in role_texts)[-MAX_JUDGED_CHARS:]


def find_last_user_text(body: Body, endpoint: Endpoint) -> str:
    """Return the text of the last user message. Without one, return the end of the whole prompt."""
    if endpoint == "chat":
        user_texts = [extract_text(one.get("content")) for one in body["messages"] if one["role"] == "user"]
        if user_texts and user_texts[-1]:
            return user_texts[-1]
    return render_conversation(body, endpoint)


def extract_text(content: Any) -> str:
    """Return the text of a message's content, which is a string or a list of parts."""
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return content if isinstance(content, str) else ""


def extract_prompt_features(body: Body, endpoint: Endpoint) -> Mapping[str, float]:
    """Compute the prompt's features, for routers that decide before generation."""
    if endpoint != "chat":
        prompt = str(body.get("prompt"))
        return measure_features(prompt, len(prompt), 1)
    role_texts = [(message["role"], extract_text(message.get("content"))) for message in body["messages"]]
    user_texts = [text for role, text in role_texts if role == "user"]
    return measure_features(
        user_texts[-1] if user_texts else role_texts[-1][1],
        sum(len(text) for _, text in role_texts),
        len(user_texts),
    )


def extract_recorded_features(body: Body) -> Mapping[str, float]:
    """Compute the prompt's features from a recorded request body alone."""
    return extract_prompt_features(body, "chat" if "messages" in body else "completions")
