"""Scans all strings and keys of a body for private data, at any depth."""

import re
from collections.abc import Callable
from typing import Any

import orjson

from gateway.wire.body_types import Body
from policies.schema.private import Private

from .detection import ScanTimeout

TEXT_PART_TYPES = frozenset({"text", "refusal"})
"""Types of message parts that contain only text."""
TOKEN_ID_FIELDS = frozenset({"prompt", "input", "tokens"})
"""Fields that may hold a text as token ids."""
EMBEDDINGS_FIELD = "prompt_embeds"
"""The field that may hold a prompt as embeddings."""
OWN_FIELD = "smallfirst"
"""The gateway's own field. Of it, only the passages in `context` ever leave."""
PART_PATH = re.compile(r"messages\[\d+\]\.content\[\d+\]")
NAME_PATH = re.compile(r"messages\[\d+\]\.(?:name|tool_call_id|tool_calls\[\d+\]\.id)")
"""Paths at which servers reject brackets. Placeholders have none there."""
PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""Keys that an error message may quote."""
MIN_PRIVATE_NUMBER = 100_000_000
"""Smaller numbers identify nobody."""
MAX_PRIVATE_NUMBER = 10**40
"""Larger numbers are longer than any private data."""
DATA_KEYS = frozenset({"data", "file_data"})
"""Keys of attachments that hold their data."""
MAX_NAMED_PLACES = 8
"""Maximum number of places that a message names."""

Hide = Callable[[str], tuple[str, frozenset[str]]]
"""Returns a text with placeholders, and the entities found in it. Raises ScanTimeout."""


class BodyScan:
    """The result of a scan. `body` has placeholders. `entities_by_path` maps paths to entities, `unscannable`
    lists paths that cannot be scanned. `timed_out`: some of these took too long."""

    def __init__(self, private: Private, body: Body, hide: Hide) -> None:
        self.entities_by_path: dict[str, set[str]] = {}
        self.unscannable: list[str] = []
        self.timed_out = False
        self._private = private
        self._hide = hide
        self.body = body
        try:
            self.body = dict(self._scan_field(*item) for item in body.items())
        except RecursionError:
            self.unscannable.append("what is nested too deep")

    @property
    def must_stay_local(self) -> bool:
        """Whether no cloud may see the body."""
        return bool(self.unscannable) or (self._private.action != "redact" and bool(self.entities_by_path))

    def describe(self) -> str:
        """Describe what was found where, without quoting any of it."""
        places = [f"{where} holds {', '.join(sorted(what))}" for where, what in self.entities_by_path.items()]
        places += [f"{where} can't be looked into" for where in self.unscannable]
        more = f", and {len(places) - MAX_NAMED_PLACES} more" if len(places) > MAX_NAMED_PLACES else ""
        return ", ".join(places[:MAX_NAMED_PLACES]) + more

    def _scan_field(self, key: str, value: Any) -> tuple[str, Any]:
        """Scan a top-level field."""
        if value is not None and (
            key == EMBEDDINGS_FIELD or (key in TOKEN_ID_FIELDS and _has_numbers(value))
        ):
            self.unscannable.append(key)
            return key, value
        if key == "model":  # each upstream gets its own
            return key, value
        hidden, name = self._scan_key(key, "the body")
        scanned = self._scan_value(value, name)
        if key == OWN_FIELD:
            for place in [
                place
                for place in self.entities_by_path
                if OWN_FIELD in place and f"{OWN_FIELD}.context" not in place
            ]:
                del self.entities_by_path[place]
        return hidden, scanned

    def _scan_value(self, value: Any, path: str) -> Any:
        if isinstance(value, str):
            return self._scan_string(value, path)
        if isinstance(value, list):
            return [self._scan_value(one, f"{path}[{place}]") for place, one in enumerate(value)]
        if isinstance(value, dict):
            return self._scan_object(value, path)
        if isinstance(value, int | float) and MIN_PRIVATE_NUMBER <= abs(value) < MAX_PRIVATE_NUMBER:
            self._scan_number(str(abs(int(value))), path)
        if isinstance(value, orjson.Fragment):  # an integer of more than 64 bits
            self._scan_number(orjson.dumps(value).decode().removeprefix("-"), path)
        return value

    def _scan_number(self, digits: str, path: str) -> None:
        """Scan a number, of a float what is before the point, beside its key: `phone: 2125551234`. A placeholder
        cannot replace it."""
        text = f"{path.rpartition('.')[2]}: {digits}"
        if self._scan_string(text, path) != text:
            self.unscannable.append(path)

    def _scan_object(self, value: dict[str, Any], path: str) -> dict[str, Any]:
        attached = PART_PATH.fullmatch(path) is not None and value.get("type") not in TEXT_PART_TYPES
        if attached and self._private.attachments == "private":
            self.unscannable.append(path)
            return value
        return self._scan_items(value, path, self._scan_attachment if attached else self._scan_value)

    def _scan_items(
        self, value: dict[str, Any], path: str, scan: Callable[[Any, str], Any]
    ) -> dict[str, Any]:
        scanned = {}
        for key, one in value.items():
            hidden, name = self._scan_key(key, path)
            scanned[hidden] = scan(one, f"{path}.{name}")
        return scanned

    def _scan_attachment(self, value: Any, path: str) -> Any:
        """Scan an image, audio or a file that may pass. Its data stays as it is."""
        if isinstance(value, dict):
            return self._scan_items(value, path, self._scan_attachment)
        key = path.rpartition(".")[2]
        if isinstance(value, str) and (value.startswith("data:") or key in DATA_KEYS):
            return value
        return self._scan_value(value, path)

    def _scan_key(self, key: str, path: str) -> tuple[str, str]:
        """Scan a key. Return the key to send, and the key for messages."""
        hidden = self._scan_string(key, f"a key of {path}")
        return hidden, key if hidden == key and PLAIN_KEY.fullmatch(key) else "*"

    def _scan_string(self, text: str, path: str) -> str:
        try:
            hidden, entities = self._hide(text)
        except ScanTimeout:
            self.timed_out = True
            self.unscannable.append(path)
            return text
        if entities:
            self.entities_by_path.setdefault(path, set()).update(entities)
        return (
            hidden.replace("<", "").replace(">", "")
            if hidden != text and NAME_PATH.fullmatch(path)
            else hidden
        )


def _has_numbers(value: Any) -> bool:
    """Whether a list, or a list in it, contains numbers."""
    return isinstance(value, int | float) or (isinstance(value, list) and any(map(_has_numbers, value)))
