"""Replaces private data in a text by placeholders, and restores the originals in answers."""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from threading import Lock

import orjson

from policies.schema.private import RESERVED_NAME

from .detection import Finding, merge_overlaps
from .json_escapes import undo_json_escapes

PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9_]{0,31}_[0-9]{1,9}>")
"""The form of a placeholder: `<EMAIL_ADDRESS_1>`. A request's own text of this form is itself replaced, so
that every placeholder that leaves is the gateway's and stands for one original."""
PARTIAL_PLACEHOLDER = re.compile(r"<(?:[A-Z][A-Z0-9_]{0,41})?\Z")
QUOTED_PLACEHOLDER = re.compile(r"(?:<|\\u003[cC])([A-Z][A-Z0-9_]{0,31}_[0-9]{1,9})(?:>|\\u003[eE])")
PARTIAL_QUOTED_PLACEHOLDER = re.compile(
    r"(?:\\(?:u(?:0(?:0(?:3)?)?)?)?|(?:<|\\u003[cC])(?:[A-Z][A-Z0-9_]{0,41})?(?:\\(?:u(?:0(?:0(?:3)?)?)?)?)?)\Z"
)
MAX_PLACEHOLDER_CHARS = 64
"""Maximum characters of a placeholder, including the escapes of its brackets."""
JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*', re.DOTALL)
"""A string or a number in a JSON text."""

Find = Callable[[str], Sequence[Finding]]


class Vault:
    """The placeholders of one exchange. Equal values share a placeholder."""

    def __init__(self) -> None:
        self.originals: dict[str, str] = {}
        """The original values by placeholder."""
        self._placeholders: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._lock = Lock()

    def get_placeholder(self, entity: str, value: str) -> str:
        """Return the value's placeholder, created at first use."""
        with self._lock:  # both calls of a hedged race may redact in threads
            if (known := self._placeholders.get(value)) is not None:
                return known
            self._counts[entity] = number = self._counts.get(entity, 0) + 1
            placeholder = f"<{entity}_{number}>"
            self.originals[placeholder] = value
            self._placeholders[value] = placeholder
        return placeholder

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of values with a placeholder, by entity."""
        return {entity: count for entity, count in self._counts.items() if entity != RESERVED_NAME}


def redact_text(text: str, find: Find, vault: Vault, entities: set[str]) -> str:
    """Replace what `find` finds by placeholders, also if it is written with JSON escapes. A number in JSON
    gets a quoted placeholder. The found entities are added to `entities`."""
    findings = find_private(text, find)
    lookalikes = [*QUOTED_PLACEHOLDER.finditer(text)]
    if not findings and not lookalikes:
        return text
    is_json = _is_json(text)
    if lookalikes:
        findings = merge_overlaps(text, [*findings, *(_reserve(one, is_json) for one in lookalikes)])
    bare_numbers: set[Finding] = set()
    if is_json:
        findings, bare_numbers = _extend_bare_numbers(text, findings)
    out: list[str] = []
    at = 0
    for finding in findings:
        placeholder = vault.get_placeholder(finding.entity, finding.value)
        out += (text[at : finding.start], f'"{placeholder}"' if finding in bare_numbers else placeholder)
        at = finding.end
    entities |= {found.entity for found in findings} - {RESERVED_NAME}
    return "".join([*out, text[at:]])


def find_private(text: str, find: Find) -> list[Finding]:
    """Find private data in a text and in its unescaped form. In a JSON text only the unescaped form counts:
    an address after `\\n` does not begin with n."""
    if "\\" not in text or (unescaped := undo_json_escapes(text)).text == text:
        return [*find(text)]
    findings = [
        Finding(one.entity, *unescaped.original_span(one.start, one.end), one.value)
        for one in find_private(unescaped.text, find)
    ]
    return findings if _is_json(text) else merge_overlaps(text, [*findings, *find(text)])


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _reserve(match: re.Match[str], is_json: bool) -> Finding:
    """Return the finding of the text's own placeholder. In JSON its escapes mean brackets; elsewhere they are
    text, and come back as they are."""
    return Finding(RESERVED_NAME, *match.span(), f"<{match[1]}>" if is_json else match[0])


def _extend_bare_numbers(text: str, findings: Sequence[Finding]) -> tuple[list[Finding], set[Finding]]:
    """Extend findings in JSON numbers outside of strings to the whole number. Return all findings, and these."""
    if not any(found.value.isdigit() for found in findings):
        return [*findings], set()
    numbers = [token for token in JSON_TOKEN.finditer(text) if token[0][0] != '"']
    starts = [token.start() for token in numbers]
    extended, bare = {}, set()
    for found in findings:
        index = bisect_right(starts, found.start) - 1
        if index >= 0 and found.end <= numbers[index].end():
            found = Finding(found.entity, *numbers[index].span(), numbers[index][0])
            bare.add(found)
        extended[found.start] = found
    return [*extended.values()], bare


class PlaceholderRestorer:
    """A TextFilter that replaces placeholders by their originals, however the text is cut. Only exact
    placeholders are replaced. `quoted`: the text is JSON, and placeholders stand in its strings."""

    def __init__(self, originals: Mapping[str, str], *, quoted: bool = False) -> None:
        self._originals = originals
        self._placeholder, self._partial = (
            (QUOTED_PLACEHOLDER, PARTIAL_QUOTED_PLACEHOLDER) if quoted else (PLACEHOLDER, PARTIAL_PLACEHOLDER)
        )
        self._quoted = quoted
        self._held = ""

    @property
    def has_pending_text(self) -> bool:
        return bool(self._held)

    def feed(self, text: str) -> str:
        """Return the restored text, as far as it is decided."""
        text = self._held + text
        partial = self._partial.search(text, max(0, len(text) - MAX_PLACEHOLDER_CHARS))
        cut = len(text) if partial is None else partial.start()
        self._held = text[cut:]
        return self._restore(text[:cut])

    def flush(self) -> str:
        """Return the held text, which might have become a placeholder."""
        held, self._held = self._held, ""
        return self._restore(held)

    def _restore(self, text: str) -> str:
        return self._placeholder.sub(self._find_original, text)

    def _find_original(self, match: re.Match[str]) -> str:
        name = f"<{match[1]}>" if self._quoted else match[0]
        if (original := self._originals.get(name)) is None:
            return match[0]
        return orjson.dumps(original).decode()[1:-1] if self._quoted else original
