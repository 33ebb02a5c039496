"""Matches one entity in a piece of text: presidio-analyzer's patterns and checksums, searched without gaps.

The library searches on after the end of a match whose checksum is wrong. A value that begins within such a match
would be missed, so its patterns are searched here, on from the next character.
"""

import logging
import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

Matcher = Callable[[str], Iterator[tuple[int, int]]]
"""Yields the spans of an entity in a piece of text."""

PATIENCE_S = 1.0
"""Maximum seconds that a pattern may take for a piece."""
LEADING_EDGE = re.compile(r"(^|[|(])\\b")
DIGIT_EDGE = r"(?<![\dvV])(?<!\d[^\W\d_]{1,8})"
"""Where a value that begins with a digit may begin: also after a word, but neither in a version (`v1.2.3.4`) nor in
a code that has digits before (`GB86NWBK38`)."""
LETTER_EDGE = r"(?<![^\W_])"
END_EDGE = r"(?:(?<=\d)(?!\d)|(?<!\d)(?![^\W_]))"
LETTER_FIRST = frozenset({"DE_VAT_ID", "ES_NIE", "MAC_ADDRESS", "SG_NRIC_FIN", "UK_NINO"})
"""Entities whose values may begin with a letter."""
MAX_LOCAL_CHARS = 320
LOCAL_PART = re.compile(r"[\w.!#$%&'*+\-/=?^`{|}~]*\Z")
BEFORE_LOCAL_PART = re.compile(r".*(?:[/?=&{}|#]|%[0-9A-Fa-f]{2})", re.DOTALL)
"""What stands before an address in a path, a URL or a template."""
DOMAIN = re.compile(r"\w+(?:-+\w+)*(?:\.\w+(?:-+\w+)*)+")
SCRIPT_END = re.compile(r"[A-Za-z](?![A-Za-z])|[^\W\d_A-Za-z](?![^\W\d_A-Za-z])")
"""The last of several letters of one script."""
MAX_DOMAIN_ENDS = 8
IBAN_START = re.compile(r"(?i)(?=[A-Z][A-Z])(?P<country>[A-Z]{2})[ -]?\d[ -]?\d")
IBAN_SIGNS = re.compile(r"[ -]?([A-Za-z0-9])")
MAX_IBAN_CHARS = 34
MASTERCARD_2 = r"\b(?:222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)[- ]?\d{4}[- ]?\d{4}[- ]?\d{4}\b"
"""The cards that the library's pattern leaves out."""


@lru_cache(maxsize=1)
def load_recognizers() -> dict[str, Any]:
    """Return the library's pattern recognisers by entity. Recognisers that need a service, a model or
    settings are excluded."""
    import presidio_analyzer.predefined_recognizers as known
    from presidio_analyzer import Pattern, PatternRecognizer

    logging.getLogger("presidio-analyzer").disabled = True  # its log quotes values that fail validation
    recognizers = {}
    for kind in vars(known).values():
        if isinstance(kind, type) and issubclass(kind, PatternRecognizer | known.PhoneRecognizer):
            recognizer = kind(leniency=2) if kind is known.PhoneRecognizer else kind()  # 2: no dates
            recognizers[recognizer.supported_entities[0]] = recognizer
    card = recognizers["CREDIT_CARD"]
    card.patterns = [*card.patterns, Pattern("Mastercard, 2", MASTERCARD_2, 0.3)]
    return recognizers


def build_matcher(entity: str, min_score: float) -> Matcher:
    """Build the matcher of an entity that the library knows."""
    recognizer = load_recognizers()[entity]
    if entity == "EMAIL_ADDRESS":
        return partial(_match_addresses, _build_domain_check())
    if entity == "IBAN_CODE":
        return partial(_match_ibans, recognizer, _load_iban_formats())
    if entity == "PHONE_NUMBER":
        return partial(_match_phones, recognizer, min_score)
    return _build_checked_matcher(recognizer, entity, min_score)


def build_pattern_matcher(pattern: str) -> Matcher:
    """Build the matcher of an operator's pattern, with a time limit."""
    import regex  # supports timeouts; the recognisers use it too

    return partial(_search_pattern, regex.compile(pattern))


class PatternTimeout(Exception):
    """Raised if a pattern takes too long for a piece."""


def _search_pattern(
    pattern: Any, piece: str, accept: Callable[[str, int, int], bool] = lambda *_: True
) -> Iterator[tuple[int, int]]:
    """Yield the matches that are accepted. After one that is not, search on from the next character."""
    at = 0
    try:
        while match := pattern.search(piece, at, timeout=PATIENCE_S):
            start, end = match.span()
            if end > start and accept(piece, start, end):
                yield start, end
                at = end
            else:
                at = start + 1
    except TimeoutError as error:
        raise PatternTimeout from error


