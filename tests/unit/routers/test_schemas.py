"""JSON Schema within bounds: what is checked, what is not, and that hostile schemas end. A check that does not end
is stopped, and so named, by the tests' time limit."""

import json
import socket
from collections.abc import Callable
from decimal import Decimal
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.structure.schemas import (
    MAX_DEPTH,
    MAX_NESTING,
    MAX_PATTERN_CHARS,
    MAX_VALUES,
    max_regex_steps,
    meets_schema,
)

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize(
    ("value", "met"),
    [
        ({"name": "Ada"}, True),
        ({"name": "Ada", "age": 36}, True),
        ({"age": 36}, False),
        ({"name": 1}, False),
        ({"name": "Ada", "age": -1}, False),
        ({"name": "Ada", "shoe": 38}, False),
        ([], False),
    ],
)
def test_a_value_meets_a_schema_or_does_not(value: Any, met: bool) -> None:
    assert meets_schema(PERSON, value) is met


@pytest.mark.parametrize(
    ("schema", "value", "met"),
    [
        ({"prefixItems": [{"type": "string"}]}, [1], False),
        ({"$schema": DRAFT_7, "items": [{"type": "string"}]}, [1], False),
        ({"$schema": DRAFT_7, "prefixItems": [{"type": "string"}]}, [1], True),
        ({"$schema": DRAFT_7.rstrip("#"), "items": [{"type": "string"}]}, [1], False),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "required": ["a"]}, {}, False),
        ({"$schema": "https://example.com/my-dialect", "required": ["a"]}, {}, False),
    ],
)
def test_the_dialect_is_the_one_that_the_schema_names(schema: Any, value: Any, met: bool) -> None:
    assert meets_schema(schema, value) is met


def test_local_references_are_followed() -> None:
    tree = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}}
    assert meets_schema(tree, [[], [[]]])
    assert not meets_schema(tree, [[], [1]])


def test_formats_are_annotations() -> None:
    assert meets_schema({"format": "date"}, "yesterday")


# --- the schema's own faults are not the value's


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"type": "object", "required": "name"},
        {"properties": []},
        {"minimum": "0"},
        {"items": [{"type": "string"}]},
        {"multipleOf": 0},
        {"pattern": "("},
        {"pattern": 5},
        {"$schema": []},
        {"$ref": "#/$defs/nowhere"},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
    ],
    ids=str,
)
@pytest.mark.parametrize("value", [{}, [1], "x", 1, None])
def test_an_invalid_schema_demands_nothing(schema: Any, value: Any) -> None:
    assert meets_schema(schema, value)


@pytest.mark.filterwarnings("ignore")  # jsonschema warns before it fetches, and a warning here is an error
@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "{url}/schema.json"},
        {"$dynamicRef": "{url}/schema.json"},
        {"$id": "{url}/", "$ref": "other.json"},
        {"$schema": DRAFT_7, "$id": "{url}/", "properties": {"a": {"$ref": "other.json"}}},
    ],
    ids=str,
)
def test_nothing_is_fetched(schema: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert meets_schema(json.loads(json.dumps(schema).replace("{url}", url)), {"a": 1})
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.filterwarnings("ignore")
def test_no_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "string"}', encoding="utf-8")
    assert meets_schema({"$ref": (tmp_path / "schema.json").as_uri()}, 1)


# --- bounds


def test_a_schema_is_read_up_to_its_largest_size() -> None:
    def enum(size: int) -> dict[str, Any]:
        return {"enum": ["a"] * size}

    assert not meets_schema(enum(MAX_VALUES - 1), "b")
    assert meets_schema(enum(MAX_VALUES), "b")


META = "https://json-schema.org/draft/2020-12/schema"
AMBIGUOUS = "(a+)+$"
UNLUCKY = "a" * 60 + "b"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": META},
        {"items": {"$schema": DRAFT_7, "pattern": AMBIGUOUS}},
        {"$id": "https://x/", "properties": {"a": {"$ref": "//json-schema.org/draft/2020-12/schema"}}},
        {"$id": META, "$ref": "#/$defs/a"},
    ],
    ids=str,
)
@pytest.mark.parametrize("value", [{"a": 1}, [UNLUCKY], 1])
def test_a_schema_that_names_the_specifications_own_is_not_read(schema: Any, value: Any) -> None:
    assert meets_schema(schema, value)


