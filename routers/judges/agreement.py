"""Agreement of an answer with new samples of its request: as normalised text, or in the last number.

Self-consistency (Wang et al., arXiv 2203.11171) compares samples; SelfCheckGPT (Manakul et al., arXiv
2303.08896) uses it to measure one answer, and its prompt is the model for `ENTAILMENT`. Texts are compared as
in SQuAD (Rajpurkar et al., arXiv 1606.05250): by their words, without case, punctuation and articles.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType

from routers.plan import Compare

ENTAILMENT = """Context:
{sample}

Statement:
{answer}

Is the statement supported by the context above? Reply with one word, yes or no."""
"""The prompt that asks a judge whether one sample supports the answer."""

_ARTICLES = frozenset(("a", "an", "the"))
_NUMBER = re.compile(r"(?:(?<![\w)])[-−])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")
_WORD = re.compile(rf"{_NUMBER.pattern}|[^\W\d_]+(?:['’][^\W\d_]+)?|[^\W_]")


def words(text: str) -> list[str]:
    """Return a text's normalised words, without articles. A number is one word: `1,000.0` becomes `1000`."""
    found = [_as_word(word) for word in _WORD.findall(text)]
    return [word for word in found if word not in _ARTICLES]


def _as_word(word: str) -> str:
    number = _number(word) if _NUMBER.fullmatch(word) else None
    return word.casefold().replace("’", "'") if number is None else f"{number.normalize():f}"


def last_number(text: str) -> Decimal | None:
    """Return the last number written in digits, or None."""
    found = _NUMBER.findall(text)
    return _number(found[-1]) if found else None


LONGEST = 40
"""Maximum digits of a number. A longer number is compared as text."""


def _number(text: str) -> Decimal | None:
    digits = text.replace(",", "").replace("−", "-")
    return Decimal(digits) if len(digits) <= LONGEST and digits.isascii() else None


def of_text(answer: str, sample: str) -> float:
    """Return the F1 score of the two texts' words, in [0, 1]. It is 1 for the same words in any order."""
    mine, others = words(answer), words(sample)
    shared = sum((Counter(mine) & Counter(others)).values())
    return 2.0 * shared / (len(mine) + len(others)) if shared else 0.0


def of_number(answer: str, sample: str) -> float:
    """Return 1 if the last numbers of both texts are equal, else 0. It is 0 if either has no number."""
    number = last_number(answer)
    return float(number is not None and number == last_number(sample))


COMPARED: Mapping[Compare, Callable[[str, str], float]] = MappingProxyType(
    {"text": of_text, "number": of_number}
)
"""The comparisons that need no judge."""


def agreement(compare: Compare, answer: str, samples: Sequence[str]) -> float:
    """Return the answer's mean agreement with the samples, in [0, 1]. An empty sample agrees with nothing."""
    return sum(COMPARED[compare](answer, sample) for sample in samples) / len(samples)
