"""How far samples of an answer agree with it: as normalised text, or in the number they end with.

Agreement among samples is self-consistency (Wang et al., arXiv 2203.11171) turned into a measure of one answer, as
SelfCheckGPT does (Manakul et al., arXiv 2303.08896), whose prompt asks a model where `ENTAILMENT` does. Texts are
compared as SQuAD does (Rajpurkar et al., arXiv 1606.05250): by their words, without case, punctuation and articles.
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
"""Puts one sample and the answer to a judge."""

_ARTICLES = frozenset(("a", "an", "the"))
_NUMBER = re.compile(r"(?:(?<![\w)])[-−])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")
_WORD = re.compile(rf"{_NUMBER.pattern}|[^\W\d_]+(?:['’][^\W\d_]+)?|[^\W_]")


def words(text: str) -> list[str]:
    """What is compared of a text. A number is one word however it is written: `1,000.0` is `1000`."""
    found = [_as_word(word) for word in _WORD.findall(text)]
    return [word for word in found if word not in _ARTICLES]


def _as_word(word: str) -> str:
    number = _number(word) if _NUMBER.fullmatch(word) else None
    return word.casefold().replace("’", "'") if number is None else f"{number.normalize():f}"


def last_number(text: str) -> Decimal | None:
    """The last number that a text names in digits."""
    found = _NUMBER.findall(text)
    return _number(found[-1]) if found else None


LONGEST = 40
"""Digits of a number beyond which it is compared as the text that it is."""


def _number(text: str) -> Decimal | None:
    digits = text.replace(",", "").replace("−", "-")
    return Decimal(digits) if len(digits) <= LONGEST and digits.isascii() else None


def of_text(answer: str, sample: str) -> float:
    """The F1 of their words, in [0, 1]: 1 where these are the same, however ordered."""
    mine, others = words(answer), words(sample)
    shared = sum((Counter(mine) & Counter(others)).values())
    return 2.0 * shared / (len(mine) + len(others)) if shared else 0.0


def of_number(answer: str, sample: str) -> float:
    """Whether their last numbers are the same; 0 where either has none."""
    number = last_number(answer)
    return float(number is not None and number == last_number(sample))


COMPARED: Mapping[Compare, Callable[[str, str], float]] = MappingProxyType(
    {"text": of_text, "number": of_number}
)
"""How each sample is compared, where that takes no judge."""


def agreement(compare: Compare, answer: str, samples: Sequence[str]) -> float:
    """The mean over the samples, in [0, 1]. An empty sample agrees with nothing."""
    return sum(COMPARED[compare](answer, sample) for sample in samples) / len(samples)
