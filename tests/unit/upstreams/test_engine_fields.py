"""Fields that one engine knows: who is asked for their sake, what is translated, what is refused."""

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateways import Gateway, StartGateway, settings_of, simple_calibrator, simple_policy, upstream
from support.scripted_server import Reply, Scripted

from gateway.upstreams.providers.llamacpp import adapt_constraint
from gateway.upstreams.settings import UpstreamSettings
from gateway.upstreams.upstream import Upstream
from gateway.wire.requirements import Requirements, capabilities_of
from gateway.wire.structured_outputs import is_constrained, structured_output_capabilities, to_response_format
from gateway.wire.vendor_fields import (
    ANSWER_CHANGING,
    ANSWER_NEUTRAL,
    LLAMACPP,
    OPENAI,
    REMOVED_FROM_VLLM,
    SHARED,
    VLLM,
)
from policies.schema.policy import Policy
from routers.strategies.direct import Direct

ASK: dict[str, Any] = {"model": "test", "messages": [{"role": "user", "content": "Is ice cold?"}]}
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
SCHEMA = {"type": "object", "properties": {"cold": {"type": "boolean"}}, "required": ["cold"]}
Engine = Literal["openai", "vllm", "llamacpp", "mistral", "deepseek"]


async def made(
    start: StartGateway, slm: Scripted, llm: Scripted, small: Engine = "vllm", large: Engine = "openai"
) -> Gateway:
    both = (upstream(slm, "slm", engine=small, capabilities={}), upstream(llm, "llm", engine=large))
    policies = [
        simple_policy(calibrator=simple_calibrator(engine=small)),
        Policy(name="follow", description="x", router=Direct(tier="slm", fallback=False, follow=True)),
        Policy(name="small", description="x", router=Direct(tier="slm", fallback=False)),
        Policy(name="large", description="x", router=Direct(tier="llm", fallback=False)),
    ]
    return await start(settings_of(*both), policies)


async def asked(gateway: Gateway, **more: Any) -> dict[str, Any]:
    """The exchange of an answered request."""
    status, headers, raw = await gateway.post("/chat/completions", ASK | more)
    assert status == 200, raw
    return await gateway.exchange(headers["x-smallfirst-id"])


async def refused(gateway: Gateway, **more: Any) -> tuple[int, str, str]:
    status, _, raw = await gateway.post("/chat/completions", ASK | more)
    error = json.loads(raw)["error"]
    return status, error["code"], error["message"]


# --- what passes


OF_VLLM: dict[str, Any] = {
    "return_token_ids": True,
    "chat_template_kwargs": {"enable_thinking": False},
    "priority": 3,
    "cache_salt": "salt",
    "min_p": 0.1,
    "top_k": 4,
    "repetition_penalty": 1.1,
    "vllm_xargs": {"a": 1},
    "bad_words": ["hot"],
    "nobody_knows_this": {"x": [1]},
}


@STREAMS
@pytest.mark.parametrize("policy", ["small", "follow", "test"])
async def test_vllms_fields_reach_it_untouched(
    start: StartGateway, slm: Scripted, llm: Scripted, policy: str, stream: bool
):
    gateway = await made(start, slm, llm, large="vllm")
    await asked(gateway, model=policy, stream=stream, **OF_VLLM)
    assert OF_VLLM.items() <= slm.requests[0].items()
    bound = {"choice": ["It is cold.", "no"]}
    await asked(gateway, model=policy, stream=stream, structured_outputs=bound)
    (_, sent) = slm.requests + llm.requests  # whose confidence can't be told is asked of the large model
    assert sent["structured_outputs"] == bound


@pytest.mark.parametrize("policy", ["small", "follow"])
async def test_what_vllm_tells_beside_the_answer_reaches_the_client(
    start: StartGateway, slm: Scripted, llm: Scripted, policy: str
):
    gateway = await made(start, slm, llm)
    told = {"prompt_token_ids": [1, 2], "kv_transfer_params": {"block": 7}}
    slm.says(Reply("It is cold.", extra=told))
    _, _, raw = await gateway.post("/chat/completions", ASK | {"model": policy})
    assert told.items() <= json.loads(raw).items()


CHUNKS: list[dict[str, Any]] = [
    {"delta": {"role": "assistant", "content": ""}, "finish_reason": None},
    {"delta": {"content": "It"}, "finish_reason": None, "token_ids": [10]},
    {"delta": {"content": " is"}, "finish_reason": None, "token_ids": [11, 12]},
    {"delta": {"content": "."}, "finish_reason": "stop", "stop_reason": 13, "token_ids": [13]},
]


