"""The fields of a chat request that ask for more than text: each passes on to a tier that can do it, is translated for
its server, or decides who is asked."""

import json
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_calibrator, simple_policy, upstream
from support.scripted_server import Reply, Scripted, logprobs_of

ASK: dict[str, Any] = {"model": "test", "messages": [{"role": "user", "content": "Is ice cold?"}]}
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
SURE, UNSURE = -0.01, -5.0
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"cold": {"type": "boolean"}}, "required": ["cold"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "cold", "schema": SCHEMA}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
LOOK = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}]


@pytest.fixture
async def gateway(start: StartGateway, slm: Scripted, llm: Scripted) -> Gateway:
    return await made(start, slm, llm)


async def made(
    start: StartGateway,
    slm: Scripted,
    llm: Scripted,
    small: dict[str, Any] | None = None,
    large: dict[str, Any] | None = None,
    **policy: Any,
) -> Gateway:
    """The small model's server is llama.cpp's; `small` and `large` are what the servers can do."""
    slm.llamacpp = True
    both = (
        upstream(slm, "slm", engine="llamacpp", capabilities=small or {}),
        upstream(llm, "llm", capabilities=large or {}),
    )
    return await start(
        settings_of(*both), [simple_policy(calibrator=simple_calibrator(engine="llamacpp"), **policy)]
    )


