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

MISSING_EXTRA = "needs presidio-analyzer, which is not installed here: pip install 'smallfirst[privacy]'"
MAX_PIECE_CHARS = 8192
"""Characters scanned at once. Some patterns take time quadratic in the text's length."""
OVERLAP_CHARS = 512
"""Characters that neighbouring pieces share. Private data is shorter, so one piece contains all of it."""
MAX_SCAN_S = 10.0
"""Seconds after which a scan stops and the request counts as private. Tables of numbers can be that slow."""
OWN_PATIENCE = 1.0
"""Maximum seconds that a pattern of the operator's may take for a piece."""


UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f]"
)
"""Letters of scripts without spaces around foreign words. The recognisers would read them as part of an
address."""


class ScanTimeout(Exception):
    """Raised if a scan takes too long. The text then counts as private."""


class Finding(NamedTuple):
    """A span of private data in a text."""

    entity: str
    start: int
    end: int
    value: str
    """The text of the span, with any escapes undone."""


class Prefilter(NamedTuple):
    """Limits recognition to the text within `reach` characters of a match of `pattern`. Takes time linear in
    the text's length."""

    pattern: re.Pattern[str]
    reach: int


PUNCTUATION = (
    r"-x()\[\]./~ \u00a0\u00ad\u200b\u2010-\u2015\u2053\u2060\u2212\u223c\u3000\u30fc"
    r"\uff08-\uff0f\uff3b\uff3d\uff5e"
)
"""Characters allowed within a telephone number (VALID_PUNCTUATION of `phonenumbers`)."""
NUMBER_PREFILTER = Prefilter(re.compile(r"\d+"), 96)
DECIMAL = re.compile(r"(?<![\d.+(])(?!\d{3}\.\d{7}(?!\d))(?:0|[1-9]\d*)\.\d+(?![\d.])")
"""A decimal fraction. No telephone number is written like one, and each would be tried under eight numbering
plans."""
PREFILTERS = {
    "EMAIL_ADDRESS": Prefilter(re.compile("@"), 320),
    "PHONE_NUMBER": Prefilter(re.compile(rf"(?:\d[{PUNCTUATION}]{{0,4}}){{6,}}\d"), 32),
    "IP_ADDRESS": Prefilter(re.compile(r"\d+|::"), 96),
    "MAC_ADDRESS": Prefilter(re.compile(r"[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}|[0-9A-Fa-f]{4}\."), 32),
}
"""The prefilters of entities that do not use `NUMBER_PREFILTER`."""

Matcher = Callable[[str], Iterator[tuple[int, int]]]
"""Yields the spans of an entity in a piece of text."""


class Detector:
    """Finds the private data that one policy names. Raises ImportError if presidio-analyzer is not
    installed."""

    def __init__(self, private: Private) -> None:
        offered = _load_recognizers()
        self._matchers: list[tuple[str, Prefilter | None, Matcher]] = [
            (
                entity,
                PREFILTERS.get(entity, NUMBER_PREFILTER),
                partial(_match_recognizer, offered[entity], entity, private.score),
            )
            for entity in private.entities
        ]
        self._matchers += [
            (name, None, _build_pattern_matcher(pattern)) for name, pattern in private.patterns.items()
        ]

    def find(self, text: str, deadline: float | None = None) -> list[Finding]:
        """Return all findings, sorted and without overlaps. Raises ScanTimeout soon after `deadline` on the
        monotonic clock, by default `MAX_SCAN_S` seconds from now."""
        deadline = time.monotonic() + MAX_SCAN_S if deadline is None else deadline
        findings = [one for look in self._matchers for one in _find_entity(text, *look, deadline)]
        spaced = UNSPACED.sub(" ", text)
        if spaced != text:
            findings += [one for look in self._matchers for one in _find_entity(spaced, *look, deadline)]
        return merge_overlaps(text, [one._replace(value=text[one.start : one.end]) for one in findings])


def find_detection_problem(private: Private) -> str | None:
    """Return why a policy's private data cannot be detected, as the end of a sentence. None if it can be; the
    detector is then loaded."""
    try:
        recognizers = _load_recognizers()
    except ImportError:
        return MISSING_EXTRA
    if missing := [entity for entity in private.entities if entity not in recognizers]:
        return (
            f"asks for {', '.join(missing)}, which this presidio-analyzer does not know: install a newer one"
        )
    get_detector(private)
    return None


