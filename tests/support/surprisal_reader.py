"""A reader whose surprise is made up, and prose for it."""

import re
import zlib

from gateway.skills.compress.surprisal import TokenSurprisal

GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau"
WORDS = GREEK.split()


class Reader:
    """Tokens of at most five letters; what it finds surprising depends on their text, and less so on what it was given
    before, where that has the same word."""

    def __init__(self) -> None:
        self.read = 0

    async def read_surprisals(self, text: str, context: str = "") -> list[TokenSurprisal]:
        self.read += len(text)
        known = set(context.split())
        found = []
        for at, token in enumerate(re.finditer(r"\s?\S{1,5}|\s", text)):
            surprise = (zlib.crc32(token[0].strip().encode(errors="replace")) % 997) / 100
            if token[0].strip() in known:
                surprise /= 10
            found.append(TokenSurprisal(*token.span(), -surprise if at else None))
        return found

    async def count_tokens(self, text: str) -> int:
        return len(await Reader().read_surprisals(text))


def prose(words: int, seed: int = 1) -> str:
    """Sentences of seven words in paragraphs of ten sentences."""
    names = [WORDS[(at * at + seed * 7 + at // 5) % len(WORDS)] for at in range(words)]
    sentences = [" ".join(names[at : at + 7]) + "." for at in range(0, words, 7)]
    return "\n\n".join(" ".join(sentences[at : at + 10]) for at in range(0, len(sentences), 10))