def laughs(keyword: str) -> dict[str, Any]:
    """Thirty definitions, each of which is the next one twice."""
    twice = {f"a{n}": {keyword: [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)}
    return {"$ref": "#/$defs/a0", "$defs": {**twice, "a30": {"type": "string"}}}


KEYS = {str(n): n for n in range(3000)}
ROWS = {"rows": [{"a": [n]} for n in range(300)]}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (laughs("allOf"), "x"),
        (laughs("anyOf"), 1),
        ({"uniqueItems": True}, [{"a": n} for n in range(20_000)]),
        ({"$defs": {"c": {"const": ROWS}}, "allOf": [{"$ref": "#/$defs/c"}] * 900}, {**ROWS}),
        ({"allOf": [{"additionalProperties": {}}] * 30}, KEYS),
        ({"$defs": {"r": {"required": [*KEYS][:2000]}}, "allOf": [{"$ref": "#/$defs/r"}] * 30}, KEYS),
        ({"anyOf": [*[{"type": "integer"}] * 900, {}]}, "x" * 100_000),
    ],
    ids=["allOf", "anyOf", "uniqueItems", "const", "additionalProperties", "required", "messages"],
)
def test_a_check_that_costs_too_much_is_broken_off(schema: Any, value: Any) -> None:
    assert meets_schema({**schema, "not": {}}, value)


def test_usual_answers_are_checked_to_their_end() -> None:
    row = {"type": "object", "properties": {f"k{n}": {"type": "string"} for n in range(10)}}
    rows = [{f"k{n}": "some text" for n in range(10)} for _ in range(500)]
    assert meets_schema({"items": row}, rows)
    assert not meets_schema({"items": row}, [*rows, {"k9": 1}])
    assert not meets_schema({"uniqueItems": True}, [{"a": n} for n in [*range(100), 0]])


@pytest.mark.parametrize(
    "schema",
    [
        {"patternProperties": {AMBIGUOUS: {"type": "string"}}},
        {"patternProperties": {AMBIGUOUS: {}}, "additionalProperties": False},
        {"unevaluatedProperties": False},
    ],
    ids=str,
)
def test_some_keywords_are_passed_over(schema: Any) -> None:
    assert meets_schema(schema, {UNLUCKY: 1})
    assert not meets_schema({**schema, "required": ["a"]}, {UNLUCKY: 1})


def test_unevaluated_items_are_passed_over() -> None:
    assert meets_schema({"prefixItems": [{}], "unevaluatedItems": False}, [1, 2])


# --- patterns


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^\d{4}-\d{2}-\d{2}$", "2026-11-21", "21.11.2026"),
        (r"^[A-Z]{2,3}-[0-9]+$", "ABC-12", "abc-12"),
        (r"^[^@\s]+@[^@\s]+\.[a-z]+$", "ada@example.org", "ada at example.org"),
        (r"^(?:red|green|blue)$", "red", "pink"),
        (r"^(\([0-9]{3}\))?[0-9]{3}-[0-9]{4}$", "(888)555-1212", "(888)555"),
        (r"^[\])}]+$", "])}", "((("),
        (r"^(?=.*\d)(?!.*z)\w*$", "a1", "az1"),
    ],
)
def test_patterns_are_checked(pattern: str, good: str, bad: str) -> None:
    assert meets_schema({"pattern": pattern}, good)
    assert not meets_schema({"pattern": pattern}, bad)
    assert meets_schema({"pattern": pattern}, 5)


@pytest.mark.parametrize(
    "pattern",
    [
        AMBIGUOUS,
        "(a|a)*$",
        "(a?){60}c",
        r"(a*)\1*\1*c",
        "(?i)" + "[\\0-\\uffff]" * 30,
        "a*" * 8 + "c",
        "(?:a|a)" * 40 + "c",
        "(?P<x>a)c",
        "a{1,50}" * 8 + "c",
        "a{500}" * 20 + "c",
        "c" * (MAX_PATTERN_CHARS + 1),
    ],
)
def test_a_pattern_that_might_take_for_ever_demands_nothing(pattern: str) -> None:
    assert meets_schema({"pattern": pattern}, UNLUCKY)


def test_a_pattern_that_python_cannot_read_leaves_the_rest_demanded() -> None:
    schema = {"properties": {"name": {"pattern": r"^\p{L}+$", "maxLength": 3}}, "required": ["name"]}
    assert meets_schema(schema, {"name": "Ada"})
    assert not meets_schema(schema, {"name": "Byron"})
    assert not meets_schema(schema, {})


