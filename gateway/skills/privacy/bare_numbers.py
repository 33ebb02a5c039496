"""Hides ten digits in a row that are no telephone number: a time in seconds, an order, an id.

Nearly all such numbers are valid somewhere. So they count as a telephone number only if something says so: a
separator, a country's code, a zero in front, or a word nearby.
"""

import re

BARE_NUMBER = re.compile(r"(?<![\d+.,\w])[1-9]\d{9}(?![\d\w]|[.,]\d)", re.ASCII)
COUNTRY_CODE = re.compile(r"(?<![\d:./-])(?:\+|00)?\d{1,3}[-.\s()\[\]/]{1,4}$")
"""What may stand before the ten digits, as in `+1 (2025550123)`; not the end of a date or a time."""
EXTENSION = re.compile(r"\W{0,3}(?:x|ext)\W{0,3}\d", re.IGNORECASE)

CONTEXT = re.compile(
    r"phone|telef|téléph|\btel\b|mobil|\bcell|\bcall|\bfax|\bdial|\bsms\b|whatsapp|\bring\b|\breach\b|\bcontact"
    r"|(?:my|your|his|her|our|their) (?:\w+ )?number"
    r"|\bhandy|rufnummer|portable|numéro|celular|móvel|טלפון|נייד|फ़ोन|फोन|मोबाइल",
    re.IGNORECASE,
)
"""Words of a telephone number, in the languages of the numbering plans that are tried."""
CONTEXT_BEFORE = 48
CONTEXT_AFTER = 24
"""Characters in which a word counts."""


def hide_bare_numbers(text: str) -> str:
    """Return the text, with `#` for each digit of these numbers."""
    return BARE_NUMBER.sub(_hide_unless_said, text)


def _hide_unless_said(number: re.Match[str]) -> str:
    text, start, end = number.string, number.start(), number.end()
    before = text[max(0, start - CONTEXT_BEFORE) : start]
    after = text[end : end + CONTEXT_AFTER]
    is_said = (
        COUNTRY_CODE.search(before)
        or EXTENSION.match(after)
        or CONTEXT.search(before)
        or CONTEXT.search(after)
    )
    return number[0] if is_said else "#" * len(number[0])
