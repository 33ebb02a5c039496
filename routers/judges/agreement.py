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

from routers.plan import Comparison

ENTAILMENT = """Context:
{sample}

Statement:
{answer}

Is the statement supported by the context above? Reply with one word, yes or no."""
"""The prompt that asks a judge whether one sample supports the answer."""

_ARTICLES = frozenset(("a", "an", "the"))
_NUMBER = re.compile(r"(?:(?<![\w)])[-−])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")
_WORD = re.compile(rf"{_NUMBER.pattern}|[^\W\d_]+(?:['’][^\W\d_]+)?|[^\W_]")


def normalize_words(text: str) -> list[str]:
    """Return a text's normalised words, without articles. A number is one word: `1,000.0` becomes `1000`."""
    tokens = [_normalize_word(word) for word in _WORD.findall(text)]
    return [word for word in tokens if word not in _ARTICLES]


def _normalize_word(word: str) -> str:
    number = _parse_number(word) if _NUMBER.fullmatch(word) else None
    return word.casefold().replace("’", "'") if number is None else f"{number.normalize():f}"


def last_number(text: str) -> Decimal | None:
    """Return the last number written in digits, or None."""
    numbers = _NUMBER.findall(text)
    return _parse_number(numbers[-1]) if numbers else None


MAX_DIGITS = 40
"""Maximum digits of a number. A longer number is compared as text."""


def _parse_number(text: str) -> Decimal | None:
    digits = text.replace(",", "").replace("−", "-")
    return Decimal(digits) if len(digits) <= MAX_DIGITS and digits.isascii() else None


def text_agreement(answer: str, sample: str) -> float:
    """Return the F1 score of the two texts' words, in [0, 1]. It is 1 for the same words in any order."""
    answer_words, sample_words = normalize_words(answer), normalize_words(sample)
    shared = sum((Counter(answer_words) & Counter(sample_words)).values())
    return 2.0 * shared / (len(answer_words) + len(sample_words)) if shared else 0.0


def number_agreement(answer: str, sample: str) -> float:
    """Return 1 if the last numbers of both texts are equal, else 0. It is 0 if either has no number."""
    number = last_number(answer)
    return float(number is not None and number == last_number(sample))


AGREEMENT_BY: Mapping[Comparison, Callable[[str, str], float]] = MappingProxyType(
    {"text": text_agreement, "number": number_agreement}
)
"""The comparisons that need no judge."""


def mean_agreement(compare: Comparison, answer: str, samples: Sequence[str]) -> float:
    """Return the answer's mean agreement with the samples, in [0, 1]. An empty sample agrees with nothing."""
    return sum(AGREEMENT_BY[compare](answer, sample) for sample in samples) / len(samples)
