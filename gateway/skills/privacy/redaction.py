"""Replaces private data in a text by placeholders, and restores the originals in answers."""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from threading import Lock

import orjson

from policies.schema.private import RESERVED

from .detection import Found, apart
from .json_escapes import Unescaped

LOOKALIKE = re.compile(r"<[A-Z][A-Z0-9_]{0,31}_[0-9]{1,9}>")
"""The form of a placeholder: `<EMAIL_ADDRESS_1>`. A request's own text of this form is itself replaced, so
that every placeholder that leaves is the gateway's and stands for one original."""
BEGUN = re.compile(r"<(?:[A-Z][A-Z0-9_]{0,41})?\Z")
QUOTED_LOOKALIKE = re.compile(r"(?:<|\\u003[cC])([A-Z][A-Z0-9_]{0,31}_[0-9]{1,9})(?:>|\\u003[eE])")
QUOTED_BEGUN = re.compile(
    r"(?:\\(?:u(?:0(?:0(?:3)?)?)?)?|(?:<|\\u003[cC])(?:[A-Z][A-Z0-9_]{0,41})?(?:\\(?:u(?:0(?:0(?:3)?)?)?)?)?)\Z"
)
LONGEST = 64
"""Maximum characters of a placeholder, including the escapes of its brackets."""
STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
"""A string in a JSON text."""

Find = Callable[[str], Sequence[Found]]


class Vault:
    """The placeholders of one exchange. Equal values share a placeholder."""

    def __init__(self) -> None:
        self.originals: dict[str, str] = {}
        """The original values by placeholder."""
        self._placeholders: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._lock = Lock()

    def placeholder(self, entity: str, value: str) -> str:
        """Return the value's placeholder, created at first use."""
        with self._lock:  # both calls of a hedged race may redact in threads
            if (known := self._placeholders.get(value)) is not None:
                return known
            self._counts[entity] = number = self._counts.get(entity, 0) + 1
            made = f"<{entity}_{number}>"
            self.originals[made] = value
            self._placeholders[value] = made
        return made

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of values with a placeholder, by entity."""
        return {entity: count for entity, count in self._counts.items() if entity != RESERVED}


def redacted(text: str, find: Find, vault: Vault, told: set[str]) -> str:
    """Replace what `find` finds by placeholders, also if it is written with JSON escapes. A number in JSON
    gets a quoted placeholder. The found entities are added to `entities`."""
    hidden = found_in(text, find)
    lookalikes = [
        Found(RESERVED, *match.span(), f"<{match[1]}>") for match in QUOTED_LOOKALIKE.finditer(text)
    ]
    if lookalikes:
        hidden = apart(text, [*hidden, *lookalikes])
    if not hidden:
        return text
    bare = _bare(text, hidden)
    out: list[str] = []
    at = 0
    for found in hidden:
        placeholder = vault.placeholder(found.entity, found.value)
        out += (text[at : found.start], f'"{placeholder}"' if found in bare else placeholder)
        at = found.end
    told |= {found.entity for found in hidden} - {RESERVED}
    return "".join([*out, text[at:]])


def found_in(text: str, find: Find) -> list[Found]:
    """Find private data in a text and in its unescaped form. In a JSON text only the unescaped form counts:
    an address after `\\n` does not begin with n."""
    if "\\" not in text or (meant := Unescaped(text)).text == text:
        return [*find(text)]
    found = [
        Found(one.entity, meant.at(one.start), meant.at(one.end), one.value)
        for one in found_in(meant.text, find)
    ]
    return found if _is_json(text) else apart(text, [*found, *find(text)])


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _bare(text: str, hidden: Sequence[Found]) -> set[Found]:
    """Return the findings that are JSON numbers outside of strings."""
    numbers = [found for found in hidden if found.value.isdigit()]
    if not numbers or not _is_json(text):
        return set()
    ends = [edge for string in STRING.finditer(text) for edge in string.span()]
    return {found for found in numbers if bisect_right(ends, found.start) % 2 == 0}


class Restoring:
    """A TextFilter that replaces placeholders by their originals, however the text is cut. Only exact
    placeholders are replaced. `quoted`: the text is JSON, and placeholders stand in its strings."""

    def __init__(self, originals: Mapping[str, str], *, quoted: bool = False) -> None:
        self._originals = originals
        self._whole, self._begun = (QUOTED_LOOKALIKE, QUOTED_BEGUN) if quoted else (LOOKALIKE, BEGUN)
        self._quoted = quoted
        self._held = ""

    @property
    def holding(self) -> bool:
        return bool(self._held)

    def feed(self, text: str) -> str:
        """Return the restored text, as far as it is decided."""
        text = self._held + text
        begun = self._begun.search(text, max(0, len(text) - LONGEST))
        cut = len(text) if begun is None else begun.start()
        self._held = text[cut:]
        return self._restored(text[:cut])

    def end(self) -> str:
        """Return the held text, which might have become a placeholder."""
        held, self._held = self._held, ""
        return self._restored(held)

    def _restored(self, text: str) -> str:
        return self._whole.sub(self._original, text)

    def _original(self, match: re.Match[str]) -> str:
        name = f"<{match[1]}>" if self._quoted else match[0]
        if (original := self._originals.get(name)) is None:
            return match[0]
        return orjson.dumps(original).decode()[1:-1] if self._quoted else original
