"""Token texts -> the answer word: the last word of a draft's first sentence.

Short replies lead up to what was asked for: "The capital of Japan is Tokyo." How sure the model was of that one
word says more than how sure it was of its phrasing.
"""

from functools import lru_cache

SPACED, GLUED, MARK, END = " ", "w", ",", "."
"""Shapes of a token: it begins a word after a space, it begins with a letter or digit, anything else, it ends a
sentence."""

SHAPES = SPACED + GLUED + MARK + END
_STAND_INS = {SPACED: " {}", GLUED: "{}", MARK: "#{}", END: ".{}"}
_SENTENCE_ENDS = frozenset(".!?\n")


@lru_cache(1 << 14)
def shape(text: str) -> str:
    """Remembered, for a model writes the same tokens again and again, and each is asked of several times."""
    if not _SENTENCE_ENDS.isdisjoint(text):
        return END
    if not text.lstrip()[:1].isalnum():
        return MARK
    return SPACED if text[0].isspace() else GLUED


def stand_in(kind: str, number: int) -> str:
    """A text of the same shape that says nothing else of the token but its number. Raises KeyError for no shape."""
    return _STAND_INS[kind].format(number)


class AnswerWord:
    """Finds the word as tokens come: it is the tokens from `begin` to before `end`, and `stop`, where the first
    sentence has ended, the token that ended it. A draft without a word has its first token for one."""

    def __init__(self) -> None:
        self.begin, self.end = 0, 1
        self.stop: int | None = None
        self._count = 0
        self._seen = self._open = False

    def add(self, text: str) -> None:
        if self.stop is None:
            self._take(shape(text))
        self._count += 1

    def _take(self, kind: str) -> None:
        if kind == END and self._seen:
            self.stop = self._count
        word = kind in (SPACED, GLUED)
        if word:
            if kind == SPACED or not self._open:
                self.begin = self._count
            self.end = self._count + 1
            self._seen = True
        self._open = word
