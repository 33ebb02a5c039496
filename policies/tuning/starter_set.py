"""The starter set: 1200 short questions with right answers, used until there is recorded traffic.

A small model is measured and its calibrators are trained on these items before the first request of a user.
Items of one template are never in both splits, so the ``held_out`` split shows how well a rule generalises to
other wording.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Kind = Literal["sums", "sentiment", "opposites", "extraction", "facts", "yes_no"]
Split = Literal["train", "held_out"]
Level = Literal["easy", "medium", "hard"]
Grade = Literal["number", "word", "choice", "yes_no"]


class Item(BaseModel):
    """One question and its right answers. Unknown, missing or ill-typed fields are errors.

    ``level`` is the intended difficulty; grading ignores it. ``answers`` are alternatives, any of which is
    right. ``labels`` are the options of a ``choice``, whether the prompt states them or not. On a ``word``
    item they are the answers and their rivals, and a reply that names a rival is wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str = Field(min_length=1)
    kind: Kind
    template: str = Field(min_length=1)
    split: Split
    level: Level
    prompt: str = Field(min_length=1)
    grade: Grade
    answers: tuple[str, ...] = Field(min_length=1)
    labels: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_fields(self) -> Item:
        for fits, expected in (
            (self.id.startswith(f"{self.kind}-"), f"an id that starts with '{self.kind}-'"),
            (self.template.startswith(f"{self.kind}/"), f"a template that starts with '{self.kind}/'"),
            (all(answer.strip() for answer in self.answers), "answers that are not blank"),
            (_answers_fit_grade(self), f"answers that a '{self.grade}' grade can be compared with"),
            (_labels_fit_grade(self), f"labels that a '{self.grade}' grade can use, the answers among them"),
        ):
            if not fits:
                raise ValueError(f"expected {expected}")
        return self


def _answers_fit_grade(item: Item) -> bool:
    if item.grade == "number":
        return all(_is_number(answer) for answer in item.answers)
    return item.grade != "yes_no" or set(item.answers) <= {"yes", "no"}


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _labels_fit_grade(item: Item) -> bool:
    if item.grade in ("number", "yes_no"):
        return not item.labels
    if item.grade == "word" and not item.labels:
        return True
    return len(item.labels) >= 2 and set(item.answers) <= set(item.labels)


