"""Private data in a text: found by presidio-analyzer's recognisers and by the operator's own patterns.

Of the library only what works by patterns and checksums is used: no language model, nothing downloaded, nothing asked
over the network. Importing it takes seconds, so that happens only where a policy needs it.
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
"""Characters that are looked at at once: some patterns take a time that grows with the square of the text's length."""
OVERLAP = 512
"""Characters that neighbouring pieces share: what is private is shorter, and so is whole in one of them."""
PATIENCE = 10.0
"""Seconds after which a request counts as private unseen: tables of numbers can be that slow to look through."""
OWN_PATIENCE = 1.0
"""Seconds that a pattern of the operator's may take for a piece."""


UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f]"
)
"""Letters of scripts that set no spaces around foreign words: to the recognisers, an address would go on in them."""


class Undecided(Exception):
    """Looking took too long: the text counts as private."""


class Found(NamedTuple):
    """Where in a text something private stands."""

    entity: str
    start: int
    end: int
    value: str
    """What it means: the text there, with any escapes undone."""


class Gate(NamedTuple):
    """Where it is worth to look: not farther than `reach` from what `sign` finds, in time linear in the text."""

    sign: re.Pattern[str]
    reach: int


PUNCTUATION = (
    r"-x()\[\]./~ \u00a0\u00ad\u200b\u2010-\u2015\u2053\u2060\u2212\u223c\u3000\u30fc"
    r"\uff08-\uff0f\uff3b\uff3d\uff5e"
)
"""What may stand within a telephone number, as `phonenumbers` has it (its VALID_PUNCTUATION)."""
NUMBERS = Gate(re.compile(r"\d+"), 96)
DECIMAL = re.compile(r"(?<![\d.+(])(?!\d{3}\.\d{7}(?!\d))(?:0|[1-9]\d*)\.\d+(?![\d.])")
"""A number with a fraction: no telephone number is written so, and each would be tried under eight numbering plans."""
GATES = {
    "EMAIL_ADDRESS": Gate(re.compile("@"), 320),
    "PHONE_NUMBER": Gate(re.compile(rf"(?:\d[{PUNCTUATION}]{{0,4}}){{6,}}\d"), 32),
    "IP_ADDRESS": Gate(re.compile(r"\d+|::"), 96),
    "MAC_ADDRESS": Gate(re.compile(r"[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}|[0-9A-Fa-f]{4}\."), 32),
}
"""Of entities whose gate is another than `NUMBERS`."""

Look = Callable[[str], Iterator[tuple[int, int]]]
"""The places in a piece of text at which an entity stands."""


class Detector:
    """Finds what one policy calls private. Raises ImportError without the library."""

    def __init__(self, private: Private) -> None:
        offered = _offered()
        self._looks: list[tuple[str, Gate | None, Look]] = [
            (entity, GATES.get(entity, NUMBERS), partial(_recognised, offered[entity], entity, private.score))
            for entity in private.entities
        ]
        self._looks += [(name, None, _own(pattern)) for name, pattern in private.patterns.items()]

    def find(self, text: str, until: float | None = None) -> list[Found]:
        """All places, in order and apart. Raises Undecided, at the latest some moments after `until`, by default
        `PATIENCE` seconds from now on the monotonic clock."""
        until = time.monotonic() + PATIENCE if until is None else until
        found = [one for look in self._looks for one in _looked(text, *look, until)]
        spaced = UNSPACED.sub(" ", text)
        if spaced != text:
            found += [one for look in self._looks for one in _looked(spaced, *look, until)]
        return apart(text, [one._replace(value=text[one.start : one.end]) for one in found])


def undetectable(private: Private) -> str | None:
    """Why nothing can be detected here as a policy wants it; None where it can, from then on without delay."""
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
    """Takes seconds the first time that any is asked for."""
    return Detector(private)


@lru_cache(maxsize=1)
def _offered() -> dict[str, Any]:
    """The library's recognisers that work by patterns, by what they recognise. One that needs a service, a model or
    settings can't be made without."""
    import presidio_analyzer.predefined_recognizers as known
    from presidio_analyzer import PatternRecognizer

    logging.getLogger("presidio-analyzer").disabled = True  # it quotes what it fails to validate
    made = {}
    for kind in vars(known).values():
        if isinstance(kind, type) and issubclass(kind, PatternRecognizer | known.PhoneRecognizer):
            recognizer = kind(leniency=2) if kind is known.PhoneRecognizer else kind()  # or dates are numbers
            made[recognizer.supported_entities[0]] = recognizer
    made["EMAIL_ADDRESS"].validate_result = _has_domain()
    return made


def _has_domain() -> Callable[[str], bool]:
    """As the library validates addresses, by the list of public suffixes: but by the one that is installed, since the
    library would fetch a newer one, and keep it in a folder."""
    from tldextract import TLDExtract

    extract = TLDExtract(cache_dir=None, suffix_list_urls=())
    return lambda address: extract(address).fqdn != ""


def _recognised(recognizer: Any, entity: str, score: float, piece: str) -> Iterator[tuple[int, int]]:
    for result in recognizer.analyze(piece, [entity], None):
        if result.score >= score:
            yield result.start, result.end


def _own(pattern: str) -> Look:
    """Of the operator's pattern. Whatever it is, it can't take longer than its time."""
    import regex  # the recognisers' own engine, which knows time limits

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
    """Where a gate lets look, apart from each other."""
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
    """What overlaps in a text is one, under the name of the longest."""
    merged: list[Found] = []
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if not merged or one.start >= merged[-1].end:
            merged.append(one)
        elif one.end > (before := merged[-1]).end:
            longer = max(before, one, key=lambda each: each.end - each.start)
            merged[-1] = Found(longer.entity, before.start, one.end, text[before.start : one.end])
    return merged