def _build_checked_matcher(recognizer: Any, entity: str, min_score: float) -> Matcher:
    """Build the matcher of a recogniser with patterns and, in most cases, a checksum."""
    import regex
    from presidio_analyzer import PatternRecognizer

    has_checksum = type(recognizer).validate_result is not PatternRecognizer.validate_result
    may_be_glued = entity == "CRYPTO"  # its checksum is long enough to tell it from what stands beside it
    patterns = [
        (regex.compile(_widen_edges(one.regex, entity), flags=recognizer.global_regex_flags), one.score)
        for one in recognizer.patterns
        if has_checksum or one.score >= min_score
    ]

    def accept(score: float, piece: str, start: int, end: int) -> bool:
        if not may_be_glued and is_glued(piece, start, end):
            return False
        value = piece[start:end]
        if (valid := recognizer.validate_result(value)) is not None:
            score = float(bool(valid))
        return score >= min_score and not recognizer.invalidate_result(value)

    def match(piece: str) -> Iterator[tuple[int, int]]:
        for pattern, score in patterns:
            yield from _search_pattern(pattern, piece, partial(accept, score))

    return match


def _widen_edges(pattern: str, entity: str) -> str:
    """Return a pattern in which a value also ends at an underscore, and its digits at a letter."""
    start = LETTER_EDGE if entity in LETTER_FIRST else DIGIT_EDGE
    pattern = LEADING_EDGE.sub(lambda edge: edge[1] + start, pattern)
    return pattern.replace(r"\b", END_EDGE)


def is_glued(piece: str, start: int, end: int) -> bool:
    """Whether a span is a part of a longer number, or the digits behind a decimal point."""
    before, after = piece[start - 1 : start], piece[end : end + 1]
    is_fraction = before == "." and piece[start - 2 : start - 1].isdigit() and piece[start:end].isdigit()
    return (
        is_fraction
        or (piece[start].isdigit() and before.isdigit())
        or (piece[end - 1].isdigit() and after.isdigit())
    )


def _match_phones(recognizer: Any, min_score: float, piece: str) -> Iterator[tuple[int, int]]:
    for result in recognizer.analyze(piece, ["PHONE_NUMBER"], None):
        if result.score >= min_score:
            yield result.start, result.end


def _build_domain_check() -> Callable[[str], bool]:
    """Build the library's check of domains by the list of public suffixes, with the installed list. The
    library itself would download a newer list and cache it in a folder."""
    from tldextract import TLDExtract

    extract = TLDExtract(cache_dir=None, suffix_list_urls=())
    return lambda domain: extract(domain).fqdn != ""


def _match_addresses(is_domain: Callable[[str], bool], piece: str) -> Iterator[tuple[int, int]]:
    """Yield the e-mail addresses, without what a path or a URL has before one, or a file's name behind it."""
    at = piece.find("@")
    while at >= 0:
        start = _find_local_part(piece, at)
        if start < at and (domain := DOMAIN.match(piece, at + 1)):
            for end in _find_domain_ends(domain[0]):
                if is_domain(domain[0][:end]):
                    yield start, at + 1 + end
                    break
        at = piece.find("@", at + 1)


def _find_local_part(piece: str, at: int) -> int:
    """Return where the part before the `@` begins."""
    local = LOCAL_PART.search(piece, max(0, at - MAX_LOCAL_CHARS), at)
    start = local.start() if local else at
    if before := BEFORE_LOCAL_PART.match(piece, start, at):
        start = before.end()
    while start < at and not (piece[start].isalnum() or piece[start] == "_"):
        start += 1
    return start


def _find_domain_ends(domain: str) -> list[int]:
    """Return the lengths of the domains that a text may begin with, the longest first."""
    ends = [match.end() for match in SCRIPT_END.finditer(domain) if match.end() < len(domain)]
    return [len(domain), *reversed(ends)][:MAX_DOMAIN_ENDS]


def _load_iban_formats() -> dict[str, Any]:
    """Return the format of each country's account numbers."""
    from presidio_analyzer.predefined_recognizers.generic.iban_patterns import regex_per_country

    return {country: re.compile(pattern) for country, pattern in regex_per_country.items()}


def _match_ibans(recognizer: Any, formats: dict[str, Any], piece: str) -> Iterator[tuple[int, int]]:
    """Yield the account numbers, whatever letters stand beside one: the country's format has a fixed length."""
    at = 0
    while start := IBAN_START.search(piece, at):
        end = _find_iban_end(recognizer, formats, piece, start)
        if end:
            yield start.start(), end
        at = end or start.start() + 1


def _find_iban_end(recognizer: Any, formats: dict[str, Any], piece: str, start: re.Match[str]) -> int:
    """Return where the account number ends that begins here, 0 if none does."""
    pattern = formats.get(start["country"].upper())
    if pattern is None:
        return 0
    ends, signs, at = [], "", start.start()
    while len(signs) < MAX_IBAN_CHARS and (sign := IBAN_SIGNS.match(piece, at)):
        signs += sign[1].upper()
        ends.append(at := sign.end())
    own = pattern.match(signs)
    if own is None or not recognizer.validate_result(signs[: own.end()]):
        return 0
    end = ends[own.end() - 1]
    return 0 if is_glued(piece, start.start(), end) else end