async def asked(gateway: Gateway, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer's one choice, a stream's put together, and the exchange."""
    status, headers, raw = await gateway.post("/chat/completions", ASK | more)
    assert status == 200, raw
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    if not more.get("stream"):
        return json.loads(raw)["choices"][0], exchange
    lines = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: {")]
    choices = [choice for line in lines for choice in json.loads(line)["choices"]]
    return together(choices), exchange


def together(choices: list[dict[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {}
    logprobs: list[Any] = []
    for choice in choices:
        for key in ("content", "reasoning_content"):
            if choice["delta"].get(key):
                message[key] = message.get(key, "") + choice["delta"][key]
        message.setdefault("tool_calls", []).extend(choice["delta"].get("tool_calls") or [])
        logprobs += (choice.get("logprobs") or {}).get("content") or []
    finishes = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    return {"message": message, "logprobs": {"content": logprobs}, "finish_reason": finishes[-1]}


@STREAMS
@pytest.mark.parametrize(
    "field",
    [
        {"seed": 7},
        {"stop": ["\n", "END"]},
        {"max_tokens": 30},
        {"max_completion_tokens": 30},
        {"temperature": 0.2, "top_p": 0.9, "frequency_penalty": 0.5},
        {"reasoning_effort": "low"},
        {"response_format": {"type": "json_object"}},
        {"response_format": FORMAT},
        {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
        {"user": "u1", "metadata": {"a": "b"}, "top_k": 40},
    ],
    ids=lambda field: next(iter(field)),
)
async def test_a_field_reaches_the_draft_and_the_large_model_as_it_is(
    gateway: Gateway, slm: Scripted, llm: Scripted, stream: bool, field: dict[str, Any]
):
    slm.says(Reply('{"cold": true}', logprobs=UNSURE))
    llm.says('{"cold": true}')
    choice, exchange = await asked(gateway, stream=stream, **field)
    assert choice["message"]["content"] == '{"cold": true}'
    assert exchange["route"] == "llm"
    for server in (slm, llm):
        assert {key: server.requests[0].get(key) for key in field} == field


@STREAMS
async def test_several_choices_are_the_large_models(
    gateway: Gateway, slm: Scripted, llm: Scripted, stream: bool
):
    if stream:
        chunk = {"object": "chat.completion.chunk", "finish_reason": None}
        both = [{"index": index, "delta": {"content": "Cold."}, "finish_reason": "stop"} for index in (0, 1)]
        sent = b"".join(b"data: %b\n\n" % json.dumps(chunk | {"choices": [one]}).encode() for one in both)
        llm.says(Reply(raw=sent + b"data: [DONE]\n\n"))
    status, headers, raw = await gateway.post("/chat/completions", ASK | {"n": 2, "stream": stream})
    assert status == 200
    assert [
        raw.count(b'"index":%b' % index) + raw.count(b'"index": %b' % index) for index in (b"0", b"1")
    ] == [1, 1]
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("llm", "not_judged")
    assert (slm.requests, llm.requests[0]["n"]) == ([], 2)


@STREAMS
@pytest.mark.parametrize(
    ("more", "needed"),
    [
        ({"messages": LOOK}, "vision"),
        ({"tools": [TOOL]}, "tools"),
        ({"response_format": FORMAT}, "json_schema"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"min_p": 0.05}, "min_p"),
        ({"n": 2}, "choices"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_tier_that_can_is_asked(
    start: StartGateway, slm: Scripted, llm: Scripted, stream: bool, more: dict[str, Any], needed: str
):
    """Whichever it is, with the fields as they came; the other one is not."""
    large_can = await made(start, slm, llm, small={needed: False}, large={needed: True})
    small_can = await made(start, slm, llm, small={needed: True}, large={needed: False})
    for gateway, able, other, route, reason in (
        (large_can, llm, slm, "llm", "not_capable"),
        (small_can, slm, llm, "slm", "no_llm"),
    ):
        for server in (slm, llm):
            server.forget()
            server.says('{"cold": true}')
        _, exchange = await asked(gateway, stream=stream, **more)
        assert (exchange["route"], exchange["reason"]) == (route, reason)
        assert other.requests == []
        assert {key: able.requests[0].get(key) for key in more} == more


async def test_more_alternatives_than_the_small_models_server_gives_come_from_the_large_one(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await made(start, slm, llm, small={"top_logprobs": 5})
    _, exchange = await asked(gateway, logprobs=True, top_logprobs=6)
    assert (exchange["route"], exchange["reason"]) == ("llm", "not_capable")
    assert slm.requests == []


@STREAMS
@pytest.mark.parametrize("sure", [True, False])
async def test_logprobs_are_those_of_who_wrote_the_tokens(
    gateway: Gateway, slm: Scripted, llm: Scripted, stream: bool, sure: bool
):
    slm.says(Reply("It is cold.", logprobs=-0.25 if sure else UNSURE))
    llm.says(Reply("Cold.", logprobs=-0.5))
    choice, _ = await asked(gateway, stream=stream, logprobs=True)
    found = [(one["token"], one["logprob"]) for one in choice["logprobs"]["content"]]
    assert found == ([("It", -0.25), (" is", -0.25), (" cold.", -0.25)] if sure else [("Cold.", -0.5)])


async def test_a_spliced_answers_logprobs_change_hands_with_its_text(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await made(start, slm, llm, large={"prefill": True}, release="splice")
    sentence = "Ice is very cold to the touch."
    kept = len(sentence.split())
    slm.says(Reply(f"{sentence} And so are you.", logprobs=[SURE] * kept + [-9.0] * 4))
    llm.says(Reply("And wet.", logprobs=-0.5))
    choice, exchange = await asked(gateway, stream=True, logprobs=True)
    assert exchange["route"] == "slm+llm"
    assert [one["logprob"] for one in choice["logprobs"]["content"]] == [SURE] * kept + [-0.5] * 2
    assert llm.requests[0]["messages"][-1] == {"role": "assistant", "content": sentence}


# --- reasoning


@STREAMS
async def test_reasoning_beside_the_answer_is_passed_on_and_not_judged_with_it(
    gateway: Gateway, slm: Scripted, stream: bool
):
    slm.says(Reply("It is cold.", reasoning="hm perhaps", logprobs=[-7.0] * 2 + [SURE] * 3))
    choice, exchange = await asked(gateway, stream=stream)
    assert choice["message"]["content"] == "It is cold."
    assert choice["message"]["reasoning_content"] == "hm perhaps "
    assert (exchange["route"], exchange["confidence"] > 0.9) == ("slm", True)


@STREAMS
async def test_a_think_block_is_passed_on_and_not_judged_with_the_answer(
    gateway: Gateway, slm: Scripted, stream: bool
):
    thought = "<think> hm perhaps </think> It is cold."
    slm.says(Reply(thought, logprobs=[-7.0] * 4 + [SURE] * 3))
    choice, exchange = await asked(gateway, stream=stream)
    assert choice["message"]["content"] == thought
    assert (exchange["route"], exchange["confidence"] > 0.9) == ("slm", True)


@STREAMS
async def test_the_large_models_reasoning_is_passed_on(
    gateway: Gateway, slm: Scripted, llm: Scripted, stream: bool
):
    slm.says(Reply("Warm?", logprobs=UNSURE))
    llm.says(Reply("Cold.", reasoning="of course"))
    choice, _ = await asked(gateway, stream=stream)
    assert choice["message"]["reasoning_content"].strip() == "of course"


# --- what llama.cpp's server does otherwise


@STREAMS
async def test_llama_cpp_is_asked_in_its_own_way_for_a_tool_calls_logprobs(
    gateway: Gateway, slm: Scripted, llm: Scripted, stream: bool
):
    """It refuses `logprobs` of a stream with tools, and drafts are streams."""
    slm.says(Reply(calls=[("look", '{"at": "ice"}')], logprobs=SURE))
    choice, exchange = await asked(gateway, stream=stream, tools=[TOOL], logprobs=True, top_logprobs=2)
    assert (exchange["route"], exchange["reason"]) == ("slm", "confident")
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "look"
    assert {len(one["top_logprobs"]) for one in choice["logprobs"]["content"]} == {2}
    sent = slm.requests[0]
    assert (sent["n_probs"], sent["tools"]) == (5, [TOOL])
    assert not {"logprobs", "top_logprobs"} & sent.keys()
    assert llm.requests == []


@STREAMS
async def test_a_relayed_stream_with_tools_is_translated_too(gateway: Gateway, slm: Scripted, stream: bool):
    more = {"model": "small", "stream": stream, "tools": [TOOL], "logprobs": True}
    choice, _ = await asked(gateway, **more)
    assert [one["token"] for one in choice["logprobs"]["content"]] == ["It", " is", " cold."]
    assert slm.requests[0].get("n_probs") == (1 if stream else None)


BEGUN = [*ASK["messages"], {"role": "assistant", "content": "Ice is"}]


@STREAMS
@pytest.mark.parametrize("model", ["test", "offline", "small"])
async def test_a_begun_answer_is_gone_on_with_and_not_repeated(
    gateway: Gateway, slm: Scripted, stream: bool, model: str
):
    """llama.cpp repeats it in plain answers alone; its drafts are streams, and so never had it."""
    slm.says(Reply(" cold.", logprobs=SURE))
    choice, exchange = await asked(gateway, model=model, messages=BEGUN, stream=stream)
    assert choice["message"]["content"] == " cold."
    assert exchange["route"] == "slm"
    assert slm.requests[0]["messages"] == BEGUN


async def test_a_server_that_repeats_nothing_loses_nothing(start: StartGateway, llm: Scripted):
    gateway = await start(settings_of(upstream(llm, "llm", engine="vllm")))
    llm.says("Ice is")
    choice, _ = await asked(gateway, model="large", messages=BEGUN)
    assert choice["message"]["content"] == "Ice is"


async def test_an_answer_that_the_client_began_stays_one_message_when_its_writer_dies(
    start: StartGateway, slm: Scripted
):
    """Templates take no two assistant messages at the end."""
    gateway = await start(settings_of(upstream(slm, "slm")), [simple_policy()])
    slm.says(Reply("very very cold.", cut_at=2), Reply(" cold."))
    choice, _ = await asked(gateway, messages=BEGUN, stream=True)
    assert choice["message"]["content"] == "very very cold."
    assert slm.requests[1]["messages"] == [*BEGUN[:-1], {"role": "assistant", "content": "Ice isvery very"}]


# --- the finish


async def test_a_finish_that_comes_with_the_last_text_waits_for_the_verdict(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    """vLLM ends a stream so that has reached its limit. The sentence has left by then, but is no answer."""
    gateway = await made(start, slm, llm, large={"prefill": True}, release="splice")
    slm.says(Reply(raw=sent_in_one("I'm sorry, but I can't help with that.")))
    llm.says("But ask again.")
    _, headers, raw = await gateway.post("/chat/completions", ASK | {"stream": True})
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert (exchange["route"], exchange["reason"]) == ("slm+llm", "refusal")
    assert b"that." in raw
    assert raw.count(b'"finish_reason":"') == 1
    assert raw.rindex(b"again.") < raw.index(b'"finish_reason":"stop"')


def sent_in_one(text: str) -> bytes:
    """A stream whose last chunk of text brings the finish."""
    words = Reply(text).words
    chunks = [
        {
            "id": "u",
            "object": "chat.completion.chunk",
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": word},
                    "logprobs": logprobs_of(word, SURE),
                    "finish_reason": "length" if place == len(words) else None,
                }
            ],
        }
        for place, word in enumerate(words, 1)
    ]
    return b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks) + b"data: [DONE]\n\n"
