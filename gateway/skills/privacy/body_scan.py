"""Scans all strings and keys of a body for private data, at any depth."""

import re
from collections.abc import Callable
from typing import Any

from gateway.wire.shapes import Body
from policies.schema.private import Private

from .detection import Undecided

TEXTUAL = frozenset({"text", "refusal"})
"""Types of message parts that contain only text."""
IDS = frozenset({"prompt", "input", "tokens"})
"""Fields that may hold a text as token ids."""
EMBEDS = "prompt_embeds"
"""The field that may hold a prompt as embeddings."""
OURS = "smallfirst"
"""The gateway's own field. Of it, only the passages in `context` ever leave."""
PART = re.compile(r"messages\[\d+\]\.content\[\d+\]")
NAME = re.compile(r"messages\[\d+\]\.(?:name|tool_call_id|tool_calls\[\d+\]\.id)")
"""Paths at which servers reject brackets. Placeholders have none there."""
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""Keys that an error message may quote."""
SHORTEST = 100_000_000
"""Smaller numbers identify nobody."""
MOST_TOLD = 8
"""Maximum number of places that a message names."""

Hide = Callable[[str], tuple[str, frozenset[str]]]
"""Returns a text with placeholders, and the entities found in it. Raises ScanTimeout."""


class Looked:
    """The result of a scan. `body` has placeholders. `entities_by_path` maps paths to entities, `unscannable`
    lists paths that cannot be scanned. `timed_out`: some of these took too long."""

    def __init__(self, private: Private, body: Body, hide: Hide) -> None:
        self.found: dict[str, set[str]] = {}
        self.unseen: list[str] = []
        self.undecided = False
        self._private = private
        self._hide = hide
        self.body = body
        try:
            self.body = dict(self._field(*item) for item in body.items())
        except RecursionError:
            self.unseen.append("what is nested too deep")

    @property
    def stays(self) -> bool:
        """Whether no cloud may see the body."""
        return bool(self.unseen) or (self._private.action != "redact" and bool(self.found))

    def where(self) -> str:
        """Describe what was found where, without quoting any of it."""
        told = [f"{where} holds {', '.join(sorted(what))}" for where, what in self.found.items()]
        told += [f"{where} can't be looked into" for where in self.unseen]
        more = f", and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
        return ", ".join(told[:MOST_TOLD]) + more

    def _field(self, key: str, value: Any) -> tuple[str, Any]:
        """Scan a top-level field. Numbers are settings there, unless they encode a text."""
        if value is not None and (key == EMBEDS or (key in IDS and _has_numbers(value))):
            self.unseen.append(key)
            return key, value
        if key == "model" or not isinstance(value, str | list | dict):
            return key, value
        hidden, name = self._key(key, "the body")
        seen = self._value(value, name)
        if key == OURS:
            for place in [place for place in self.found if OURS in place and f"{OURS}.context" not in place]:
                del self.found[place]
        return hidden, seen

    def _value(self, value: Any, path: str) -> Any:
        if isinstance(value, str):
            return self._string(value, path)
        if isinstance(value, list):
            return [self._value(one, f"{path}[{place}]") for place, one in enumerate(value)]
        if isinstance(value, dict):
            return self._object(value, path)
        if isinstance(value, int) and abs(value) >= SHORTEST and self._string(str(value), path) != str(value):
            self.unseen.append(path)  # a placeholder cannot replace a number
        return value

    def _object(self, value: dict[str, Any], path: str) -> dict[str, Any]:
        attached = PART.fullmatch(path) is not None and value.get("type") not in TEXTUAL
        if attached and self._private.attachments == "private":
            self.unseen.append(path)
            return value
        return self._items(value, path, self._attached if attached else self._value)

    def _items(self, value: dict[str, Any], path: str, through: Callable[[Any, str], Any]) -> dict[str, Any]:
        found = {}
        for key, one in value.items():
            hidden, name = self._key(key, path)
            found[hidden] = through(one, f"{path}.{name}")
        return found

    def _attached(self, value: Any, path: str) -> Any:
        """Scan an image, audio or a file that may pass. Its data stays as it is."""
        if isinstance(value, dict):
            return self._items(value, path, self._attached)
        if isinstance(value, str) and (value.startswith("data:") or path.endswith(("data", ".file_data"))):
            return value
        return self._value(value, path)

    def _key(self, key: str, path: str) -> tuple[str, str]:
        """Scan a key. Return the key to send, and the key for messages."""
        hidden = self._string(key, f"a key of {path}")
        return hidden, key if hidden == key and KEY.fullmatch(key) else "*"

    def _string(self, text: str, path: str) -> str:
        try:
            hidden, entities = self._hide(text)
        except Undecided:
            self.undecided = True
            self.unseen.append(path)
            return text
        if entities:
            self.found.setdefault(path, set()).update(entities)
        return hidden.replace("<", "").replace(">", "") if hidden != text and NAME.fullmatch(path) else hidden


def _has_numbers(value: Any) -> bool:
    """Whether a list, or a list in it, contains numbers."""
    return isinstance(value, int | float) or (isinstance(value, list) and any(map(_has_numbers, value)))
