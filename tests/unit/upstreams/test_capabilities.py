"""What a request needs, what an upstream can do, and who is asked accordingly."""

import json
from pathlib import Path
from typing import Any, get_args

import aiohttp
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateways import Gateway, StartGateway, gateway_of, settings_of, simple_policy, upstream
from support.scripted_server import Scripted

from gateway.errors import ApiError
from gateway.upstreams.capabilities import Capabilities
from gateway.upstreams.providers.registry import SERVER_KINDS
from gateway.upstreams.providers.server_kind import Engine
from gateway.upstreams.settings import UpstreamSettings
from gateway.upstreams.upstream import Upstream
from gateway.wire.requirements import capabilities_of, min_prompt_tokens, top_logprobs_of
from gateway.wire.validation import check_chat, check_completions
from policies.records.reader import read_records
from routers.plan import Capability, Tier
from routers.strategies.difficulty import Difficulty, Gate
from routers.strategies.direct import Direct

MESSAGES = [{"role": "user", "content": "What is the opposite of hot?"}]
ASK = {"model": "test", "messages": MESSAGES}
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
SOUND = [{"role": "user", "content": [{"type": "text", "text": "Hear:"}, {"type": "input_audio"}]}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        ({}, set()),
        ({"temperature": 0, "stop": ["x"], "prediction": {"content": "x"}}, set()),
        ({"tools": TOOLS}, {"tools"}),
        ({"functions": TOOLS}, {"tools"}),
        ({"tools": []}, set()),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {"json_schema"}),
        ({"response_format": {"type": "json_object"}}, set()),
        ({"response_format": None}, set()),
        ({"n": 2}, {"choices"}),
        ({"n": 1}, set()),
        ({"logit_bias": {"50256": -100}}, {"logit_bias"}),
        ({"min_p": 0.05}, {"min_p"}),
        ({"min_p": 0}, set()),
        ({"logprobs": True}, {"logprobs"}),
        ({"logprobs": False}, set()),
        ({"messages": IMAGE}, {"vision"}),
        ({"messages": SOUND}, {"audio"}),
        ({"messages": MESSAGES + IMAGE + SOUND, "tools": TOOLS}, {"vision", "audio", "tools"}),
        ({"modalities": ["text", "audio"], "audio": {"voice": "x"}}, {"audio"}),
        ({"modalities": ["text"]}, set()),
    ],
)
def test_a_chat_needs_what_it_asks_for(more: dict[str, Any], needed: set[str]):
    assert capabilities_of(ASK | more, "chat") == needed


def test_other_endpoints_must_be_there():
    assert capabilities_of({"model": "m", "input": "x"}, "embeddings") == {"embeddings"}
    assert capabilities_of({"model": "m", "prompt": "x"}, "completions") == {"completions"}
    assert capabilities_of({"model": "m", "prompt": "x", "logprobs": 0}, "completions") == {
        "completions",
        "logprobs",
    }


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({}, 0),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 7}, 7),
        ({"logprobs": False, "top_logprobs": 7}, 0),
        ({"logprobs": 3}, 3),
        ({"logprobs": 0}, 0),
    ],
)
def test_alternatives_are_counted_on_either_endpoint(body: dict[str, Any], asked: int):
    assert top_logprobs_of(body) == asked


def test_a_prompt_has_at_least_a_token_a_word():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "one  two\nthree"}, *IMAGE[0]["content"]]},
        {"role": "assistant", "content": None},
    ]
    assert min_prompt_tokens({"messages": messages}, "chat") == 5
    assert min_prompt_tokens({"prompt": "one two"}, "completions") == 2
    assert min_prompt_tokens({"prompt": [1, 2, 3]}, "completions") == 0
    assert min_prompt_tokens({"input": "one two"}, "embeddings") == 0
    # Spaces without end are few tokens: tokenizers have one for many.
    assert min_prompt_tokens({"messages": [{"role": "user", "content": " " * 100_000}]}, "chat") == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "role", "x"]), inner)
    ),
    max_leaves=8,
)
FIELDS = [
    "tools",
    "functions",
    "response_format",
    "n",
    "logit_bias",
    "min_p",
    "logprobs",
    "top_logprobs",
    "audio",
    "modalities",
]


@given(
    more=st.dictionaries(st.sampled_from(FIELDS), JSON),
    contents=st.lists(JSON, min_size=1, max_size=3),
    prompt=JSON,
)
def test_whatever_passes_the_check_has_its_needs_read(more: dict[str, Any], contents: list[Any], prompt: Any):
    chat = {"model": "m", "messages": [{"role": "user", "content": content} for content in contents], **more}
    text = {"model": "m", "prompt": prompt, "messages": contents, **more}
    for body, endpoint, check in ((chat, "chat", check_chat), (text, "completions", check_completions)):
        try:
            check(body)
        except ApiError:
            continue
        found = capabilities_of(body, endpoint)
        assert found <= set(get_args(Capability))
        assert top_logprobs_of(body) == 0 or "logprobs" in found
        assert min_prompt_tokens(body, endpoint) <= len(json.dumps(body))


