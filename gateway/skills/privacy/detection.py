"""Detects private data in a text with presidio-analyzer's recognisers and the operator's own patterns.

Three readings of a text are searched: as it is written; as a person reads it, if that differs; and its numbers in
groups, with the separators that the recognisers expect.

Only the library's pattern and checksum recognisers are used: no language model, no download, no network. The
import takes seconds, so it happens only if a policy needs it.
"""

import re
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from policies.schema.private import Private

from .bare_numbers import hide_bare_numbers
from .readings import Reading, is_uniform, read_plainly, regroup
from .recognizers import (
    Matcher,
    PatternTimeout,
    build_matcher,
    build_pattern_matcher,
    is_glued,
    load_recognizers,
)

MISSING_EXTRA = "needs presidio-analyzer, which is not installed here: pip install 'smallfirst[privacy]'"
MAX_PIECE_CHARS = 8192
"""Characters scanned at once. Some patterns take time quadratic in the text's length."""
OVERLAP_CHARS = 512
"""Characters that neighbouring pieces share. Private data is shorter, so one piece contains all of it."""
MAX_SCAN_S = 10.0
"""Seconds after which a scan stops and the request counts as private. Tables of numbers can be that slow."""


DATA_SIGN = re.compile(r"[^A-Za-z\s,.;!?'\"/_*#=+-]")
"""A sign without which a text holds no value of any entity, nor an escape: a digit, an `@`, a bracket."""
BACKSLASH = re.compile(r"\\(?=[^\w\s])")


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
LONG_NUMBER_PREFILTER = Prefilter(re.compile(r"\d(?:[- .]?\d){8,}"), 16)
NUMBER_PREFILTER = Prefilter(re.compile(r"\d+"), 96)
DECIMAL = re.compile(r"(?<![\d.+(])(?!\d{3}\.\d{7}(?!\d))(?:0|[1-9]\d*)\.\d+(?![\d.])")
"""A decimal fraction. No telephone number is written like one, and each would be tried under eight numbering
plans."""
ODD_SEPARATOR = re.compile(
    r"[_\u00b7\u2022\u2219](?<=\d.)(?=\d)"
    r"|/(?:(?<=\+\d/)|(?<=\+\d\d/)|(?<=\+\d\d\d/)"
    r"|(?<=(?<!\d)\d{3}/)(?=\d{3}/\d{4}(?!\d))|(?<=(?<!\d)\d{3}/\d{3}/)(?=\d{4}(?!\d)))"
)
"""Separators that `phonenumbers` does not know within a number, or not there."""
PREFILTERS = {
    "EMAIL_ADDRESS": Prefilter(re.compile("@"), 320),
    "CREDIT_CARD": LONG_NUMBER_PREFILTER,
    "US_SSN": LONG_NUMBER_PREFILTER,
    "PHONE_NUMBER": Prefilter(re.compile(rf"(?:\d[{PUNCTUATION}]{{0,4}}){{6,}}\d"), 32),
    "IP_ADDRESS": Prefilter(re.compile(r"\d+|::"), 96),
    "MAC_ADDRESS": Prefilter(re.compile(r"[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}|[0-9A-Fa-f]{4}\."), 32),
}
"""The prefilters of entities that do not use `NUMBER_PREFILTER`."""

GROUP_SEPARATORS = {
    "CREDIT_CARD": " ",
    "IBAN_CODE": " ",
    "US_SSN": " ",
    "ABA_ROUTING_NUMBER": "-",
    "AU_ABN": " ",
    "AU_MEDICARE": " ",
    "AU_TFN": " ",
    "DE_VAT_ID": " ",
    "ES_NIE": "-",
    "ES_NIF": "-",
    "FI_PERSONAL_IDENTITY_CODE": "-",
    "IN_AADHAAR": " ",
    "KR_RRN": "-",
    "SE_PERSONNUMMER": "-",
    "UK_NHS": " ",
    "UK_NINO": " ",
    "US_ITIN": " ",
}
"""The entities that are written in groups, and the separator that their recognisers expect."""
GROUP_DIGITS = {"CREDIT_CARD": 12, "ES_NIE": 7, "ES_NIF": 7, "UK_NINO": 6}
"""The least digits that such an entity has, unless 9."""


