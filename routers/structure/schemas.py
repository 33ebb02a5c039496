"""Whether a value meets a request's JSON Schema, in bounded time.

The schema comes from a client and the value from a model, but the event loop that waits for the verdict serves
everybody. What cannot be checked within the bounds is not demanded.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from math import inf
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry

LARGEST = 3_000
"""Values in a schema beyond which it is not read."""
DEEPEST = 50
"""Levels of a schema beyond which it is not read."""
NESTED = 100
"""Keywords within keywords beyond which a check is broken off: well before Python's own limit, because that one
makes referencing's Rust code panic with what is no Exception."""
STEPS = 20_000
"""What one check may cost, in steps of a few microseconds: enough for 500 rows of 10 columns."""
REGEX_STEPS = 100
"""A regular expression's steps that take as long as one of these."""

PASSED_OVER = ("patternProperties", "unevaluatedItems", "unevaluatedProperties")
"""Keywords whose cost has no useful bound."""
METASCHEMAS = "json-schema.org"

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


def meets(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether a JSON value meets a JSON Schema of the dialect that its `$schema` names, by default 2020-12.

    True where that can't be said: the schema is invalid or too large, checking it costs too much, or it comes
    to a `$ref` that leads nowhere (nothing is fetched). `format`, the keywords that are passed over and a
    `pattern` that Python can't read or that might backtrack for long demand nothing. Under `not` that demands
    more than the schema does: rare, and the price is an escalation.
    """
    try:
        if not _readable(schema):
            return True
        dialect = _metered(validator_for(schema, default=Draft202012Validator))
        if dialect(schema, format_checker=_Budget(), registry=Registry()).is_valid(value):
            return True
        # Only now: it takes fifty times as long as checking the value.
        dialect.check_schema(schema, format_checker=FormatChecker(()))
    except Exception:  # an invalid schema fails in as many ways as there are keywords
        return True
    return False


def _readable(schema: Mapping[str, Any]) -> bool:
    """Whether a schema is small and flat enough, and keeps to itself: what refers to the specification's own schemas
    would be checked by jsonschema's own validators, which are not metered."""
    level: list[Any] = [value for key, value in schema.items() if key != "$schema"]
    seen = 0
    for _ in range(DEEPEST):
        seen += len(level)
        if seen > LARGEST or any(isinstance(value, str) and METASCHEMAS in value for value in level):
            return False
        level = [inner for value in level for inner in _inner(value)]
    return not level


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class _Spent(Exception):
    """The check costs more than it may."""


class _Budget(FormatChecker):
    """What a check may still cost. It goes as the format checker, which jsonschema hands down to every
    subschema; formats themselves are not asserted."""

    def __init__(self) -> None:
        super().__init__(())
        self.left = STEPS
        self.depth = 0

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0 or self.depth > NESTED:
            raise _Spent


@cache
def _metered(dialect: Any) -> Any:
    """A dialect's validator, each of whose keywords is paid for."""
    checks: dict[str, Keyword] = {**dialect.VALIDATORS, **dict.fromkeys(PASSED_OVER, _nothing)}
    checks["additionalProperties"] = _additional(checks["additionalProperties"])
    paid = {name: _paid(name, check) for name, check in checks.items()}
    return extend(dialect, {**paid, "pattern": _pattern})  # type: ignore[no-untyped-call]


def _paid(name: str, check: Keyword) -> Keyword:
    def paid(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        budget: _Budget = validator.format_checker
        budget.spend(1 + _size(value) + _size(instance) // 10 + _extra(name, value, instance))
        budget.depth += 1
        try:
            for error in check(validator, value, instance, schema) or ():
                budget.spend(len(error.message) // 100)  # most of which is the instance, written out
                yield error
        finally:
            budget.depth -= 1

    return paid


def _size(value: Any) -> int:
    return len(value) if isinstance(value, dict | list) else 0


def _extra(name: str, value: Any, instance: Any) -> int:
    if name in ("additionalItems", "additionalProperties", "contains", "items", "propertyNames"):
        return _size(instance)  # a look at each, even where the subschema has no keyword that is paid for
    if name in ("const", "enum"):  # compared in depth
        return len(repr(value)) // 50
    if name == "uniqueItems":  # each with each, where they can't be sorted
        return _size(instance) ** 2 // 4
    return 0


def _nothing(validator: Any, value: Any, instance: Any, schema: Any) -> None:
    """A keyword that is passed over."""


def _additional(check: Keyword) -> Keyword:
    """Additional properties are those that `patternProperties` leaves over: passed over with it."""

    def additional(
        validator: Any, value: Any, instance: Any, schema: Any
    ) -> Iterator[ValidationError] | None:
        return None if "patternProperties" in schema else check(validator, value, instance, schema)

    return additional


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, str):
        return
    budget: _Budget = validator.format_checker
    steps = most_steps(pattern, len(instance)) / REGEX_STEPS
    if 2 * steps > budget.left:
        return
    budget.spend(1 + int(steps))
    try:
        matched = re.search(pattern, instance)
    except re.error:  # ECMAScript's own, such as \p{L}
        return
    if not matched:
        yield ValidationError(f"does not match {pattern}")


LONGEST_PATTERN = 500
MOST_CHOICES = 20
_ATOM = re.compile(r"\\[^1-9]|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_OPENING = re.compile(r"\(\?(?:[:=!]|<[=!])")
_UNBOUNDED = re.compile(r"\)[*+{]|\(\?|\\|\{\d{3,}\}")
_CHOICE = re.compile(r"[*+?|]|\{\d*,\d*\}")


def most_steps(pattern: str, length: int) -> float:
    """About how many steps `re` takes at most to search a text of `length` characters; inf where no bound is
    at hand.

    Backtracking may decide each quantifier and alternative in as many ways as the text has places, and so the
    place to begin. Repeated groups multiply that by themselves, and backreferences, inline flags and long
    counts can hide work: no bound is given for these.
    """
    bare = _OPENING.sub("(", _ATOM.sub("x", pattern))
    choices = len(_CHOICE.findall(bare))
    if len(pattern) > LONGEST_PATTERN or choices > MOST_CHOICES or _UNBOUNDED.search(bare):
        return inf
    return (length + 2.0) ** (choices + 1)
