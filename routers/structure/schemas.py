"""JSON Schema validation in bounded time.

The schema comes from a client and the value from a model, and the check blocks the event loop that serves all
requests. A constraint that can't be checked within the bounds is not enforced.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Context, Decimal
from functools import cache
from math import inf
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry

MAX_VALUES = 3_000
"""Maximum number of values in a schema; a larger schema is not enforced."""
MAX_DEPTH = 50
"""Maximum levels of a schema; a deeper schema is not enforced."""
MAX_NESTING = 100
"""Maximum nesting of keywords during a check. It is well below Python's recursion limit, which would make the
Rust code of `referencing` panic with an error that is no Exception."""
MAX_STEPS = 20_000
"""Maximum cost of one check, in steps of a few microseconds: enough for 500 rows of 10 columns."""
REGEX_STEPS = 100
"""Number of regular-expression steps that take as long as one step of a check."""

UNCHECKED_KEYWORDS = ("patternProperties", "unevaluatedItems", "unevaluatedProperties")
"""Keywords that are ignored, since their cost has no useful bound."""
METASCHEMAS = "json-schema.org"

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


def meets_schema(schema: Mapping[str, Any], value: Any) -> bool:
    """True if a JSON value meets a JSON Schema, or if that can't be determined.

    The schema's dialect is the one that its `$schema` names, by default 2020-12. The result can't be
    determined if the schema is invalid or too large, if the check costs too much, or if a `$ref` can't be
    resolved (nothing is fetched). These always pass: `format`, the `UNCHECKED_KEYWORDS`, and a `pattern` that
    Python can't compile or that might backtrack for long. Under `not`, this is stricter than the schema,
    which is rare and costs an escalation.
    """
    try:
        if not _is_checkable(schema):
            return True
        dialect = _meter_dialect(validator_for(schema, default=Draft202012Validator))
        if dialect(schema, format_checker=_Budget(), registry=Registry()).is_valid(value):
            return True
        # Checked last: it takes fifty times as long as checking the value.
        dialect.check_schema(schema, format_checker=FormatChecker(()))
    except Exception:  # an invalid schema fails in as many ways as there are keywords
        return True
    return False


def _is_checkable(schema: Mapping[str, Any]) -> bool:
    """True if a schema is small and flat enough and does not refer to a metaschema.

    jsonschema would check a reference to a metaschema with its own validators, which are not metered.
    """
    level: list[Any] = [value for key, value in schema.items() if key != "$schema"]
    count = 0
    for _ in range(MAX_DEPTH):
        count += len(level)
        if count > MAX_VALUES or any(isinstance(value, str) and METASCHEMAS in value for value in level):
            return False
        level = [inner for value in level for inner in _children(value)]
    return not level


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class _BudgetExceeded(Exception):
    """The check exceeded its budget."""


class _Budget(FormatChecker):
    """The remaining cost of a check, in steps.

    It is passed as the format checker, which jsonschema hands to every subschema. Formats are not checked.
    """

    def __init__(self) -> None:
        super().__init__(())
        self.remaining = MAX_STEPS
        self.depth = 0

    def spend(self, steps: int) -> None:
        self.remaining -= steps
        if self.remaining < 0 or self.depth > MAX_NESTING:
            raise _BudgetExceeded


@cache
def _meter_dialect(dialect: Any) -> Any:
    """Return a dialect's validator class in which each keyword spends the budget."""
    checks: dict[str, Keyword] = {**dialect.VALIDATORS, **dict.fromkeys(UNCHECKED_KEYWORDS, _ignore_keyword)}
    checks["additionalProperties"] = _meter_additional_properties(checks["additionalProperties"])
    metered = {name: _meter_keyword(name, check) for name, check in checks.items()}
    own = {"pattern": _check_pattern, "multipleOf": _meter_keyword("multipleOf", _check_multiple)}
    return extend(dialect, {**metered, **own})  # type: ignore[no-untyped-call]


def _meter_keyword(name: str, check: Keyword) -> Keyword:
    def metered(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        budget: _Budget = validator.format_checker
        budget.spend(1 + _size(value) + _size(instance) // 10 + _extra_steps(name, value, instance))
        budget.depth += 1
        try:
            for error in check(validator, value, instance, schema) or ():
                budget.spend(len(error.message) // 100)  # a message contains the instance as text
                yield error
        finally:
            budget.depth -= 1

    return metered


def _size(value: Any) -> int:
    return len(value) if isinstance(value, dict | list) else 0


def _extra_steps(name: str, value: Any, instance: Any) -> int:
    if name in ("additionalItems", "additionalProperties", "contains", "items", "propertyNames"):
        return _size(instance)  # visits each, even if the subschema has no keyword that spends the budget
    if name in ("const", "enum"):  # deep comparison
        return len(repr(value)) // 50
    if name == "uniqueItems":  # pairwise comparison if the items can't be sorted
        return _size(instance) ** 2 // 4
    return 0


def _ignore_keyword(validator: Any, value: Any, instance: Any, schema: Any) -> None:
    """Check nothing: the keyword is ignored."""


def _meter_additional_properties(check: Keyword) -> Keyword:
    """Ignore `additionalProperties` beside `patternProperties`, whose matches are not known."""

    def additional(
        validator: Any, value: Any, instance: Any, schema: Any
    ) -> Iterator[ValidationError] | None:
        return None if "patternProperties" in schema else check(validator, value, instance, schema)

    return additional


DECIMALS = Context(prec=2_000)
"""Digits of the largest quotient: of an integer of `MAX_INTEGER_DIGITS` by the smallest number that is not 0."""


def _check_multiple(validator: Any, divisor: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """Check `multipleOf` in decimals, as numbers are written: as binary fractions 0.3 is no multiple of 0.1."""
    if validator.is_type(instance, "number") and DECIMALS.remainder(*map(_to_decimal, (instance, divisor))):
        yield ValidationError(f"{instance} is not a multiple of {divisor}")


def _to_decimal(number: float) -> Decimal:
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(number)


def _check_pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, str):
        return
    budget: _Budget = validator.format_checker
    steps = max_regex_steps(pattern, len(instance)) / REGEX_STEPS
    if 2 * steps > budget.remaining:
        return
    budget.spend(1 + int(steps))
    try:
        match = re.search(pattern, instance)
    except re.error:  # syntax of ECMAScript only, such as \p{L}
        return
    if not match:
        yield ValidationError(f"does not match {pattern}")


MAX_PATTERN_CHARS = 500
MAX_CHOICES = 20
_ATOM = re.compile(r"\\[^1-9]|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_OPENING = re.compile(r"\(\?(?:[:=!]|<[=!])")
_UNBOUNDED = re.compile(r"\)[*+{]|\(\?|\\|\{\d{3,}\}")
_CHOICE = re.compile(r"[*+?|]|\{\d*,\d*\}")


def max_regex_steps(pattern: str, length: int) -> float:
    """Estimate the maximum steps of `re` to search `length` characters, or inf if there is no simple bound.

    Backtracking may try each quantifier, each alternative and the start at every position of the text.
    Repeated groups multiply this, and backreferences, inline flags and long counts can hide work, so these
    get inf.
    """
    bare = _OPENING.sub("(", _ATOM.sub("x", pattern))
    choices = len(_CHOICE.findall(bare))
    if len(pattern) > MAX_PATTERN_CHARS or choices > MAX_CHOICES or _UNBOUNDED.search(bare):
        return inf
    return (length + 2.0) ** (choices + 1)