class Detector:
    """Finds the private data that one policy names. Raises ImportError if presidio-analyzer is not
    installed."""

    def __init__(self, private: Private) -> None:
        self._matchers: list[tuple[str, Prefilter | None, Matcher]] = [
            (entity, PREFILTERS.get(entity, NUMBER_PREFILTER), build_matcher(entity, private.score))
            for entity in private.entities
        ]
        self._grouped = {
            separator: [
                (entity, prefilter, matcher)
                for entity, prefilter, matcher in self._matchers
                if GROUP_SEPARATORS.get(entity) == separator
            ]
            for separator in sorted(set(GROUP_SEPARATORS.values()))
        }
        self._own = [
            (name, None, build_pattern_matcher(pattern)) for name, pattern in private.patterns.items()
        ]
        self._matchers += self._own

    def find(self, text: str, deadline: float | None = None) -> list[Finding]:
        """Return all findings, sorted and without overlaps. Raises ScanTimeout soon after `deadline` on the
        monotonic clock, by default `MAX_SCAN_S` seconds from now."""
        deadline = time.monotonic() + MAX_SCAN_S if deadline is None else deadline
        matchers = self._matchers if DATA_SIGN.search(text) else self._own
        if not matchers:
            return []
        findings = [one for look in matchers for one in _find_entity(text, *look, deadline)]
        reading = read_plainly(text)
        if reading is None:
            findings += self._find_grouped(text, deadline)
        else:
            plain = [one for look in matchers for one in _find_entity(reading.text, *look, deadline, reading)]
            plain += self._find_grouped(reading.text, deadline)
            findings += [_to_original(one, reading) for one in plain]
        return merge_overlaps(text, findings)

    def _find_grouped(self, text: str, deadline: float) -> Iterator[Finding]:
        """Yield what is found once all groups of a number have the separator that recognisers expect."""
        for separator, matchers in self._grouped.items():
            min_digits = min((GROUP_DIGITS.get(entity, 9) for entity, *_ in matchers), default=0)
            for at, run in regroup(text, separator, min_digits) if matchers else ():
                for look in matchers:
                    for one in _find_entity(run.text, *look, deadline):
                        start, end = run.original_span(one.start, one.end)
                        finding = Finding(one.entity, at + start, at + end, run.original[start:end])
                        if _is_grouped(finding, text):
                            yield finding


def _is_grouped(finding: Finding, text: str) -> bool:
    """Whether a number is written in groups, and is no decimal fraction nor a part of a longer number."""
    is_fraction = finding.entity == "CREDIT_CARD" and DECIMAL.fullmatch(finding.value)
    return is_uniform(finding.value) and not is_fraction and not is_glued(text, finding.start, finding.end)


def _to_original(finding: Finding, reading: Reading) -> Finding:
    """Return a finding in a reading as one in its original. Its value is as written, but for the backslashes of
    a pattern or of Markdown: what fits the pattern has none."""
    start, end = reading.original_span(finding.start, finding.end)
    if BACKSLASH.match(reading.original, max(0, start - 1)):
        start -= 1
    return Finding(finding.entity, start, end, BACKSLASH.sub("", reading.original[start:end]))


def find_detection_problem(private: Private) -> str | None:
    """Return why a policy's private data cannot be detected, as the end of a sentence. None if it can be; the
    detector is then loaded."""
    try:
        recognizers = load_recognizers()
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


def _find_entity(
    text: str,
    entity: str,
    prefilter: Prefilter | None,
    matcher: Matcher,
    deadline: float,
    reading: Reading | None = None,
) -> Iterator[Finding]:
    """Yield an entity's findings. Of a `reading`, only what is not read as it is written is searched."""
    source = text
    if entity == "PHONE_NUMBER":
        text = hide_bare_numbers(DECIMAL.sub(lambda number: "#" * len(number[0]), text))
        text = ODD_SEPARATOR.sub("-", text)
    windows = [(0, len(text))] if prefilter is None else _find_windows(text, prefilter)
    for start, end in windows:
        if reading is not None and reading.is_verbatim(start, end):
            continue
        for at in range(start, max(start + 1, end - OVERLAP_CHARS), MAX_PIECE_CHARS - OVERLAP_CHARS):
            if time.monotonic() > deadline:
                raise ScanTimeout
            piece = text[at : min(at + MAX_PIECE_CHARS, end)]
            try:
                for found_at, found_end in matcher(piece):
                    start_at, end_at = at + found_at, at + found_end
                    yield Finding(entity, start_at, end_at, source[start_at:end_at])
            except PatternTimeout as error:
                raise ScanTimeout from error


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
