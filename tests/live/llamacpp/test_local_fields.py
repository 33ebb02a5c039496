"""vLLM's fields and pages, on the real llama.cpp."""

import json
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway

from gateway.settings import LocalEngine, Settings

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

MESSAGES = [{"role": "user", "content": "Is ice cold? yes or no"}]
IDS_BY_VLLM = [
    1,
    9690,
    198,
    2683,
    359,
    253,
    5356,
    5646,
    11173,
    3365,
    3511,
    308,
    34519,
    28,
    7018,
    411,
    407,
    19712,
]
IDS_BY_VLLM += [8182, 2, 198, 1, 4093, 198, 4182, 3908, 4011, 47, 9805, 355, 787, 2, 198, 1, 520, 9531, 198]
"""What vLLM 0.32 tells of these messages, with the same model."""


@pytest.fixture
async def alone(start: StartGateway, weights: Any) -> Gateway:
    return await start(Settings(local=LocalEngine(threads=1)))


async def post(gateway: Gateway, path: str, **body: Any) -> Any:
    async with gateway.http.post(f"{gateway.root}{path}", json=body) as response:
        return await response.json()


async def test_tokens_are_those_that_vllm_tells(alone: Gateway):
    found = await post(alone, "/tokenize", model="auto", messages=MESSAGES)
    assert found == {
        "count": len(IDS_BY_VLLM),
        "max_model_len": 8192,
        "tokens": IDS_BY_VLLM,
        "token_strs": None,
    }
    text = "<|im_start|>Hello world, \u00e9\u4e16"
    found = await post(alone, "/tokenize", model="auto", prompt=text, return_token_strs=True)
    assert (found["tokens"][:3], found["token_strs"][:3]) == (
        [1, 19556, 905],
        ["<|im_start|>", "Hello", " world"],
    )
    told = await post(alone, "/detokenize", model="auto", tokens=found["tokens"][1:])
    assert told == {"prompt": text.removeprefix("<|im_start|>")}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "texts"),
    [
        ({"choice": ['c"old', "wa\\rm"]}, {'c"old', "wa\\rm"}),
        ({"grammar": 'root ::= "ice is " ("cold" | "warm")'}, {"ice is cold", "ice is warm"}),
        ({"json": {"enum": ["cold", "warm"]}}, {'"cold"', '"warm"'}),
    ],
)
async def test_structured_outputs_bind_its_answers_too(
    alone: Gateway, asked: dict[str, Any], texts: set[str], stream: bool
):
    body = {"model": "auto", "messages": MESSAGES, "max_tokens": 12, "temperature": 0, "stream": stream}
    status, _, raw = await alone.post("/chat/completions", body | {"structured_outputs": asked})
    assert status == 200, raw
    if not stream:
        assert json.loads(raw)["choices"][0]["message"]["content"] in texts
        return
    chunks = [json.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) in texts


async def test_completions_are_bound_by_a_schema(alone: Gateway):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["cold", "warm"]}}}
    body = {"model": "auto", "prompt": "Ice is", "max_tokens": 12, "response_format": form}
    _, _, raw = await alone.post("/completions", body)
    assert json.loads(json.loads(raw)["choices"][0]["text"]) in ("cold", "warm")


async def test_what_it_would_ignore_is_refused(alone: Gateway):
    body = {"model": "auto", "messages": MESSAGES, "repetition_penalty": 1.2}
    status, _, raw = await alone.post("/chat/completions", body)
    assert (status, json.loads(raw)["error"]["code"]) == (400, "not_supported")