@lru_cache(maxsize=64)
def get_detector(private: Private) -> Detector:
    """Return the cached detector of a policy. The first call takes seconds."""
    return Detector(private)


@lru_cache(maxsize=1)
def _load_recognizers() -> dict[str, Any]:
    """Return the library's pattern recognisers by entity. Recognisers that need a service, a model or
    settings are excluded."""
    import presidio_analyzer.predefined_recognizers as known
    from presidio_analyzer import PatternRecognizer

    logging.getLogger("presidio-analyzer").disabled = True  # its log quotes values that fail validation
    recognizers = {}
    for kind in vars(known).values():
        if isinstance(kind, type) and issubclass(kind, PatternRecognizer | known.PhoneRecognizer):
            recognizer = kind(leniency=2) if kind is known.PhoneRecognizer else kind()  # 2: no dates
            recognizers[recognizer.supported_entities[0]] = recognizer
    recognizers["EMAIL_ADDRESS"].validate_result = _build_domain_check()
    return recognizers


def _build_domain_check() -> Callable[[str], bool]:
    """Build the library's check of addresses by the list of public suffixes, with the installed list. The
    library itself would download a newer list and cache it in a folder."""
    from tldextract import TLDExtract

    extract = TLDExtract(cache_dir=None, suffix_list_urls=())
    return lambda address: extract(address).fqdn != ""


def _match_recognizer(recognizer: Any, entity: str, score: float, piece: str) -> Iterator[tuple[int, int]]:
    for result in recognizer.analyze(piece, [entity], None):
        if result.score >= score:
            yield result.start, result.end


def _build_pattern_matcher(pattern: str) -> Matcher:
    """Build the matcher of an operator's pattern, with a time limit."""
    import regex  # supports timeouts; the recognisers use it too

    compiled = regex.compile(pattern)

    def find_spans(piece: str) -> Iterator[tuple[int, int]]:
        try:
            for match in compiled.finditer(piece, timeout=OWN_PATIENCE):
                yield match.span()
        except TimeoutError as error:
            raise ScanTimeout from error

    return find_spans


def _find_entity(
    text: str, entity: str, prefilter: Prefilter | None, matcher: Matcher, deadline: float
) -> Iterator[Finding]:
    if entity == "PHONE_NUMBER":
        text = DECIMAL.sub(lambda number: "#" * len(number[0]), text)
    windows = [(0, len(text))] if prefilter is None else _find_windows(text, prefilter)
    for start, end in windows:
        for at in range(start, max(start + 1, end - OVERLAP_CHARS), MAX_PIECE_CHARS - OVERLAP_CHARS):
            if time.monotonic() > deadline:
                raise ScanTimeout
            piece = text[at : min(at + MAX_PIECE_CHARS, end)]
            for found_at, found_end in matcher(piece):
                yield Finding(entity, at + found_at, at + found_end, piece[found_at:found_end])


def _find_windows(text: str, prefilter: Prefilter) -> Iterator[tuple[int, int]]:
    """Yield the disjoint windows of a text that a prefilter selects."""
    start, end = 0, 0
    for hit in prefilter.pattern.finditer(text):
        if hit.start() - prefilter.reach > end:
            if end:
                yield start, end
            start = hit.start() - prefilter.reach
        elif not end:
            start = 0
        end = min(len(text), hit.end() + prefilter.reach)
    if end:
        yield start, end


def merge_overlaps(text: str, findings: Sequence[Finding]) -> list[Finding]:
    """Merge overlapping findings into one, named after the longest."""
    merged: list[Finding] = []
    for finding in sorted(findings, key=lambda one: (one.start, -one.end)):
        if not merged or finding.start >= merged[-1].end:
            merged.append(finding)
        elif finding.end > (previous := merged[-1]).end:
            longer = max(previous, finding, key=lambda each: each.end - each.start)
            merged[-1] = Finding(
                longer.entity, previous.start, finding.end, text[previous.start : finding.end]
            )
    return merged
