"""How many alternatives a server has to follow at once, and that a small engine is not given too many."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateways import StartGateway, settings_of, upstream
from support.scripted_server import Scripted

from gateway.upstreams.providers.grammar_size import BRANCHING, CONSTRAINTS, COUNTLESS, count_alternatives
from policies.schema.policy import Policy
from routers.strategies.direct import Direct

MESSAGES = [{"role": "user", "content": "Hi"}]
MANY = 300


def schema_body(schema: Any) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return {"messages": MESSAGES, "response_format": form}


def words(count: int) -> list[str]:
    return [f"word {index}" for index in range(count)]


def tool(index: int = 0, **schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": f"f{index}", "parameters": {"type": "object", **schema}}}


def doubled(levels: int) -> dict[str, Any]:
    """A schema of a few lines with two to the power of `levels` alternatives."""
    definitions: dict[str, Any] = {"d0": {"type": "string"}}
    for level in range(1, levels + 1):
        definitions[f"d{level}"] = {"anyOf": [{"$ref": f"#/$defs/d{level - 1}"}] * 2}
    return {"$defs": definitions, "$ref": f"#/$defs/d{levels}"}


def chained(links: int) -> dict[str, Any]:
    definitions = {f"d{link}": {"items": {"$ref": f"#/$defs/d{link + 1}"}} for link in range(links)}
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


CONSTS = [{"const": word} for word in words(MANY)]
OPTIONAL = {word: {"type": "string"} for word in words(MANY)}
GBNF = "root ::= " + " | ".join(f'"{word}"' for word in words(MANY))
DOUBLED_GBNF = 'r0 ::= "x" | "y"\n' + "\n".join(f"r{i} ::= (r{i - 1} | r{i - 1})" for i in range(1, 30))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (schema_body({"enum": words(MANY)}), MANY),
        (schema_body({"anyOf": CONSTS}), MANY),
        (schema_body({"type": "array", "items": {"oneOf": [{"anyOf": CONSTS}, {"type": "null"}]}}), MANY + 1),
        (schema_body({"properties": OPTIONAL}), MANY),
        (schema_body({"properties": OPTIONAL, "required": words(MANY)}), 4),
        (schema_body({"pattern": "|".join(words(MANY))}), MANY),
        (schema_body({"enum": words(20)}), 0),
        (schema_body(doubled(10)), 1024),
        (schema_body(doubled(200)), COUNTLESS),
        (schema_body(chained(5000)), COUNTLESS),
        (schema_body({"properties": {"next": {"$ref": "#"}}}), 1),
        (schema_body({"$ref": "#/nowhere"}), 1),
        (schema_body([{"enum": words(MANY)}]), 0),
        ({"prompt": "x", "json_schema": {"enum": words(MANY)}}, MANY),
        ({"messages": MESSAGES, "tools": [tool(index) for index in range(MANY)]}, MANY),
        ({"messages": MESSAGES, "tools": [tool(properties={"a": {"enum": words(MANY)}})]}, MANY),
        ({"messages": MESSAGES, "structured_outputs": {"choice": words(MANY)}}, MANY),
        (
            {
                "messages": MESSAGES,
                "structured_outputs": {"json": orjson.dumps({"enum": words(MANY)}).decode()},
            },
            MANY,
        ),
        ({"messages": MESSAGES, "structured_outputs": {"grammar": GBNF}}, MANY),
        ({"prompt": "x", "grammar": 'root ::= "a|b" [|] # | |\n'}, 1),
        ({"prompt": "x", "grammar": DOUBLED_GBNF}, COUNTLESS),
        ({"messages": [{"role": "user", "content": "," * 1000}]}, 0),
    ],
)
def test_the_most_alternatives_at_one_place_are_counted(body: dict[str, Any], expected: int):
    assert count_alternatives(body, orjson.dumps(body)) == expected


NAMES = ["choice", "function", "grammar", "json", "json_schema", "parameters", "schema", "a"]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.text(max_size=5)
    | st.sampled_from(["#", "#/a", "#/$defs/a"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*NAMES, *BRANCHING, "type", "required"]), inner, max_size=5)
    ),
    max_leaves=40,
)


@given(st.dictionaries(st.sampled_from(sorted(CONSTRAINTS)), VALUES))
def test_no_shape_of_constraints_fails(body: dict[str, Any]):
    body["x"] = "$ref"  # so that all is looked at
    assert 0 <= count_alternatives(body, orjson.dumps(body)) <= COUNTLESS


@pytest.mark.parametrize("engine", ["llamacpp", "vllm"])
async def test_a_schema_that_is_too_large_for_llama_cpp_is_the_large_models(
    start: StartGateway, slm: Scripted, llm: Scripted, engine: str
):
    llm.says('"word 1"')
    slm.says('"word 1"')
    first = Policy(name="first", description="x", router=Direct(tier="slm", fallback=True))
    settings = settings_of(upstream(slm, "slm", engine=engine), upstream(llm, "llm"))
    gateway = await start(settings, [first])
    body = schema_body({"enum": words(MANY)}) | {"model": "first"}
    status, headers, _ = await gateway.post("/chat/completions", body)
    refused = engine == "llamacpp"
    assert (status, headers["x-smallfirst-route"]) == (200, "llm" if refused else "slm")
    assert len(slm.requests) == (0 if refused else 1)


async def test_alone_llama_cpp_refuses_it_with_its_limit(start: StartGateway, slm: Scripted):
    gateway = await start(settings_of(upstream(slm, "slm", engine="llamacpp")))
    for schema, count in (
        ({"enum": words(MANY)}, MANY),
        (chained(5000), COUNTLESS),
        (doubled(90), COUNTLESS),
    ):
        body = schema_body(schema) | {"model": "small"}
        status, _, raw = await gateway.post("/chat/completions", body)
        error = orjson.loads(raw)["error"]
        assert (status, error["code"]) == (400, "not_supported")
        assert f"at most 256 alternatives of a schema or grammar at once, not {count}" in error["message"]
    assert slm.requests == []
