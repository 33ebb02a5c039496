"""Detects private data in a text with presidio-analyzer's recognisers and the operator's own patterns.

Only the library's pattern and checksum recognisers are used: no language model, no download, no network. The
import takes seconds, so it happens only if a policy needs it.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from policies.schema.private import Private

EXTRA = "needs presidio-analyzer, which is not installed here: pip install 'smallfirst[privacy]'"
PIECE = 8192
"""Characters scanned at once. Some patterns take time quadratic in the text's length."""
OVERLAP = 512
"""Characters that neighbouring pieces share. Private data is shorter, so one piece contains all of it."""
PATIENCE = 10.0
"""Seconds after which a scan stops and the request counts as private. Tables of numbers can be that slow."""
OWN_PATIENCE = 1.0
"""Maximum seconds that a pattern of the operator's may take for a piece."""


UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f]"
)
"""Letters of scripts without spaces around foreign words. The recognisers would read them as part of an
address."""


class Undecided(Exception):
    """Raised if a scan takes too long. The text then counts as private."""


class Found(NamedTuple):
    """A span of private data in a text."""

    entity: str
    start: int
    end: int
    value: str
    """The text of the span, with any escapes undone."""


class Gate(NamedTuple):
    """Limits recognition to the text within `reach` characters of a match of `pattern`. Takes time linear in
    the text's length."""

    sign: re.Pattern[str]
    reach: int


PUNCTUATION = (
    r"-x()\[\]./~ \u00a0\u00ad\u200b\u2010-\u2015\u2053\u2060\u2212\u223c\u3000\u30fc"
    r"\uff08-\uff0f\uff3b\uff3d\uff5e"
)
"""Characters allowed within a telephone number (VALID_PUNCTUATION of `phonenumbers`)."""
NUMBERS = Gate(re.compile(r"\d+"), 96)
DECIMAL = re.compile(r"(?<![\d.+(])(?!\d{3}\.\d{7}(?!\d))(?:0|[1-9]\d*)\.\d+(?![\d.])")
"""A decimal fraction. No telephone number is written like one, and each would be tried under eight numbering
plans."""
GATES = {
    "EMAIL_ADDRESS": Gate(re.compile("@"), 320),
    "PHONE_NUMBER": Gate(re.compile(rf"(?:\d[{PUNCTUATION}]{{0,4}}){{6,}}\d"), 32),
    "IP_ADDRESS": Gate(re.compile(r"\d+|::"), 96),
    "MAC_ADDRESS": Gate(re.compile(r"[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}|[0-9A-Fa-f]{4}\."), 32),
}
"""The prefilters of entities that do not use `NUMBER_PREFILTER`."""

Look = Callable[[str], Iterator[tuple[int, int]]]
"""Yields the spans of an entity in a piece of text."""


class Detector:
    """Finds the private data that one policy names. Raises ImportError if presidio-analyzer is not
    installed."""

    def __init__(self, private: Private) -> None:
        offered = _offered()
        self._looks: list[tuple[str, Gate | None, Look]] = [
            (entity, GATES.get(entity, NUMBERS), partial(_recognised, offered[entity], entity, private.score))
            for entity in private.entities
        ]
        self._looks += [(name, None, _own(pattern)) for name, pattern in private.patterns.items()]

    def find(self, text: str, until: float | None = None) -> list[Found]:
        """Return all findings, sorted and without overlaps. Raises ScanTimeout soon after `deadline` on the
        monotonic clock, by default `MAX_SCAN_S` seconds from now."""
        until = time.monotonic() + PATIENCE if until is None else until
        found = [one for look in self._looks for one in _looked(text, *look, until)]
        spaced = UNSPACED.sub(" ", text)
        if spaced != text:
            found += [one for look in self._looks for one in _looked(spaced, *look, until)]
        return apart(text, [one._replace(value=text[one.start : one.end]) for one in found])


