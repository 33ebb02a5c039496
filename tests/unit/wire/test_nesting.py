"""A body that is accepted can be written again, by whatever does so on its way; any other is refused at once."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.gateways import Gateway
from support.scripted_server import Reply, Scripted

from gateway.api.request_body import parse_body
from gateway.errors import ApiError
from gateway.wire.parsing.nesting import MAX_NESTING, SPARE

AS_JSON = {"Content-Type": "application/json"}
MESSAGES = [{"role": "user", "content": "Hi"}]


def nested(levels: int, kind: str = "lists") -> Any:
    value: Any = "x"
    for level in range(levels):
        value = [value] if kind == "lists" or (kind == "both" and level % 2) else {"a": value}
    return value


def written(value: Any) -> bytes:
    """As JSON: Python writes what orjson does not."""
    return json.dumps(value).encode()


def depth_of(value: Any) -> int:
    depth, level = 0, [value]
    while level := [inner for inner in level if isinstance(inner, list | dict)]:
        depth += 1
        level = [
            inner for holder in level for inner in (holder.values() if isinstance(holder, dict) else holder)
        ]
    return depth


ENDPOINTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "small", "messages": MESSAGES},
    "/v1/completions": {"model": "small", "prompt": "Hi"},
    "/v1/embeddings": {"model": "small", "input": "Hi"},
    "/v1/responses": {"model": "small", "input": "Hi"},
    "/v1/compress": {"model": "small", "messages": MESSAGES},
    "/v1/evaluate": {"evaluators": ["structure"], "messages": MESSAGES, "output": "Hi"},
    "/tokenize": {"model": "small", "messages": MESSAGES},
    "/detokenize": {"model": "small", "tokens": [1]},
}

FIELDS: dict[str, Any] = {
    "smallfirst": lambda deep: {"context": deep},
    "messages": lambda deep: [{"role": "user", "content": "Hi", "x": deep}],
    "response_format": lambda deep: {"type": "json_schema", "json_schema": {"name": "x", "schema": deep}},
    "tools": lambda deep: [{"type": "function", "function": {"name": "x", "parameters": deep}}],
    "metadata": lambda deep: {"x": deep},
    "x": lambda deep: deep,
}
"""Where a body may have anything, or almost."""


async def post(gateway: Gateway, path: str, body: bytes) -> tuple[int, str, dict[str, Any]]:
    async with gateway.http.post(f"{gateway.root}{path}", data=body, headers=AS_JSON) as response:
        found = orjson.loads(await response.read())
        return response.status, response.headers["content-type"], found


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("kind", ["lists", "objects", "both"])
async def test_every_endpoint_refuses_what_nests_too_deeply_and_names_it(
    gateway: Gateway, slm: Scripted, llm: Scripted, path: str, kind: str
):
    for field, placed in FIELDS.items():
        body = ENDPOINTS[path] | {field: placed(nested(400, kind))}
        status, content_type, found = await post(gateway, path, written(body))
        error = found["error"]
        assert (status, content_type) == (400, "application/json"), field
        assert (error["type"], error["code"], error["param"]) == (
            "invalid_request_error",
            "invalid_value",
            field,
        )
        assert error["message"].startswith(f"{field} is nested too deeply")
        assert str(MAX_NESTING) in error["message"]
    assert slm.requests == llm.requests == []


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("kind", ["lists", "objects"])
async def test_what_nests_as_deeply_as_it_may_is_no_internal_error(gateway: Gateway, path: str, kind: str):
    for model in ("small", "test"):
        for field, placed in FIELDS.items():
            around = MAX_NESTING + 1 - depth_of({field: placed([])})
            body = ENDPOINTS[path] | {field: placed(nested(around, kind))}
            if "model" in body:
                body["model"] = model
            assert depth_of(body) == MAX_NESTING
            for more in ({}, {"stream": True}):
                async with gateway.http.post(
                    f"{gateway.root}{path}", data=written(body | more), headers=AS_JSON
                ) as response:
                    raw = await response.read()
                assert b"internal_error" not in raw, (field, model, raw)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.text()
    | st.text(st.characters(categories=["Cs", "Cc", "L"]))
    | st.sampled_from(["[" * 500, "}" * 500, '{"' * 300])
)
VALUES = st.recursive(
    SCALARS | st.builds(nested, st.integers(0, 300), st.sampled_from(["lists", "objects", "both"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4))
@example({"a": nested(MAX_NESTING - 1), "b": 1})
@example({"a": nested(MAX_NESTING - 1, "objects"), "b": "[" * 300})
@example({"a": nested(MAX_NESTING)})
@example({"a": "\ud800"})
@example({"a": 10**400})
@example({"a": float("nan")})
def test_any_body_that_is_accepted_can_be_written_with_much_around_it(body: dict[str, Any]):
    found = read(written(body))
    if isinstance(found, ApiError):
        assert found.status == 400
        assert ("nested" in found.message) == (depth_of(body) > MAX_NESTING) or found.code == "invalid_json"
        return
    assert depth_of(body) <= MAX_NESTING
    assert json.loads(orjson.dumps(found)) == without_surrogates(body)
    around: Any = found
    for _ in range(SPARE):
        around = [around]
    orjson.dumps(around)


def without_surrogates(value: Any) -> Any:
    """Each lone half of a surrogate pair replaced."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [without_surrogates(inner) for inner in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(inner) for key, inner in value.items()}
    return value


def read(raw: bytes) -> dict[str, Any] | ApiError:
    try:
        return parse_body(raw)
    except ApiError as error:
        return error


async def test_an_upstreams_event_that_nests_too_deeply_is_garbage(
    gateway: Gateway, slm: Scripted, llm: Scripted
):
    choice = {"index": 0, "finish_reason": None, "delta": {"content": "Hi", "x": nested(400)}}
    for server in (slm, llm):
        server.says(Reply(raw=b"data: " + written({"choices": [choice]}) + b"\n\n"))
    body = {"model": "test", "messages": MESSAGES, "stream": True}
    status, _, raw = await gateway.post("/chat/completions", body)
    error = orjson.loads(raw)["error"]
    assert (status, error["code"]) == (502, "upstream_garbage")
    assert f"at most {MAX_NESTING} levels" in error["message"]


async def test_a_schema_in_a_string_nests_no_deeper_than_one_in_the_body(gateway: Gateway, slm: Scripted):
    asked = {"json": written(nested(400, "objects")).decode()}
    body = {"model": "small", "messages": MESSAGES, "structured_outputs": asked}
    status, _, raw = await gateway.post("/chat/completions", body)
    assert (status, orjson.loads(raw)["error"]["code"]) == (400, "not_supported")
    assert slm.requests == []
