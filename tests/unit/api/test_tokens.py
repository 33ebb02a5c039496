"""POST /tokenize and /detokenize: vLLM's shapes, whichever server tells the tokens."""

import io
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_calibrator, simple_policy, upstream
from support.scripted_server import Reply, Scripted

from policies.schema.policy import Policy
from routers.strategies.direct import Direct

MESSAGES = [{"role": "user", "content": "Hi"}]
PIECES = [{"id": 19556, "piece": "Hello"}, {"id": 905, "piece": " world"}, {"id": 7, "piece": [226]}]


async def made(start: StartGateway, *servers: dict[str, Any], **policy: Any) -> Gateway:
    policies = [
        simple_policy(calibrator=simple_calibrator(engine=servers[0].get("engine", "openai"))),
        Policy(name="large", description="x", router=Direct(tier="llm", fallback=False)),
        Policy(name="home", description="x", router=Direct(tier="llm", fallback=False), private=True),
    ]
    return await start(settings_of(*servers), policies)


async def post(gateway: Gateway, path: str, **body: Any) -> tuple[int, Any]:
    async with gateway.http.post(f"{gateway.root}{path}", json=body) as response:
        return response.status, await response.json()


async def test_vllm_is_asked_as_it_is_and_its_answer_passed_on(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await made(start, upstream(slm, "slm", engine="vllm"), upstream(llm, "llm"))
    told = {"count": 2, "max_model_len": 2048, "tokens": [19556, 905], "token_strs": None}
    slm.says(Reply(body=told))
    body = {"model": "test", "messages": MESSAGES, "add_generation_prompt": False, "x": 1}
    assert await post(gateway, "/tokenize", **body, smallfirst={"tags": {}}) == (200, told)
    assert (slm.requests, slm.paths) == ([body | {"model": "small"}], ["/tokenize"])
    await post(gateway, "/tokenize", **body, smallfirst={"context": ["Ice."]})
    assert slm.requests.pop()["messages"] == [{"role": "user", "content": "Passages:\n\n[1] Ice.\n\nHi"}]
    slm.says(Reply(body={"prompt": "Hello world"}))
    assert await post(gateway, "/detokenize", model="small", tokens=[19556, 905]) == (
        200,
        {"prompt": "Hello world"},
    )
    assert slm.paths[-1] == "/detokenize"


async def test_llama_cpp_is_asked_in_its_own_way_and_answers_the_same(start: StartGateway, slm: Scripted):
    gateway = await made(start, upstream(slm, "slm", engine="llamacpp", context=2048))
    slm.says(Reply(body={"tokens": PIECES}))
    assert await post(gateway, "/tokenize", model="test", prompt="Hello world", return_token_strs=True) == (
        200,
        {
            "count": 3,
            "max_model_len": 2048,
            "tokens": [19556, 905, 7],
            "token_strs": ["Hello", " world", "\ufffd"],
        },
    )
    asked = {"content": "Hello world", "add_special": True, "parse_special": True, "with_pieces": True}
    assert slm.requests == [asked]
    slm.says(Reply(body={"prompt": "<user>Hi"}), Reply(body={"tokens": [19556, 905, 7]}))
    status, found = await post(gateway, "/tokenize", model="test", messages=MESSAGES)
    assert (status, found["tokens"], found["token_strs"]) == (200, [19556, 905, 7], None)
    assert (slm.paths[-2:], slm.requests[-2]["messages"]) == (["/apply-template", "/tokenize"], MESSAGES)
    assert (slm.requests[-1]["content"], "with_pieces" in slm.requests[-1]) == ("<user>Hi", False)
    slm.says(Reply(body={"content": "Hello"}))
    assert await post(gateway, "/detokenize", model="test", tokens=[19556]) == (200, {"prompt": "Hello"})


async def test_what_its_server_does_not_know_is_refused(start: StartGateway, slm: Scripted):
    gateway = await made(start, upstream(slm, "slm", engine="llamacpp"))
    body = {"model": "test", "messages": MESSAGES, "chat_template": "x"}
    status, error = await post(gateway, "/tokenize", **body)
    assert (status, error["error"]["code"], error["error"]["param"]) == (
        400,
        "not_supported",
        "chat_template",
    )


async def test_a_policy_whose_servers_tell_no_tokens_says_so(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await made(start, upstream(slm, "slm", engine="vllm"), upstream(llm, "llm"))
    status, error = await post(gateway, "/tokenize", model="large", prompt="Hello")
    assert (status, error["error"]["code"]) == (400, "not_supported")
    assert llm.requests == slm.requests == []


@pytest.mark.parametrize("body", [{"model": "home"}, {"model": "large", "smallfirst": {"private": True}}])
async def test_private_text_is_shown_to_no_cloud(
    start: StartGateway, slm: Scripted, llm: Scripted, body: dict[str, Any]
):
    cloud = upstream(llm, "llm", engine="vllm", cloud=True)
    gateway = await made(start, upstream(slm, "slm", engine="vllm"), cloud)
    status, error = await post(gateway, "/tokenize", **body, prompt="secret")
    assert (status, error["error"]["code"]) == (403, "private")
    assert llm.requests == []


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("/tokenize", {"prompt": "x"}, "missing_required_parameter", "model"),
        ("/tokenize", {"model": "test"}, "invalid_value", "prompt"),
        ("/tokenize", {"model": "test", "messages": []}, "invalid_value", "messages"),
        ("/tokenize", {"model": "gpt-9", "prompt": "x"}, "model_not_found", "model"),
        ("/detokenize", {"model": "test", "tokens": "x"}, "invalid_value", "tokens"),
        ("/detokenize", {"model": "test", "tokens": [1, "x"]}, "invalid_value", "tokens[1]"),
        ("/detokenize", {"model": "test", "tokens": [1, 2, True]}, "invalid_value", "tokens[2]"),
    ],
)
async def test_a_misshapen_request_is_told_where(
    start: StartGateway, slm: Scripted, path: str, body: dict[str, Any], code: str, param: str
):
    gateway = await made(start, upstream(slm, "slm", engine="vllm"))
    _, error = await post(gateway, path, **body)
    assert (error["error"]["code"], error["error"]["param"]) == (code, param)
    assert slm.requests == []


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        (Reply(status=500), 502, "upstream_error"),
        (Reply(body="<html>"), 502, "upstream_garbage"),
        (Reply(body={"other": 1}), 502, "upstream_garbage"),
        (Reply(status=400, body={"error": {"message": "too long", "code": 400}}), 400, "400"),
        (Reply(body={"error": {"message": "too long", "code": 400}}), 400, "400"),
        (Reply(body={"object": "error", "message": "slow down", "code": 429}), 429, "rate_limit_exceeded"),
        (Reply(body={"tokens": [], "error": {"message": "gone", "code": 503}}), 503, "upstream_overloaded"),
    ],
)
async def test_a_failing_tokenizer_is_told_as_any_upstream(
    start: StartGateway, slm: Scripted, reply: Reply, status: int, code: str
):
    gateway = await made(start, upstream(slm, "slm", engine="llamacpp"))
    slm.says(reply)
    found, error = await post(gateway, "/tokenize", model="test", prompt="x")
    assert (found, error["error"]["code"]) == (status, code)


async def test_ids_are_read_by_the_million_and_more_are_refused(start: StartGateway, slm: Scripted):
    gateway = await made(start, upstream(slm, "slm", engine="vllm"))
    for count, expected in ((4_000_000, "tokens[4000000]"), (5_000_000, "over the limit")):
        body = b'{"model":"test","tokens":[' + b"1," * count + b'"x"]}'
        headers = {"Content-Type": "application/json"}
        async with gateway.http.post(
            f"{gateway.root}/detokenize", data=io.BytesIO(body), headers=headers
        ) as response:
            assert expected in (await response.json())["error"]["message"]
    assert slm.requests == []


async def test_a_large_body_is_refused(start: StartGateway, slm: Scripted):
    settings = settings_of(upstream(slm, "slm", engine="vllm"), listen={"body_limit": 100})
    gateway = await start(settings, [simple_policy(calibrator=simple_calibrator(engine="vllm"))])
    async with gateway.http.post(f"{gateway.root}/tokenize", json={"prompt": "x" * 200}) as response:
        assert response.status == 413