def described(engine: str = "openai", **changes: Any) -> Upstream:
    fields = {"name": "u", "tier": "llm", "url": "https://far.example/v1", "model": "m", "engine": engine}
    return Upstream(UpstreamSettings.model_validate(fields | changes))


def test_every_capability_can_be_declared_and_is_known_of_every_kind():
    assert set(Capabilities.model_fields) == {*get_args(Capability), "top_logprobs"}
    assert set(SERVER_KINDS) == set(get_args(Engine))
    for engine in SERVER_KINDS:
        known = described(engine).capabilities
        assert None not in known.model_dump().values(), engine


@pytest.mark.parametrize("engine", SERVER_KINDS)
def test_what_is_declared_wins_over_what_is_known(engine: str):
    known = described(engine).capability_names
    declared = {name: name not in known for name in get_args(Capability)}
    assert described(engine, capabilities=declared).capability_names == set(get_args(Capability)) - known
    assert described(engine, capabilities={"vision": None}).capability_names == known


@pytest.mark.parametrize(
    ("capability", "having"),
    [
        ("scoring", {"vllm"}),
        ("prefill", {"llamacpp", "vllm", "mistral"}),
        ("prediction", {"mistral"}),
        ("embeddings", {"openai", "mistral"}),
    ],
)
def test_kinds_differ(capability: Capability, having: set[str]):
    assert {engine for engine in SERVER_KINDS if capability in described(engine).capability_names} == having


def test_some_capabilities_depend_on_the_model_or_the_address():
    assert "prediction" in described(model="gpt-4o-mini").capability_names
    assert "prediction" in described(model="gpt-4.1").capability_names
    assert "prediction" not in described(model="gpt-5-mini").capability_names
    assert "prefill" in described("deepseek", url="https://api.deepseek.com/beta").capability_names
    assert "prefill" not in described("deepseek", url="https://api.deepseek.com/v1").capability_names


BEGUN = {"model": "m", "messages": [*MESSAGES, {"role": "assistant", "content": "It is"}]}


@pytest.mark.parametrize("engine", ["mistral", "deepseek"])
def test_a_begun_answer_is_marked_where_the_kind_wants_it(engine: str):
    adapted = described(engine).adapt_body(BEGUN, continues=True)
    assert adapted["messages"] == [*MESSAGES, {"role": "assistant", "content": "It is", "prefix": True}]
    assert BEGUN["messages"][-1] == {"role": "assistant", "content": "It is"}
    assert described(engine).adapt_body(BEGUN, continues=False) == BEGUN
    assert described(engine).adapt_body({"prompt": "x"}, continues=True) == {"prompt": "x"}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_mistral_gets_its_own_names_and_is_not_asked_for_what_it_refuses(
    start: StartGateway, llm: Scripted, stream: bool
):
    gateway = await start(settings_of(upstream(llm, "llm", engine="mistral")))
    body = {"model": "large", "messages": MESSAGES, "max_completion_tokens": 9, "seed": 7, "temperature": 0.5}
    status, _, _ = await gateway.post("/chat/completions", body | {"stream": stream})
    assert status == 200
    expected = {"model": "large", "messages": MESSAGES, "max_tokens": 9, "random_seed": 7, "temperature": 0.5}
    assert llm.requests == [expected | {"stream": stream}]


async def test_of_several_upstreams_the_one_that_can_is_asked(
    start: StartGateway, llm: Scripted, spare: Scripted
):
    blind = upstream(llm, "llm", capabilities={"vision": False, "tools": False})
    gateway = await start(settings_of(blind, upstream(spare, "llm", model="large", priority=1)))
    for more in ({}, {"messages": IMAGE}, {"tools": TOOLS}, {}):
        assert (await gateway.post("/chat/completions", ASK | {"model": "large"} | more))[0] == 200
    assert (len(llm.requests), len(spare.requests)) == (2, 2)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_what_nobody_can_is_an_error_that_names_it(start: StartGateway, llm: Scripted, stream: bool):
    gateway = await start(settings_of(upstream(llm, "llm", capabilities={"vision": False})))
    with pytest.raises(openai.BadRequestError, match="large-server: does not offer vision") as caught:
        await gateway.client.chat.completions.create(model="large", messages=IMAGE, stream=stream)
    assert caught.value.code == "not_supported"
    assert llm.requests == []


