"""vLLM's own fields, through the gateway, on a real vLLM."""

import json
from math import exp
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_calibrator, upstream
from support.scripted_server import Scripted

from benchmarks.vllm.server import Server
from policies.schema.policy import Policy
from routers.strategies.cascade import Cascade
from routers.strategies.direct import Direct

pytestmark = [pytest.mark.vllm, pytest.mark.heavy]

ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Is ice cold? Answer yes or no."}],
    "temperature": 0,
    "max_tokens": 8,
}
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
POLICIES = pytest.mark.parametrize("policy", ["alone", "watched"])


@pytest.fixture
async def gateway(start: StartGateway, llm: Scripted, vllm_server: Server) -> Gateway:
    """vLLM is the small model: relayed by `alone`, followed by `watched`, judged by the cascades."""
    model = vllm_server.model
    small = {
        "name": "vllm",
        "tier": "slm",
        "url": vllm_server.url,
        "model": model,
        "engine": "vllm",
        "probe": 0,
    }
    routers = {
        "alone": Direct(tier="slm", fallback=False),
        "watched": Direct(tier="slm", fallback=False, follow=True),
        "judged": Cascade(accept=0.0, commit=0.0, calibrator=simple_calibrator(model, "vllm")),
        "judged-both": Cascade(
            accept=0.0,
            calibrator=simple_calibrator(model, "vllm"),
            constrained_calibrator=simple_calibrator(model, "vllm", "constrained"),
        ),
    }
    return await start(
        settings_of(small, upstream(llm, "llm")),
        [Policy(name=name, description="For tests.", router=router) for name, router in routers.items()],
    )