def test_patterns_leave_half_of_the_budget_to_the_rest() -> None:
    emails = ["ada.lovelace@example.org"] * 1000
    schema = {"type": "array", "items": {"type": "string", "pattern": r"^[^@]+@[^@]+\.[a-z]+$"}}
    assert meets_schema(schema, emails)
    assert not meets_schema(schema, ["nobody", *emails])
    assert not meets_schema({**schema, "maxItems": 999}, emails)
    assert not meets_schema(schema, [*emails, 1])


@pytest.mark.parametrize(
    ("pattern", "length", "steps"),
    [
        ("abc", 10, 12.0),
        ("a*b", 10, 12.0**2),
        (r"\*\(\{", 10, 12.0),
        ("[*+?|(){}]", 10, 12.0),
        (r"[]*\]]+", 10, 12.0**2),
        ("a{3}b{2,}c{,4}d{1,2}", 0, 2.0**4),
        ("(?:a|b)(?=c)(?!d)(?<=e)(?<!f)g?", 8, 10.0**3),
        ("(ab)?", 8, 10.0**2),
        ("(ab)+", 8, inf),
        ("(ab){2}", 8, inf),
        ("(?i)a", 8, inf),
        (r"(a)\1", 8, inf),
        ("a{100}", 8, inf),
        ("a*" * 21, 8, inf),
        ("a" * (MAX_PATTERN_CHARS + 1), 8, inf),
    ],
)
def test_a_patterns_steps_are_bounded_by_its_choices(pattern: str, length: int, steps: float) -> None:
    assert max_regex_steps(pattern, length) == steps


# --- numbers and depth


@pytest.mark.parametrize(
    ("number", "divisor", "met"),
    [
        (0.3, 0.1, True),
        (19.99, 0.01, True),
        (1.1, 0.1, True),
        (4.35, 0.01, True),
        (1e-7, 1e-8, True),
        (-0.3, 0.1, True),
        (0, 0.1, True),
        (7, 3.5, True),
        (9, 3, True),
        (1e308, 0.01, True),
        (10**600, 1e-300, True),
        (10**17 + 1, 10, False),
        (0.35, 0.1, False),
        (0.30000000000000004, 0.1, False),
        (19.995, 0.01, False),
        (10, 3, False),
        ("0.35", 0.1, True),
        (True, 3, True),
    ],
)
def test_a_multiple_is_one_as_the_numbers_are_written(number: Any, divisor: float, met: bool) -> None:
    assert meets_schema({"multipleOf": divisor}, number) is met


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6), st.integers(0, 9))
def test_every_multiple_of_a_decimal_is_one(factor: int, digits: int, places: int) -> None:
    divisor = Decimal(digits).scaleb(-places)
    product = factor * divisor
    assert meets_schema({"multipleOf": float(divisor)}, float(product)) or product != Decimal(
        repr(float(product))
    )
    beside = product + divisor / 2
    assert not meets_schema({"multipleOf": float(divisor)}, float(beside)) or beside != Decimal(
        repr(float(beside))
    )


@pytest.mark.parametrize("number", [10**600, -(10**600), 1e308, inf, -inf, 0.1])
@pytest.mark.parametrize(
    "schema", [{"multipleOf": 0.1}, {"multipleOf": 3}, {"maximum": 1e400}, {"type": "integer"}], ids=str
)
def test_no_number_is_too_large_to_be_checked(schema: Any, number: float) -> None:
    assert meets_schema(schema, number) in (True, False)


def nested(wrap: Callable[[Any], Any], core: Any, levels: int) -> Any:
    for _ in range(levels):
        core = wrap(core)
    return core


LISTS = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}}


def test_what_is_nested_is_checked_to_some_depth() -> None:
    assert not meets_schema(LISTS, nested(lambda inner: [inner], 1, MAX_NESTING // 2 - 2))
    assert not meets_schema(
        nested(lambda inner: {"allOf": [inner]}, {"type": "string"}, (MAX_DEPTH - 1) // 2), 1
    )


@pytest.mark.parametrize("levels", [MAX_NESTING, 800, 5000])
def test_what_is_nested_too_deeply_is_not(levels: int) -> None:
    assert meets_schema(LISTS, nested(lambda inner: [inner], 1, levels))
    assert meets_schema(nested(lambda inner: {"allOf": [inner]}, {"type": "string"}, levels), 1)
    assert meets_schema({"const": nested(lambda inner: [inner], 1, levels)}, 1)