async def test_a_request_with_token_ids_goes_to_the_model_they_are_of(
    gateway: Gateway, slm: Scripted, llm: Scripted
):
    biased = ASK | {"logit_bias": {"50256": -100}}
    _, headers, _ = await gateway.post("/chat/completions", biased)
    assert (headers["x-smallfirst-route"], slm.requests) == ("llm", [])
    assert llm.requests[0]["logit_bias"] == {"50256": -100}
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert [(call["tier"], call["outcome"]) for call in exchange["calls"]] == [("llm", "ok")]
    assert exchange["reason"] == "not_capable"
    for model in ("small", "offline"):  # these have one writer, so the client knows whose ids they are
        _, headers, _ = await gateway.post("/chat/completions", biased | {"model": model})
        assert headers["x-smallfirst-route"] == "slm"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_tier_that_is_not_there_is_not_one_that_is_unable(
    start: StartGateway, slm: Scripted, llm: Scripted, stream: bool
):
    for only, tier, reason in ((llm, "llm", "no_slm"), (slm, "slm", "no_llm")):
        gateway = await start(settings_of(upstream(only, tier)), [simple_policy()])
        _, headers, _ = await gateway.post("/chat/completions", ASK | {"stream": stream})
        found = await gateway.exchange(headers["x-smallfirst-id"])
        assert (found["route"], found["reason"]) == (tier, reason)


@pytest.mark.parametrize("kind", ["cascade", "direct slm", "direct llm", "difficulty"])
@pytest.mark.parametrize("only", ["slm", "llm"])
async def test_records_name_no_tier_able_that_is_not_configured(
    tmp_path: Path, slm: Scripted, llm: Scripted, kind: str, only: Tier
):
    routers = {
        "cascade": simple_policy().router,
        "direct slm": Direct(tier="slm"),
        "direct llm": Direct(tier="llm"),
        "difficulty": Difficulty(gate=Gate(limits={"turns": 9.0})),
    }
    settings = settings_of(upstream({"slm": slm, "llm": llm}[only], only))
    ran_under = simple_policy().replace(router=routers[kind])
    async with (
        gateway_of(settings, tmp_path, [ran_under]) as served,
        aiohttp.ClientSession() as http,
        http.post(f"{served.url}/chat/completions", json=ASK) as response,
    ):
        assert response.status == 200
    (record,) = read_records(tmp_path)
    request = record.exchange.request
    assert (request.tiers, request.able, request.configured) == ([only], [only], [only])
    expected = "policy" if kind == f"direct {only}" else f"no_{'llm' if only == 'slm' else 'slm'}"
    assert record.exchange.answer is not None
    assert record.exchange.answer.reason == expected


LONG = [{"role": "user", "content": "hot " * 3000}]


async def test_a_prompt_too_long_for_certain_is_not_sent(start: StartGateway, slm: Scripted, llm: Scripted):
    both = upstream(slm, "slm", context=2048), upstream(llm, "llm", context=4096)
    gateway = await start(settings_of(*both), [simple_policy()])
    _, headers, _ = await gateway.post("/chat/completions", ASK | {"messages": LONG})
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "context_too_long")
    assert slm.requests == []
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    unsent = exchange["calls"][0]
    assert (unsent["outcome"], unsent["cost_usd"]) == ("context", 0.0)
    status, _, raw = await gateway.post("/chat/completions", ASK | {"messages": LONG * 2})
    assert (status, json.loads(raw)["error"]["code"]) == (400, "context_length_exceeded")
    assert len(llm.requests) == 1


async def test_of_several_upstreams_the_one_whose_context_holds_the_prompt_is_asked(
    start: StartGateway, slm: Scripted, spare: Scripted
):
    both = upstream(slm, "slm", context=2048), upstream(spare, "slm", model="small", priority=1, context=8192)
    gateway = await start(settings_of(*both), [simple_policy()])
    for messages in (MESSAGES, LONG):
        assert (await gateway.post("/chat/completions", ASK | {"messages": messages}))[0] == 200
    assert [len(server.requests) for server in (slm, spare)] == [1, 1]


async def test_upstreams_of_one_model_are_one_name(start: StartGateway, llm: Scripted, spare: Scripted):
    tier = (
        upstream(llm, "llm", priority=1),
        upstream(spare, "llm", model="large"),
        upstream(spare, "llm", name="third", model="other"),
    )
    gateway = await start(settings_of(*tier))
    listed = {model.id: model.owned_by async for model in gateway.client.models.list()}
    assert listed["large"] == "spare-server"
    assert list(listed).count("large") == 1
    for _ in range(2):
        assert (await gateway.post("/chat/completions", ASK | {"model": "other"}))[0] == 200
    assert [request["model"] for request in spare.requests] == ["other", "other"]
    assert llm.requests == []


async def test_embeddings_by_policy_come_from_one_model_alone(
    start: StartGateway, slm: Scripted, llm: Scripted, spare: Scripted
):
    none = {"embeddings": False}
    tier = (
        upstream(slm, "slm", capabilities=none),
        upstream(llm, "llm", capabilities=none),
        upstream(spare, "llm", model="embedding-a"),
        upstream(spare, "llm", name="other", model="embedding-b"),
    )
    gateway = await start(settings_of(*tier), [simple_policy()])
    for _ in range(3):
        await gateway.client.embeddings.create(model="test", input="hot", encoding_format="float")
    assert [request["model"] for request in spare.requests] == ["embedding-a"] * 3