async def answered(gateway: Gateway, policy: str, **more: Any) -> dict[str, Any]:
    """The answer, a stream's put together: its text, its choices' and its chunks' other fields."""
    status, headers, raw = await gateway.post("/chat/completions", ASK | {"model": policy} | more)
    assert status == 200, raw
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    if not more.get("stream"):
        whole = json.loads(raw)
        choice = whole["choices"][0]
        return whole | choice | {"text": choice["message"]["content"], "exchange": exchange}
    chunks = [json.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: {")]
    found: dict[str, Any] = {"text": "", "token_ids": [], "exchange": exchange}
    for chunk in chunks:
        found |= {key: value for key, value in chunk.items() if value is not None}
        for choice in chunk["choices"]:
            found["text"] += choice["delta"].get("content") or ""
            found["token_ids"] += choice.get("token_ids") or []
            found |= {key: choice[key] for key in ("finish_reason", "stop_reason") if choice.get(key)}
    return found


@STREAMS
@POLICIES
@pytest.mark.parametrize(
    ("asked", "texts"),
    [
        ({"choice": ["cold", "warm"]}, {"cold", "warm"}),
        ({"regex": "(cold|warm)!"}, {"cold!", "warm!"}),
        ({"grammar": 'root ::= "ice is " ("cold" | "warm")'}, {"ice is cold", "ice is warm"}),
        ({"json": {"enum": ["cold", "warm"]}}, {'"cold"', '"warm"'}),
    ],
    ids=["choice", "regex", "grammar", "json"],
)
async def test_structured_outputs_bind_the_answer(
    gateway: Gateway, policy: str, asked: dict[str, Any], texts: set[str], stream: bool
):
    found = await answered(gateway, policy, structured_outputs=asked, stream=stream)
    assert found["text"] in texts


@STREAMS
@POLICIES
async def test_token_ids_come_back_whole(gateway: Gateway, policy: str, stream: bool):
    found = await answered(gateway, policy, return_token_ids=True, stream=stream)
    status, _, raw = await post(gateway, "/detokenize", {"model": policy, "tokens": found["token_ids"]})
    assert (status, json.loads(raw)["prompt"]) == (200, found["text"])
    _, _, raw = await post(gateway, "/tokenize", {"model": policy, "messages": ASK["messages"]})
    assert json.loads(raw)["tokens"] == found["prompt_token_ids"]


@STREAMS
@POLICIES
async def test_a_stop_token_ends_the_answer_and_is_told(gateway: Gateway, policy: str, stream: bool):
    plain = await answered(gateway, "alone", return_token_ids=True)
    stop = plain["token_ids"][2]
    found = await answered(gateway, policy, stop_token_ids=[stop], stream=stream)
    assert (found["finish_reason"], found["stop_reason"]) == ("stop", stop)
    assert plain["text"].startswith(found["text"])


@POLICIES
async def test_prompt_logprobs_come_back_even_where_a_draft_would_be_watched(gateway: Gateway, policy: str):
    found = await answered(gateway, policy, prompt_logprobs=0)
    assert len(found["prompt_logprobs"]) == found["usage"]["prompt_tokens"]


@STREAMS
@POLICIES
@pytest.mark.parametrize(
    "field",
    [
        {"top_k": 1, "temperature": 1.5},
        {"min_p": 1.0, "temperature": 1.5},
        {"min_tokens": 8},
        {"ignore_eos": True},
        {"repetition_penalty": 1.0},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"documents": [{"title": "ice", "text": "Ice is cold."}]},
        {"priority": 0},
        {"cache_salt": "a-salt-of-one-user"},
        {"vllm_xargs": {"colour": "blue"}},
        {"bad_words": ["zebra"]},
        {"stream_interval": 3},
    ],
    ids=lambda field: next(iter(field)),
)
async def test_a_field_that_binds_nothing_here_changes_nothing(
    gateway: Gateway, policy: str, field: dict[str, Any], stream: bool
):
    free = await answered(gateway, "alone")
    assert (await answered(gateway, policy, stream=stream, **field))["text"] == free["text"]


@STREAMS
async def test_a_prompt_is_truncated_where_it_is_asked(gateway: Gateway, stream: bool):
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    found = await answered(gateway, "watched", truncate_prompt_tokens=5, **options)
    assert found["usage"]["prompt_tokens"] == 5


async def test_a_removed_field_is_refused_where_vllm_would_ignore_it(gateway: Gateway):
    status, _, raw = await gateway.post(
        "/chat/completions", ASK | {"model": "alone", "guided_choice": ["a", "b"]}
    )
    error = json.loads(raw)["error"]
    assert (status, error["code"], error["param"]) == (400, "removed_field", "guided_choice")
    assert "structured_outputs" in error["message"]


async def test_llama_cpps_grammar_is_not_put_to_vllm_which_would_ignore_it(gateway: Gateway):
    status, _, raw = await gateway.post(
        "/chat/completions", ASK | {"model": "alone", "grammar": 'root ::= "x"'}
    )
    assert (status, json.loads(raw)["error"]["code"]) == (400, "not_supported")


@STREAMS
async def test_renormalised_confidence_is_told_by_its_own_calibrator_or_not_at_all(
    gateway: Gateway, llm: Scripted, stream: bool
):
    assert (await answered(gateway, "judged", stream=stream))["exchange"]["confidence"] is not None
    llm.says('"cold"')
    more: dict[str, Any] = {"structured_outputs": {"json": {"enum": ["cold", "warm"]}}, "stream": stream}
    declined = (await answered(gateway, "judged", **more))["exchange"]
    assert (declined["route"], declined["reason"], declined["confidence"]) == ("llm", "not_judged", None)
    assert llm.requests[-1]["response_format"]["json_schema"]["schema"] == {"enum": ["cold", "warm"]}
    judged = (await answered(gateway, "judged-both", **more))["exchange"]
    assert (judged["route"], judged["reason"]) == ("slm", "confident")


async def test_two_choices_share_all_of_the_probability(gateway: Gateway):
    """Which is why free decoding's calibrator does not read it: of all tokens these two have next to nothing."""
    asked = {"logprobs": True, "top_logprobs": 2, "max_tokens": 1}
    bound = await answered(gateway, "alone", structured_outputs={"choice": ["zebra", "lobster"]}, **asked)
    free = await answered(gateway, "alone", allowed_token_ids=[1000, 1001], **asked)
    assert mass(bound) > 0.9
    assert free["logprobs"]["content"][0]["logprob"] < -3


def mass(found: dict[str, Any]) -> float:
    first = found["logprobs"]["content"][0]["top_logprobs"]
    return sum(exp(alternative["logprob"]) for alternative in first)


async def post(gateway: Gateway, path: str, body: dict[str, Any]) -> tuple[int, Any, bytes]:
    async with gateway.http.post(f"{gateway.root}{path}", json=body) as response:
        return response.status, response.headers, await response.read()
