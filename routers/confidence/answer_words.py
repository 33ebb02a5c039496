"""Token shapes, and the answer word: the last word of a draft's first sentence.

Short replies often end with the answer: "The capital of Japan is Tokyo." The model's certainty of that one
word is more informative than its certainty of the phrasing.
"""

from functools import lru_cache

SPACED_WORD, WORD_PART, OTHER, SENTENCE_END = " ", "w", ",", "."
"""Token shapes: a word's beginning after a space, a word's beginning or continuation without a space, any
other token, and a sentence end."""

SHAPES = SPACED_WORD + WORD_PART + OTHER + SENTENCE_END
_STAND_INS = {SPACED_WORD: " {}", WORD_PART: "{}", OTHER: "#{}", SENTENCE_END: ".{}"}
_SENTENCE_ENDS = frozenset(".!?\n")


@lru_cache(1 << 14)
def token_shape(text: str) -> str:
    """Return a token's shape. Cached, since models write the same tokens again and again."""
    if not _SENTENCE_ENDS.isdisjoint(text):
        return SENTENCE_END
    if not text.lstrip()[:1].isalnum():
        return OTHER
    return SPACED_WORD if text[0].isspace() else WORD_PART


def build_stand_in(shape: str, number: int) -> str:
    """Return a text of this shape that reveals only the token's number. Raises KeyError for other shapes."""
    return _STAND_INS[shape].format(number)


class AnswerWord:
    """Finds the answer word as tokens arrive.

    The word is the tokens with indices in [begin, end). `stop` is the index of the token that ended the first
    sentence, or None so far. In a draft without a word, the first token counts as the word.
    """

    def __init__(self) -> None:
        self.begin, self.end = 0, 1
        self.stop: int | None = None
        self._count = 0
        self._has_word = self._in_word = False

    def add(self, text: str) -> None:
        if self.stop is None:
            self._update(token_shape(text))
        self._count += 1

    def _update(self, shape: str) -> None:
        if shape == SENTENCE_END and self._has_word:
            self.stop = self._count
        is_word = shape in (SPACED_WORD, WORD_PART)
        if is_word:
            if shape == SPACED_WORD or not self._in_word:
                self.begin = self._count
            self.end = self._count + 1
            self._has_word = True
        self._in_word = is_word
