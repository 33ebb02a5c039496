"""Placeholders for what is private in a text, and the originals back in their places."""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from threading import Lock

import orjson

from policies.schema.private import RESERVED

from .detection import Found, apart
from .json_escapes import Unescaped

LOOKALIKE = re.compile(r"<[A-Z][A-Z0-9_]{0,31}_[0-9]{1,9}>")
"""What a placeholder looks like: `<EMAIL_ADDRESS_1>`. Text of a request's own that looks like one gets one itself: so
each that leaves is ours, and each that comes back stands for one original."""
BEGUN = re.compile(r"<(?:[A-Z][A-Z0-9_]{0,41})?\Z")
QUOTED_LOOKALIKE = re.compile(r"(?:<|\\u003[cC])([A-Z][A-Z0-9_]{0,31}_[0-9]{1,9})(?:>|\\u003[eE])")
QUOTED_BEGUN = re.compile(
    r"(?:\\(?:u(?:0(?:0(?:3)?)?)?)?|(?:<|\\u003[cC])(?:[A-Z][A-Z0-9_]{0,41})?(?:\\(?:u(?:0(?:0(?:3)?)?)?)?)?)\Z"
)
LONGEST = 64
"""Characters of a placeholder, the escapes of its brackets included, at the most."""
STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
"""A string of a JSON text."""

Find = Callable[[str], Sequence[Found]]


class Vault:
    """The placeholders of one exchange: equal values have the same one."""

    def __init__(self) -> None:
        self.originals: dict[str, str] = {}
        """The values, by their placeholders."""
        self._placeholders: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._lock = Lock()

    def placeholder(self, entity: str, value: str) -> str:
        """The value's, made where it has none yet."""
        with self._lock:  # two legs of a race may rewrite in threads
            if (known := self._placeholders.get(value)) is not None:
                return known
            self._counts[entity] = number = self._counts.get(entity, 0) + 1
            made = f"<{entity}_{number}>"
            self.originals[made] = value
            self._placeholders[value] = made
        return made

    @property
    def counts(self) -> Mapping[str, int]:
        """How many values have one, by what they are."""
        return {entity: count for entity, count in self._counts.items() if entity != RESERVED}


def redacted(text: str, find: Find, vault: Vault, told: set[str]) -> str:
    """The text with placeholders for what is found in it, also where that is written with JSON's escapes. A number in
    JSON gets a placeholder in quotes. `told` gets the entities."""
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
    """What is found in a text, and in what it means with its escapes undone. Of text that is JSON, what it means
    counts alone: an address after `\\n` does not begin with n."""
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
    """Those that are numbers of JSON, not within a string."""
    numbers = [found for found in hidden if found.value.isdigit()]
    if not numbers or not _is_json(text):
        return set()
    ends = [edge for string in STRING.finditer(text) for edge in string.span()]
    return {found for found in numbers if bisect_right(ends, found.start) % 2 == 0}


class Restoring:
    """A text filter that puts the originals where their placeholders stand, however the text comes in pieces. What is
    no placeholder to the letter stays. `quoted`: the text is JSON, in whose strings they stand."""

    def __init__(self, originals: Mapping[str, str], *, quoted: bool = False) -> None:
        self._originals = originals
        self._whole, self._begun = (QUOTED_LOOKALIKE, QUOTED_BEGUN) if quoted else (LOOKALIKE, BEGUN)
        self._quoted = quoted
        self._held = ""

    @property
    def holding(self) -> bool:
        return bool(self._held)

    def feed(self, text: str) -> str:
        """The text as far as it can be told."""
        text = self._held + text
        begun = self._begun.search(text, max(0, len(text) - LONGEST))
        cut = len(text) if begun is None else begun.start()
        self._held = text[cut:]
        return self._restored(text[:cut])

    def end(self) -> str:
        """What was held back, for it might have become a placeholder."""
        held, self._held = self._held, ""
        return self._restored(held)

    def _restored(self, text: str) -> str:
        return self._whole.sub(self._original, text)

    def _original(self, match: re.Match[str]) -> str:
        name = f"<{match[1]}>" if self._quoted else match[0]
        if (original := self._originals.get(name)) is None:
            return match[0]
        return orjson.dumps(original).decode()[1:-1] if self._quoted else original
