"""Joins content in parts, as Mistral's reasoning models send it, to the texts that OpenAI's answers have."""

from typing import Any

from gateway.wire.body_types import Body

TEXT_KINDS = frozenset({"text", "output_text"})
REASONING_KINDS = frozenset({"thinking", "reasoning", "reasoning_text"})
SILENT_KINDS = frozenset({"reference"})
"""Parts that mark a place of the text, and have none of their own."""


def join_parts(message: Body) -> bool:
    """Replace a message's list of content parts: text parts are its content, thinking parts its reasoning.

    Returns False, and changes nothing, if a part is neither, such as an image.
    """
    texts: list[str] = []
    reasoning: list[str] = []
    for part in message["content"]:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str) or kind in TEXT_KINDS:
            texts.append(_read_text(part))
        elif kind in REASONING_KINDS:
            reasoning.append(_read_text(part))
        elif kind not in SILENT_KINDS:
            return False
    message["content"] = "".join(texts)
    if reasoning:
        message["reasoning_content"] = "".join([_read_text(message.get("reasoning_content")), *reasoning])
    return True


def _read_text(part: Any) -> str:
    """Return the text of a part. A thinking part may have parts of its own."""
    if isinstance(part, list):
        return "".join(map(_read_text, part))
    if isinstance(part, dict):
        return _read_text(part.get("text") or part.get("thinking"))
    return part if isinstance(part, str) else ""