def stream_of(*choices: dict[str, Any]) -> bytes:
    """As vLLM writes it, each token with its log-probability."""
    events = []
    for choice in choices:
        word = choice["delta"].get("content")
        entry = {"token": word, "logprob": -0.1, "top_logprobs": [{"token": word, "logprob": -0.1}] * 2}
        logprobs = {"content": [entry]} if word else None
        whole = {"index": 0, "delta": choice["delta"], "logprobs": logprobs} | choice
        first = {} if events else {"prompt_token_ids": [1, 2]}
        event = {"id": "up", "object": "chat.completion.chunk", "choices": [whole]} | first
        events.append(f"data: {json.dumps(event, separators=(',', ':'))}\n\n")
    return "".join([*events, "data: [DONE]\n\n"]).encode()


@pytest.mark.parametrize("policy", ["small", "follow", "test"])
async def test_a_streams_token_ids_come_once_and_in_their_order(
    start: StartGateway, slm: Scripted, llm: Scripted, policy: str
):
    gateway = await made(start, slm, llm)
    slm.says(Reply(raw=stream_of(*CHUNKS)))
    body = ASK | {"model": policy, "stream": True, "return_token_ids": True}
    _, _, raw = await gateway.post("/chat/completions", body)
    events = [json.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: {")]
    choices = [event["choices"][0] for event in events]
    assert [token for choice in choices for token in choice.get("token_ids") or []] == [10, 11, 12, 13]
    assert [choice["stop_reason"] for choice in choices if choice.get("stop_reason")] == [13]
    assert events[0]["prompt_token_ids"] == [1, 2]


@pytest.mark.parametrize("policy", ["follow", "test"])
async def test_a_followed_plain_answer_has_all_token_ids(
    start: StartGateway, slm: Scripted, llm: Scripted, policy: str
):
    gateway = await made(start, slm, llm)
    slm.says(Reply(raw=stream_of(*CHUNKS)))
    _, _, raw = await gateway.post("/chat/completions", ASK | {"model": policy, "return_token_ids": True})
    whole = json.loads(raw)
    assert (whole["choices"][0]["token_ids"], whole["prompt_token_ids"]) == ([10, 11, 12, 13], [1, 2])
    assert whole["choices"][0]["stop_reason"] == 13


async def test_what_a_watched_stream_would_lose_is_not_drafted(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await made(start, slm, llm, large="vllm")
    for field in ({"prompt_logprobs": 0}, {"use_beam_search": True}):
        assert (await asked(gateway, **field))["reason"] == "not_judged"
    await asked(gateway, model="follow", prompt_logprobs=0)
    assert "stream" not in slm.requests[-1]


# --- what a server would not heed


@pytest.mark.parametrize(
    ("small", "large", "field", "route"),
    [
        ("llamacpp", "vllm", {"min_tokens": 5}, "llm"),
        ("llamacpp", "vllm", {"structured_outputs": {"regex": "a+"}}, "llm"),
        ("llamacpp", "vllm", {"stop_token_ids": [5]}, "llm"),
        ("vllm", "llamacpp", {"grammar": 'root ::= "x"'}, "llm"),
        ("vllm", "llamacpp", {"repeat_penalty": 1.1}, "llm"),
        ("vllm", "openai", {"functions": [{"name": "f"}]}, "llm"),
        ("vllm", "llamacpp", {"min_tokens": 5}, "slm"),
        ("vllm", "openai", {"structured_outputs": {"regex": ".+"}}, "slm"),
        ("llamacpp", "mistral", {"min_p": 0.1}, "slm"),
        ("llamacpp", "vllm", {"min_p": 0.1, "top_k": 3, "ignore_eos": False}, "slm"),
        ("llamacpp", "vllm", {"min_tokens": None}, "slm"),
    ],
)
async def test_a_field_goes_to_the_tier_whose_server_heeds_it(
    start: StartGateway,
    slm: Scripted,
    llm: Scripted,
    small: Engine,
    large: Engine,
    field: dict[str, Any],
    route: str,
):
    gateway = await made(start, slm, llm, small, large)
    assert (await asked(gateway, **field))["route"] == route


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ("small", {"min_tokens": 5}),
        ("small", {"structured_outputs": {"regex": "a"}}),
        ("large", {"min_p": 1}),
    ],
)
async def test_a_field_that_nobody_here_heeds_is_refused_by_name(
    start: StartGateway, slm: Scripted, llm: Scripted, policy: str, field: dict[str, Any]
):
    gateway = await made(start, slm, llm, "llamacpp", "mistral")
    status, code, message = await refused(gateway, model=policy, **field)
    assert (status, code) == (400, "not_supported")
    assert next(iter(field)) in message
    assert slm.requests + llm.requests == []


@pytest.mark.parametrize("field", [{"min_tokens": 5}, {"structured_outputs": {"regex": "a"}}])
async def test_a_tier_alone_that_does_not_heed_a_field_says_so(
    start: StartGateway, slm: Scripted, field: dict[str, Any]
):
    policy = simple_policy(calibrator=simple_calibrator(engine="llamacpp"))
    gateway = await start(settings_of(upstream(slm, "slm", engine="llamacpp")), [policy])
    for model in ("test", "small"):
        status, code, message = await refused(gateway, model=model, **field)
        assert (status, code) == (400, "not_supported")
        assert next(iter(field)) in message
    assert slm.requests == []


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://us.openai.azure.com/openai/v1"])
def test_openai_itself_gets_no_field_that_it_would_refuse(url: str):
    strict = described("openai", url)
    body = ASK | {"cache_salt": "x", "priority": 1, "return_token_ids": True, "seed": 7}
    assert strict.adapt_body(body, continues=False) == ASK | {"seed": 7}
    assert not strict.rewritten_fields.isdisjoint(body)
    assert lacks(strict, "min_p")
    assert not lacks(strict, "functions")


@pytest.mark.parametrize("engine", ["openai", "deepseek"])
def test_a_server_that_nobody_knows_gets_every_field(engine: Engine):
    unknown = described(engine)
    body = ASK | {"cache_salt": "x", "min_p": 0.1}
    assert unknown.adapt_body(body, continues=False) == body
    assert not lacks(unknown, "min_p")


def described(engine: Engine, url: str = "http://10.0.0.1/v1", **capabilities: bool) -> Upstream:
    fields = {"name": "u", "tier": "llm", "model": "m", "key": "sk-test"}
    return Upstream(UpstreamSettings(**fields, url=url, engine=engine, capabilities=capabilities))


def lacks(server: Upstream, field: str) -> bool:
    needs = Requirements(vendor_fields=frozenset({field}))
    assert server.can_serve(needs) == (server.find_mismatch(needs) is None)
    return not server.can_serve(needs)


def test_each_field_is_of_one_kind():
    kinds = (SHARED, VLLM, LLAMACPP, OPENAI, ANSWER_NEUTRAL, frozenset(REMOVED_FROM_VLLM))
    assert sum(map(len, kinds)) == len(frozenset().union(*kinds))
    assert ANSWER_CHANGING.isdisjoint(ANSWER_NEUTRAL)


# --- what is gone


async def test_a_removed_field_is_refused_and_its_successor_named(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await made(start, slm, llm)
    for field, successor in REMOVED_FROM_VLLM.items():
        status, code, message = await refused(gateway, model="large", **{field: "x"})
        assert (status, code) == (400, "removed_field")
        assert successor in message
    assert slm.requests + llm.requests == []


async def test_a_removed_field_passes_where_no_server_here_had_it(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await made(start, slm, llm, "openai", "openai")
    await asked(gateway, model="large", guided_json=SCHEMA)
    assert llm.requests[0]["guided_json"] == SCHEMA


async def test_a_removed_field_that_is_null_asks_for_nothing(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await made(start, slm, llm)
    assert (await asked(gateway, guided_json=None))["status"] == 200


# --- structured outputs elsewhere


@pytest.mark.parametrize(
    ("asked_for", "needed"),
    [
        (None, set()),
        ({"json": SCHEMA}, {"json_schema"}),
        ({"json": json.dumps(SCHEMA)}, {"json_schema"}),
        ({"json": SCHEMA, "regex": None}, {"json_schema"}),
        ({"json_object": True}, set()),
        ({"choice": ["a", "b"]}, {"grammar"}),
        ({"grammar": 'root ::= "a"'}, {"grammar"}),
        ({"grammar": 'start: "a"'}, {"structured_outputs"}),
        ({"regex": "a+"}, {"structured_outputs"}),
        ({"structural_tag": "{}"}, {"structured_outputs"}),
        ({"json": SCHEMA, "whitespace_pattern": " "}, {"structured_outputs"}),
        ({"json": "{"}, {"structured_outputs"}),
        ({"choice": []}, {"structured_outputs"}),
        ({"choice": [1]}, {"structured_outputs"}),
        ({}, {"structured_outputs"}),
        ("nonsense", {"structured_outputs"}),
    ],
)
def test_a_constraint_needs_no_more_than_it_says(asked_for: Any, needed: set[str]):
    body = ASK | {"structured_outputs": asked_for}
    assert structured_output_capabilities(body) == needed
    assert capabilities_of(body, "chat") == needed


def test_a_schema_becomes_openais_which_is_kept_to():
    body = to_response_format(ASK | {"structured_outputs": {"json": SCHEMA}})
    form = {"name": "answer", "schema": SCHEMA, "strict": True}
    assert body == ASK | {"response_format": {"type": "json_schema", "json_schema": form}}
    body = to_response_format(ASK | {"structured_outputs": {"json_object": True}})
    assert body == ASK | {"response_format": {"type": "json_object"}}


def test_what_others_have_not_is_left_to_them_to_refuse():
    body = ASK | {"structured_outputs": {"regex": "a+"}}
    assert to_response_format(body) == adapt_constraint(body) == body


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_choices_become_a_grammar_of_exactly_these(choices: list[str]):
    body = adapt_constraint(ASK | {"structured_outputs": {"choice": choices}})
    assert body.keys() == ASK.keys() | {"grammar"}
    assert alternatives(body["grammar"].removeprefix("root ::= ")) == choices


def alternatives(grammar: str) -> list[str]:
    """The terminals of a GBNF alternation, read letter by letter."""
    found: list[str] = []
    letters = iter(grammar)
    for letter in letters:
        if letter in " |":
            continue
        assert letter == '"'
        text = ""
        while (letter := next(letters)) != '"':
            if letter == "\\":
                assert next(letters) == "x"
                letter = chr(int(next(letters) + next(letters), 16))
            text += letter
        found.append(text)
    return found


@STREAMS
async def test_llama_cpp_is_asked_for_a_choice_by_a_grammar(
    start: StartGateway, slm: Scripted, llm: Scripted, stream: bool
):
    gateway = await made(start, slm, llm, "llamacpp")
    slm.says("cold")
    await asked(gateway, model="small", stream=stream, structured_outputs={"choice": ["cold", 'w"rm']})
    assert slm.requests[0]["grammar"] == 'root ::= "cold" | "w\\x22rm"'
    assert "structured_outputs" not in slm.requests[0]


async def test_llama_cpps_completions_are_asked_for_json_in_its_own_way(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await made(start, slm, llm, "llamacpp")
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    for field in ({"response_format": form}, {"structured_outputs": {"json": SCHEMA}}):
        status, _, _ = await gateway.post("/completions", {"model": "small", "prompt": "Ice is"} | field)
        assert status == 200
        assert slm.requests[-1]["json_schema"] == SCHEMA
        assert "response_format" not in slm.requests[-1]


# --- the decoding mode


@pytest.mark.parametrize(
    ("field", "constrained"),
    [
        ({}, False),
        ({"response_format": {"type": "text"}}, False),
        ({"response_format": {"type": "json_object"}}, True),
        ({"response_format": {"type": "json_schema"}}, True),
        ({"structured_outputs": {"regex": "a"}}, True),
        ({"structured_outputs": None}, False),
        ({"tools": [{"function": {"name": "f"}}]}, False),
        ({"tools": [{"function": {"name": "f", "strict": True}}]}, True),
        ({"tools": "nonsense", "tool_choice": "auto"}, False),
        ({"tools": [{}], "tool_choice": "required"}, True),
        ({"tools": [{}], "tool_choice": {"function": {"name": "f"}}}, True),
        ({"allowed_token_ids": [1], "bad_words": ["x"]}, False),
    ],
)
def test_a_constraint_is_what_masks_tokens_before_their_logprobs_are_told(
    field: dict[str, Any], constrained: bool
):
    assert is_constrained(ASK | field) == constrained


@pytest.mark.parametrize(("small", "reason"), [("vllm", "not_judged"), ("llamacpp", "confident")])
async def test_only_where_the_engine_renormalises_a_constraint_needs_another_calibrator(
    start: StartGateway, slm: Scripted, llm: Scripted, small: Engine, reason: str
):
    gateway = await made(start, slm, llm, small)
    slm.says(Reply('{"cold":true}'))
    found = await asked(gateway, response_format={"type": "json_object"})
    assert found["reason"] == reason


async def test_a_constraint_no_one_can_judge_is_answered_without_a_confidence(
    start: StartGateway, slm: Scripted
):
    policy = simple_policy(calibrator=simple_calibrator(engine="vllm"))
    gateway = await start(settings_of(upstream(slm, "slm", engine="vllm")), [policy])
    slm.says(Reply('{"cold":true}'))
    found = await asked(gateway, response_format={"type": "json_object"})
    assert (found["route"], found["confidence"]) == ("slm", None)
