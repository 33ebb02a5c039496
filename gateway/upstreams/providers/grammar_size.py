"""Measures the grammar that a request's constraints become: how many alternatives a server has to follow at once.

llama.cpp tries each token of its vocabulary against each alternative that is still possible.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.wire.body_types import Body
from gateway.wire.parsing.nesting import read_json

CONSTRAINTS = frozenset(
    {"functions", "grammar", "json_schema", "response_format", "structured_outputs", "tools"}
)
"""Fields that a server may turn into a grammar."""

FEW = 200
"""Alternatives that are not worth counting: every server follows that many."""

COUNTLESS = 10**6
"""What a schema counts for whose references go too far to be followed, and the highest count."""

VALUES_PER_ALTERNATIVE = 64
"""Values of a schema that count as one alternative: a long grammar takes time too."""

MAX_DEPTH = 200
"""Levels of schemas within schemas that are followed, through references too. A body's own nesting is less."""

UNIONS = ("anyOf", "oneOf", "allOf")
NAMED_SCHEMAS = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
INNER_SCHEMAS = ("items", "prefixItems", "additionalProperties", "contains", "not")
BRANCHING = frozenset((*UNIONS, *NAMED_SCHEMAS, *INNER_SCHEMAS, "enum", "$ref", "pattern"))
"""Keywords without which a schema has one alternative, or a few types."""


def count_alternatives(body: Body, raw: bytes) -> int:
    """Return the most alternatives at one place of the answer; 0 if they are certainly few. `raw` is the body's bytes.

    A large grammar counts for more than it has at one place: VALUES_PER_ALTERNATIVE says how.
    """
    if CONSTRAINTS.isdisjoint(body) or not _may_be_many(raw):
        return 0
    return min(COUNTLESS, max(_sizes(body), default=0))


def _may_be_many(raw: bytes) -> bool:
    """Return whether so many alternatives fit into the text. A reference may repeat what stands there once."""
    separators = raw.count(b",") + raw.count(b"|")
    return separators >= FEW or b"$ref" in raw or b"::=" in raw or b"\\u" in raw


def _sizes(body: Body) -> Iterator[int]:
    form = body.get("response_format")
    if isinstance(form, dict):
        named = form.get("json_schema")
        yield _measure_schema(named.get("schema") if isinstance(named, dict) else form.get("schema"))
    options = body.get("structured_outputs")
    if isinstance(options, dict):
        yield from _option_sizes(options)
    yield _measure_schema(body.get("json_schema"))
    yield _measure_gbnf(body.get("grammar"))
    for tools in (body.get("tools"), body.get("functions")):
        if isinstance(tools, list):
            yield len(tools)
            yield from (_measure_schema(_parameters(tool)) for tool in tools)


def _option_sizes(options: Mapping[str, Any]) -> Iterator[int]:
    schema, choices = options.get("json"), options.get("choice")
    yield _measure_schema(_parse(schema) if isinstance(schema, str) else schema)
    yield len(choices) if isinstance(choices, list) else 0
    yield _measure_gbnf(options.get("grammar"))


def _parse(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        return None


def _parameters(tool: Any) -> Any:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    return function.get("parameters") if isinstance(function, dict) else None


def _measure_schema(schema: Any) -> int:
    if not isinstance(schema, dict):
        return 0
    widths = _SchemaWidths(schema)
    widths.measure(schema, 0)
    return max(widths.most, widths.values // VALUES_PER_ALTERNATIVE)


class _SchemaWidths:
    """Finds the alternatives with which a value may begin, for each schema within a schema.

    `most` is the highest number, `values` the sum of all.
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.most = 1
        self.values = 0
        self._root = root
        self._known: dict[int, int] = {}

    def measure(self, schema: Any, depth: int) -> int:
        """Return the alternatives with which a value of this schema may begin."""
        if depth > MAX_DEPTH:
            self.most = COUNTLESS
            return COUNTLESS
        if isinstance(schema, list):
            return sum(self.measure(each, depth + 1) for each in schema)
        if not isinstance(schema, dict) or BRANCHING.isdisjoint(schema):
            self.values += 1
            return 1
        if id(schema) not in self._known:
            self._known[id(schema)] = 1  # for a reference to itself
            width = max(1, self._measure_value(schema, depth + 1))
            inside = self._measure_inside(schema, depth + 1)
            self._known[id(schema)] = width
            self.values += width
            self.most = max(self.most, width, inside)
        return self._known[id(schema)]

    def _measure_value(self, schema: Mapping[str, Any], depth: int) -> int:
        width = sum(self.measure(schema[key], depth) for key in UNIONS if isinstance(schema.get(key), list))
        for key in ("enum", "type"):
            if isinstance(schema.get(key), list):
                width += len(schema[key])
        if isinstance(schema.get("$ref"), str):
            width += self.measure(self._resolve(schema["$ref"]), depth)
        return width

    def _measure_inside(self, schema: Mapping[str, Any], depth: int) -> int:
        """Measure the schemas of a value's parts. Return the alternatives that stand within the value itself."""
        for key in NAMED_SCHEMAS:
            if isinstance(schema.get(key), dict):
                self.measure([*schema[key].values()], depth)
        for key in INNER_SCHEMAS:
            if key in schema:
                self.measure(schema[key], depth)
        properties, required = schema.get("properties"), schema.get("required")
        optional = len(properties) if isinstance(properties, dict) else 0
        optional -= len(required) if isinstance(required, list) else 0
        pattern = schema.get("pattern")
        return max(optional, pattern.count("|") + 1 if isinstance(pattern, str) else 0)

    def _resolve(self, reference: str) -> Any:
        """Return what a reference within the schema points at; None if it points at nothing here."""
        found: Any = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        return found


GBNF_LITERAL = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*')
GBNF_RULE = re.compile(r"([\w-]+)\s*::=")
GBNF_NAME = re.compile(r"[\s(]*([A-Za-z][\w-]*)")


def _measure_gbnf(grammar: Any) -> int:
    """Return the alternatives of the rule that has most. A rule that an alternative begins with adds its own."""
    if not isinstance(grammar, str):
        return 0
    parts = GBNF_RULE.split(GBNF_LITERAL.sub("@", grammar))
    rules = {
        name: [match and match[1] for match in map(GBNF_NAME.match, text.split("|"))]
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    known: dict[str, int] = {}

    def measure(name: str | None, depth: int) -> int:
        if name not in rules or name is None:
            return 1
        if depth > MAX_DEPTH:
            return COUNTLESS
        if name not in known:
            known[name] = 1  # for a rule that begins with itself
            known[name] = sum(measure(first, depth + 1) for first in rules[name])
        return known[name]

    widths = [measure(name, 0) for name in rules]
    return max(*widths, sum(map(len, rules.values())) // VALUES_PER_ALTERNATIVE, 0)