def undetectable(private: Private) -> str | None:
    """Return why a policy's private data cannot be detected, as the end of a sentence. None if it can be; the
    detector is then loaded."""
    try:
        known = _offered()
    except ImportError:
        return EXTRA
    if missing := [entity for entity in private.entities if entity not in known]:
        return (
            f"asks for {', '.join(missing)}, which this presidio-analyzer does not know: install a newer one"
        )
    detector(private)
    return None


@lru_cache(maxsize=64)
def detector(private: Private) -> Detector:
    """Return the cached detector of a policy. The first call takes seconds."""
    return Detector(private)


@lru_cache(maxsize=1)
def _offered() -> dict[str, Any]:
    """Return the library's pattern recognisers by entity. Recognisers that need a service, a model or
    settings are excluded."""
    import presidio_analyzer.predefined_recognizers as known
    from presidio_analyzer import PatternRecognizer

    logging.getLogger("presidio-analyzer").disabled = True  # its log quotes values that fail validation
    made = {}
    for kind in vars(known).values():
        if isinstance(kind, type) and issubclass(kind, PatternRecognizer | known.PhoneRecognizer):
            recognizer = kind(leniency=2) if kind is known.PhoneRecognizer else kind()  # 2: no dates
            made[recognizer.supported_entities[0]] = recognizer
    made["EMAIL_ADDRESS"].validate_result = _has_domain()
    return made


def _has_domain() -> Callable[[str], bool]:
    """Build the library's check of addresses by the list of public suffixes, with the installed list. The
    library itself would download a newer list and cache it in a folder."""
    from tldextract import TLDExtract

    extract = TLDExtract(cache_dir=None, suffix_list_urls=())
    return lambda address: extract(address).fqdn != ""


def _recognised(recognizer: Any, entity: str, score: float, piece: str) -> Iterator[tuple[int, int]]:
    for result in recognizer.analyze(piece, [entity], None):
        if result.score >= score:
            yield result.start, result.end


def _own(pattern: str) -> Look:
    """Build the matcher of an operator's pattern, with a time limit."""
    import regex  # supports timeouts; the recognisers use it too

    compiled = regex.compile(pattern)

    def look(piece: str) -> Iterator[tuple[int, int]]:
        try:
            for match in compiled.finditer(piece, timeout=OWN_PATIENCE):
                yield match.span()
        except TimeoutError as error:
            raise Undecided from error

    return look


def _looked(text: str, entity: str, gate: Gate | None, look: Look, until: float) -> Iterator[Found]:
    if entity == "PHONE_NUMBER":
        text = DECIMAL.sub(lambda number: "#" * len(number[0]), text)
    windows = [(0, len(text))] if gate is None else _windows(text, gate)
    for start, end in windows:
        for at in range(start, max(start + 1, end - OVERLAP), PIECE - OVERLAP):
            if time.monotonic() > until:
                raise Undecided
            piece = text[at : min(at + PIECE, end)]
            for found_at, found_end in look(piece):
                yield Found(entity, at + found_at, at + found_end, piece[found_at:found_end])


def _windows(text: str, gate: Gate) -> Iterator[tuple[int, int]]:
    """Yield the disjoint windows of a text that a prefilter selects."""
    start, end = 0, 0
    for sign in gate.sign.finditer(text):
        if sign.start() - gate.reach > end:
            if end:
                yield start, end
            start = sign.start() - gate.reach
        elif not end:
            start = 0
        end = min(len(text), sign.end() + gate.reach)
    if end:
        yield start, end


def apart(text: str, found: Sequence[Found]) -> list[Found]:
    """Merge overlapping findings into one, named after the longest."""
    merged: list[Found] = []
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if not merged or one.start >= merged[-1].end:
            merged.append(one)
        elif one.end > (before := merged[-1]).end:
            longer = max(before, one, key=lambda each: each.end - each.start)
            merged[-1] = Found(longer.entity, before.start, one.end, text[before.start : one.end])
    return merged