def load_items(path: Path | None = None) -> list[Item]:
    """Return the items of ``path``, or of the set that ships, in file order. Blank lines are skipped.

    Raises ``ValueError`` that names the file, the line and what was expected if a line is not a valid item,
    repeats an id or a prompt, or puts its template into a second split. Raises ``OSError`` if the file cannot
    be read.
    """
    source = resources.files("policies").joinpath("tuning", "starter_set.jsonl") if path is None else path
    items: list[Item] = []
    seen: dict[str, str] = {}
    for number, line in enumerate(source.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            item = Item.model_validate_json(line)
            _check_unique(item, seen)
        except ValueError as error:
            raise ValueError(f"{source}, line {number}: {_describe_error(error)}") from error
        items.append(item)
    return items


def _check_unique(item: Item, seen: dict[str, str]) -> None:
    """Add what must be unique in the file to ``seen``. Raises ``ValueError`` if it is already there."""
    if seen.setdefault(f"template {item.template}", item.split) != item.split:
        raise ValueError(f"expected template '{item.template}' in one split only, it is also in the other")
    for key, what in ((f"id {item.id}", "id"), (f"prompt {item.prompt}", "prompt")):
        if key in seen:
            raise ValueError(f"expected a new {what}, this one is already that of {seen[key]}")
        seen[key] = item.id


def _describe_error(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(_describe_field(detail["loc"], detail["msg"]) for detail in error.errors())


def _describe_field(where: tuple[int | str, ...], message: str) -> str:
    field = ".".join(str(part) for part in where)
    return f"{field}: {message}" if field else message


def is_right(item: Item, reply: str) -> bool:
    """True if ``reply`` states a right answer to ``item``.

    Case, Markdown emphasis, typographic quotes and ordinal endings are ignored. The grade decides how a reply
    is read: ``number`` takes the number that the reply concludes with, ``word`` looks for an answer as whole
    words, ``choice`` and ``yes_no`` take the first option that is named. An empty reply is wrong. No reply
    raises an error.
    """
    return _GRADERS[item.grade](item, _normalise(reply))


_TYPOGRAPHY = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-", "‑": "-", "*": None, "`": None}
)
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")


def _normalise(text: str) -> str:
    folded = " ".join(text.translate(_TYPOGRAPHY).replace("\\_", "_").casefold().split())
    return _ORDINAL.sub("", folded)


# --- numbers ----------------------------------------------------------------------------------------

# A minus sign counts unless it stands between two numbers, as in "7-5" and "7 -5".
_NUMBER = r"(?:(?<![\d)])(?<![\d)]\s)-)?(?>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_NUMBERS = re.compile(_NUMBER)
# Words that announce a result: "=", "equals", "answer:", "the total is". A number that
# starts a calculation is no result.
_CONCLUSIONS = re.compile(
    r"(?:=|\bequals\b|"
    r"\b(?:answer|result|total|sum|difference|product)\b(?: of\b[^.=:]{0,40}?|[^.=\d]{0,40}?)(?:\bis\b|:))"
    rf"(?:\\boxed\{{|[\\$€£(\"'\s])*({_NUMBER})(?!\s*[-+x×÷/=]\s*\$?\d|\s*=)"
)


def _number_is_right(item: Item, text: str) -> bool:
    number = _find_conclusion(_normalise(item.prompt), text)
    return number is not None and any(Decimal(answer) == number for answer in item.answers)


def _find_conclusion(prompt: str, text: str) -> Decimal | None:
    """Return the announced result, else the last number that is not in the prompt, else the last number."""
    announced: list[str] = _CONCLUSIONS.findall(text)
    if announced:
        return _to_decimal(announced[-1])
    numbers = [_to_decimal(digits) for digits in _NUMBERS.findall(text)]
    if not numbers:
        return _find_spelled_number(text)
    in_prompt = {_to_decimal(digits) for digits in _NUMBERS.findall(prompt)}
    new = [number for number in numbers if number not in in_prompt]
    return (new or numbers)[-1]


def _to_decimal(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen"),
    *("fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SPELLED = re.compile(rf"\b(?:({'|'.join(_TENS)})(?:[- ]({'|'.join(_UNITS[1:10])}))?|({'|'.join(_UNITS)}))\b")


def _find_spelled_number(text: str) -> Decimal | None:
    """Return the last number from zero to ninety-nine in words; None if there is none or a larger one."""
    spelled = _SPELLED.findall(text)
    if not spelled or re.search(r"\b(?:hundred|thousand|million)\b", text):
        return None
    tens, ones, unit = spelled[-1]
    if unit:
        return Decimal(_UNITS.index(unit))
    return Decimal(20 + 10 * _TENS.index(tens) + (_UNITS.index(ones) if ones else 0))


# --- words and labels -------------------------------------------------------------------------------

_NEGATION = re.compile(
    r"(?:\b(?:not|never|cannot|non|rather than|instead of)|n't)[\s-]+"
    r"(?:(?:a|an|the|be|in|at|on|all|very|really|so|quite|entirely|particularly)\s+)*[\"'$]*$"
)


_ABSTENTION = re.compile(r"\b(?:neutral|neither)\b")


def _word_is_right(item: Item, text: str) -> bool:
    rivals = [label for label in item.labels if label not in item.answers]
    if any(True for _ in _find_mentions(rivals, text)):
        return False
    return any(not _is_negated(text, mention) for mention in _find_mentions(item.answers, text))


def _find_mentions(phrases: Iterable[str], text: str) -> Iterable[re.Match[str]]:
    """Return the occurrences of any phrase as whole words or a whole number, in the order of the text."""
    options = sorted((_normalise(phrase) for phrase in phrases), key=len, reverse=True)
    if not options:
        return ()
    either = "|".join(re.escape(option) for option in options)
    return re.finditer(rf"(?<!\w)(?<!\d[.,:])(?:{either})(?!\w)(?![.,:]\d)", text)


def _is_negated(text: str, mention: re.Match[str]) -> bool:
    start = mention.start()
    return _NEGATION.search(text, max(0, start - 40), start) is not None


def _choice_is_right(item: Item, text: str) -> bool:
    right = {_normalise(answer) for answer in item.answers}
    return _find_first_choice([_normalise(label) for label in item.labels], text) in right


def _find_first_choice(labels: list[str], text: str) -> str | None:
    """Return the label that the reply names first; of two labels, a negated one stands for the other.

    None if no label is named, or none before "neutral" or "neither".
    """
    text = _remove_lists(labels, text)
    abstains = _ABSTENTION.search(text)
    for mention in _find_mentions(labels, text[: abstains.start()] if abstains else text):
        if not _is_negated(text, mention):
            return mention.group()
        if len(labels) == 2:
            return labels[1 - labels.index(mention.group())]
    return None


def _remove_lists(labels: list[str], text: str) -> str:
    """Return ``text`` without mentions of several options at once, such as "positive or negative"."""
    label = rf"[\"']?(?:{'|'.join(re.escape(label) for label in labels)})[\"']?"
    return re.sub(
        rf"(?<!\w){label}(?:\s*,\s*{label})*\s*(?:/|,?\s*\b(?:or|and)\b)\s*(?:an?\s)?{label}(?!\w)", " ", text
    )


_YES_NO = re.compile(r"\b(yes|yeah|yep|no|nope)\b(?!\s+(?:doubt|one|matter|longer|problem)\b)")


def _yes_no_is_right(item: Item, text: str) -> bool:
    mention = _YES_NO.search(_remove_lists(["yes", "no"], text))
    return mention is not None and ("yes" if mention.group(1).startswith("y") else "no") in item.answers


_GRADERS: dict[Grade, Callable[[Item, str], bool]] = {
    "number": _number_is_right,
    "word": _word_is_right,
    "choice": _choice_is_right,
    "yes_no": _yes_no_is_right,
}
