"""Decodes vocabulary entries to bytes, for byte-level BPE and for SentencePiece."""

import re
from collections.abc import Sequence

_PLAIN = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHER = [byte for byte in range(256) if byte not in _PLAIN]
BYTE_LEVEL = {chr(byte): byte for byte in _PLAIN} | {chr(256 + at): byte for at, byte in enumerate(_OTHER)}
"""GPT-2's alphabet, which maps a printable character to each byte."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"


def bytes_of(entries: Sequence[str], text: str) -> list[bytes]:
    """Return the bytes of each entry of `text`, decoded as byte-level BPE if that yields the text, else as
    SentencePiece."""
    found = [_byte_level(entry) for entry in entries]
    if text.encode() in b"".join(found):
        return found
    return [_sentence_piece(entry) for entry in entries]


def _byte_level(entry: str) -> bytes:
    """Return the bytes of an entry. An added token's entry is its text, which may have letters outside the
    alphabet."""
    if all(letter in BYTE_LEVEL for letter in entry):
        return bytes(BYTE_LEVEL[letter] for letter in entry)
    return entry.encode()


def _sentence_piece(entry: str) -> bytes:
    byte = _BYTE.fullmatch(entry)
    return bytes([int(byte[1], 16)]) if byte else entry.replace(_SPACE, " ").encode()
