"""Decodes vocabulary entries to bytes, for byte-level BPE and for SentencePiece."""

import re
from collections.abc import Sequence

_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_UNPRINTABLE = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTE_LEVEL_ALPHABET = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + at): byte for at, byte in enumerate(_UNPRINTABLE)
}
"""GPT-2's alphabet, which maps a printable character to each byte."""

_BYTE_ENTRY = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"


def decode_entries(entries: Sequence[str], text: str) -> list[bytes]:
    """Return the bytes of each entry of `text`, decoded as byte-level BPE if that yields the text, else as
    SentencePiece."""
    decoded = [_decode_byte_level(entry) for entry in entries]
    if text.encode() in b"".join(decoded):
        return decoded
    return [_decode_sentence_piece(entry) for entry in entries]


def _decode_byte_level(entry: str) -> bytes:
    """Return the bytes of an entry. An added token's entry is its text, which may have letters outside the
    alphabet."""
    if all(letter in BYTE_LEVEL_ALPHABET for letter in entry):
        return bytes(BYTE_LEVEL_ALPHABET[letter] for letter in entry)
    return entry.encode()


def _decode_sentence_piece(entry: str) -> bytes:
    byte = _BYTE_ENTRY.fullmatch(entry)
    return bytes([int(byte[1], 16)]) if byte else entry.replace(_SPACE, " ").encode()
