"""What servers really send, through the whole gateway: the answer, its cost, its figures, its metrics, its record."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.odd_answers import ANY_USAGE, DIALECTS, TrueUsage
from support.scripted_server import Reply, Scripted
from support.strategy_requests import ASK, assert_well_formed, chunks_of, policy, streamed

from routers.strategies.direct import Direct

PRICES = {"input": 1.0, "output": 10.0, "cached_input": 0.1}
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
XAI = {
    "prompt_tokens": 10120,
    "completion_tokens": 1499,
    "total_tokens": 14428,
    "prompt_tokens_details": {"cached_tokens": 128},
    "completion_tokens_details": {"reasoning_tokens": 2809},
}
DEEPSEEK = USAGE | {"prompt_cache_hit_tokens": 900, "prompt_cache_miss_tokens": 100}
THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
PARTS = [THINKING, {"type": "text", "text": "It is cold."}]


@pytest.fixture
async def priced(start: StartGateway, slm: Scripted, llm: Scripted) -> Gateway:
    """The policy `test` is a cascade, `large` asks the large model alone; only the large model has a price."""
    tiers = settings_of(upstream(slm, "slm"), upstream(llm, "llm", price=PRICES))
    return await start(tiers, [simple_policy(), large()])


@pytest.fixture
async def unpriced(start: StartGateway, slm: Scripted, llm: Scripted) -> Gateway:
    return await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm", price=None)), [large()])


def large() -> Any:
    return policy(Direct(tier="llm")).model_copy(update={"name": "large"})


def plain(content: Any = "hi", usage: Any = None, **choice: Any) -> Reply:
    message = {"role": "assistant", "content": content}
    whole = {"id": "up-1", "object": "chat.completion", "created": 1, "model": "m"}
    body = whole | {"choices": [{"index": 0, "finish_reason": "stop", "message": message, **choice}]}
    return Reply(body=json.dumps(body if usage is None else body | {"usage": usage}))


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk. `more` belongs to its choice."""
    head = {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]}


def stream(*chunks: dict[str, Any]) -> Reply:
    events = [json.dumps(each, separators=(",", ":")).encode() for each in chunks]
    return Reply(raw=b"".join(b"data: %b\n\n" % event for event in [*events, b"[DONE]"]))


def words(text: str, *alternatives: Any) -> list[dict[str, Any]]:
    """A role, and a chunk for each word with its log-probabilities. `alternatives` are those of the last ones."""
    chunks = [chunk({"role": "assistant", "content": ""})]
    for word in text.split(" "):
        top = [{"token": word, "logprob": -0.01}, {"token": "a", "logprob": -3.0}]
        top += [{"token": f"b{place}", "logprob": each} for place, each in enumerate(alternatives)]
        entry = {"token": word, "logprob": -0.01, "top_logprobs": top}
        chunks.append(chunk({"content": f" {word}"}, logprobs={"content": [entry]}))
    return chunks


END = chunk({}, "stop")


def last(usage: Any) -> dict[str, Any]:
    return END | {"choices": [], "usage": usage}


async def cost_of(gateway: Gateway, exchange_id: str) -> float:
    """The cost of an exchange of one call, which is the same wherever it is told."""
    exchange = await gateway.exchange(exchange_id)
    (call,) = exchange["calls"]
    assert call["outcome"] == "ok"
    assert call["cost_usd"] == exchange["cost_usd"]
    return float(call["cost_usd"])


async def metric(gateway: Gateway, name: str, *labels: str) -> float:
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        lines = (await response.text()).split("\n")
    found = [line for line in lines if line.startswith(f"smallfirst_{name}{{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found if all(label in line for label in labels))


@pytest.mark.parametrize(("usage", "dollars"), [(XAI, 0.0530848), (DEEPSEEK, 0.00119), (USAGE, 0.002)])
@pytest.mark.parametrize("place", ["plain", "end", "finish", "choice", "zeros after", "in every chunk"])
async def test_a_usage_costs_the_same_wherever_it_is_reported(
    priced: Gateway, llm: Scripted, usage: dict[str, Any], dollars: float, place: str
):
    begin = words("It is cold.")
    zeros = dict.fromkeys(USAGE, 0)
    replies = {
        "plain": plain(usage=usage),
        "end": stream(*begin, END, last(usage)),
        "finish": stream(*begin, END | {"usage": usage}),
        "choice": stream(*begin, chunk({}, "stop", usage=usage)),
        "zeros after": stream(*begin, END | {"usage": usage}, last(zeros)),
        "in every chunk": stream(*[each | {"usage": usage} for each in [*begin, END]]),
    }
    llm.says(replies[place])
    body = ASK | {"model": "large", "stream": place != "plain", "stream_options": {"include_usage": True}}
    status, headers, raw = await priced.post("/chat/completions", body)
    assert status == 200, raw
    if place != "plain":
        chunks = chunks_of(raw)
        assert [bool(each.get("usage")) for each in chunks] == [False] * (len(chunks) - 1) + [True]
        assert chunks[-1]["smallfirst"]["cost_usd"] == pytest.approx(dollars, abs=1e-12)
    assert await cost_of(priced, headers["x-smallfirst-id"]) == pytest.approx(dollars, abs=1e-12)
    assert await metric(priced, "cost_usd_total", 'model="large"') == pytest.approx(dollars, abs=1e-12)
    tokens = await metric(priced, "tokens_total", 'model="large"')
    assert tokens == usage["total_tokens"]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_responses_api_tells_every_servers_usage(priced: Gateway, llm: Scripted, dialect: Any):
    llm.says(plain(usage=dialect(TrueUsage(1000, 100, 900, 60))))
    status, _, raw = await priced.post("/responses", {"model": "large", "input": "Hi"})
    usage = json.loads(raw)["usage"]
    counts = [usage[name] for name in ("input_tokens", "output_tokens", "total_tokens")]
    assert (status, counts) == (200, [1000, 100, 1100])
    assert usage["input_tokens_details"]["cached_tokens"] == 900


@pytest.mark.parametrize("streams", [False, True])
async def test_a_reported_cost_stands_where_no_price_is_configured(
    priced: Gateway, unpriced: Gateway, llm: Scripted, streams: bool
):
    usage = USAGE | {"cost": 0.0375}
    llm.says(stream(*words("It is cold."), END, last(usage)) if streams else plain(usage=usage))
    for gateway, dollars in ((unpriced, 0.0375), (priced, 0.002)):
        body = ASK | {"model": "large", "stream": streams}
        _, headers, _ = await gateway.post("/chat/completions", body)
        exchange = await gateway.exchange(headers["x-smallfirst-id"])
        assert exchange["cost_usd"] == pytest.approx(dollars)
        assert (exchange["saved_usd"] is None) is (gateway is unpriced)


ODD_COUNTS = ["12", "-3", -3, True, 1.5, 10**999, 1e308, [1], {"a": 1}, None, "x"]


@pytest.mark.parametrize("count", ODD_COUNTS, ids=lambda value: str(value)[:9])
@pytest.mark.parametrize("streams", [False, True])
async def test_no_count_loses_an_exchange(priced: Gateway, llm: Scripted, count: Any, streams: bool):
    usage: Any = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens", "cost"), count)
    usage |= {"prompt_tokens_details": count, "completion_tokens_details": {"reasoning_tokens": count}}
    llm.says(stream(*words("It is cold."), END, last(usage)) if streams else plain(usage=usage))
    for path, body in (("/chat/completions", ASK), ("/responses", {"input": "Is ice cold?"})):
        status, headers, raw = await priced.post(path, body | {"model": "large", "stream": streams})
        assert status == 200, raw
        assert b'"type":"error"' not in raw
        exchange = await priced.exchange(headers["x-smallfirst-id"].removeprefix("resp_"))
        (call,) = exchange["calls"]
        assert call["estimated"] is (count != "12")
        assert 0 < exchange["cost_usd"] < 1e-3


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(usage=ANY_USAGE, streams=st.booleans(), place=st.sampled_from(["usage", "choice", "x_groq"]))
async def test_no_usage_at_all_loses_an_exchange(
    priced: Gateway, llm: Scripted, usage: Any, streams: bool, place: str
):
    more = {"usage": {"usage": usage}, "choice": {}, "x_groq": {"x_groq": {"usage": usage}}}[place]
    in_choice = {"usage": usage} if place == "choice" else {}
    finish = chunk({}, "stop", **in_choice) | more
    answer = stream(*words("It is cold."), finish) if streams else plain(**in_choice)
    if not streams:
        answer.body = json.dumps(json.loads(answer.body) | more)
    llm.says(answer)
    body = ASK | {"model": "large", "stream": streams, "stream_options": {"include_usage": True}}
    status, headers, raw = await priced.post("/chat/completions", body)
    assert status == 200, raw
    exchange = await priced.exchange(headers["x-smallfirst-id"])
    assert [call["outcome"] for call in exchange["calls"]] == ["ok"]
    assert exchange["cost_usd"] >= 0.0
    if streams:
        assert_well_formed([each for each in chunks_of(raw) if each["choices"]])


ALTERNATIVES = [None, float("-inf"), float("inf"), float("nan"), -9999.0, 1e308]


@pytest.mark.parametrize("alternative", ALTERNATIVES, ids=str)
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("logprobs", [{}, {"logprobs": True, "top_logprobs": 3}], ids=["unasked", "asked"])
async def test_odd_alternatives_are_very_unlikely_or_left_out(
    priced: Gateway, slm: Scripted, llm: Scripted, alternative: Any, streams: bool, logprobs: Any
):
    slm.says(stream(*words("It is quite cold here today in the north.", alternative), END, last(USAGE)))
    body = ASK | logprobs | {"stream": streams}
    status, headers, raw = await priced.post("/chat/completions", body)
    assert status == 200, raw
    assert llm.requests == []
    exchange = await priced.exchange(headers["x-smallfirst-id"])
    assert (exchange["route"], exchange["confidence"] > 0.5) == ("slm", True)
    for payload in [raw] if not streams else [line[6:] for line in raw.split(b"\n") if line[:6] == b"data: "]:
        if payload != b"[DONE]":
            json.loads(payload, parse_constant=pytest.fail)


async def test_a_relayed_stream_with_odd_logprobs_is_json(priced: Gateway, llm: Scripted):
    llm.says(stream(*words("It is cold.", float("-inf"), float("nan")), END, last(USAGE)))
    body = ASK | {"model": "large", "stream": True, "logprobs": True, "top_logprobs": 4}
    _, _, raw = await priced.post("/chat/completions", body)
    lines = [line[6:] for line in raw.split(b"\n") if line[:6] == b"data: "]
    chunks = [json.loads(line, parse_constant=pytest.fail) for line in lines[:-1]]
    tops = [each["choices"][0]["logprobs"]["content"][0]["top_logprobs"] for each in chunks[1:4]]
    assert [top[2]["logprob"] for top in tops] == [-9999.0] * 3
    assert [top[3]["logprob"] for top in tops] == [None] * 3


@pytest.mark.parametrize("model", ["test", "large"])
@pytest.mark.parametrize("streams", [False, True])
async def test_halves_of_a_surrogate_pair_are_joined_or_replaced(
    priced: Gateway, slm: Scripted, llm: Scripted, model: str, streams: bool
):
    text = "It is quite cold here today in the north."
    halves = [chunk({"content": piece}) for piece in ("\ud83d", "\ude00", "\ud83d\ude00")]
    chunks = words(text, -4.0)
    for each in halves:
        entry = {"token": "?", "logprob": -0.01, "top_logprobs": [{"token": "?", "logprob": -0.01}] * 2}
        each["choices"][0]["logprobs"] = {"content": [entry]}
    server = slm if model == "test" else llm
    if streams or model == "test":
        server.says(stream(*chunks, *halves, END, last(USAGE)))
    else:
        server.says(plain(f" {text}\ud83d - \ude00\ud83d\ude00", USAGE))
    body = ASK | {"model": model}
    if streams:
        found, _, raw = await streamed(priced, body)
        raw.decode()
    else:
        _, _, raw = await priced.post("/chat/completions", body)
        found = json.loads(raw)["choices"][0]["message"]["content"].replace(" - ", "")
    assert found == f" {text}\ufffd\ufffd😀"
    assert len(slm.requests) + len(llm.requests) == 1


async def test_content_in_parts_is_text_and_reasoning(priced: Gateway, llm: Scripted):
    llm.says(plain(PARTS, USAGE))
    _, headers, raw = await priced.post("/chat/completions", ASK | {"model": "large"})
    message = json.loads(raw)["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("It is cold.", "hm")
    assert await cost_of(priced, headers["x-smallfirst-id"]) == pytest.approx(0.002)
    _, _, raw = await priced.post("/responses", {"model": "large", "input": "Hi"})
    output = json.loads(raw)["output"]
    assert [(item["type"], item["content"][0]["text"]) for item in output] == [
        ("reasoning", "hm"),
        ("message", "It is cold."),
    ]


@pytest.mark.parametrize("model", ["test", "large"])
async def test_content_in_parts_is_text_and_reasoning_in_streams(
    priced: Gateway, slm: Scripted, llm: Scripted, model: str
):
    parts = [chunk({"content": [part]}) for part in PARTS]
    for server in (slm, llm):
        server.says(stream(chunk({"role": "assistant", "content": ""}), *parts, END, last(USAGE)))
    text, chunks, _ = await streamed(priced, ASK | {"model": model})
    assert text == "It is cold."
    deltas = [each["choices"][0]["delta"] for each in chunks]
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == ["hm"]
    body = {"model": model, "input": "Hi", "stream": True}
    _, _, raw = await priced.post("/responses", body)
    events = [json.loads(line[6:]) for line in raw.split(b"\n") if line[:6] == b"data: "]
    texts = [(each["type"].split(".")[1], each["delta"]) for each in events if "delta" in each]
    assert [text for text in texts if text[0] != "reasoning_summary_text"] == [
        ("reasoning_text", "hm"),
        ("output_text", "It is cold."),
    ]


async def test_parts_that_are_no_text_stay_as_they_came(priced: Gateway, llm: Scripted):
    parts = [{"type": "image_url", "image_url": {"url": "data:"}}, {"type": "text", "text": "Look."}]
    llm.says(plain(parts, USAGE))
    _, _, raw = await priced.post("/chat/completions", ASK | {"model": "large"})
    assert json.loads(raw)["choices"][0]["message"]["content"] == parts


LONG = 123456789012345678901234567890


@pytest.mark.parametrize("model", ["test", "large", "small"])
@pytest.mark.parametrize("streams", [False, True])
async def test_a_requests_long_integers_keep_their_digits(
    priced: Gateway, slm: Scripted, llm: Scripted, model: str, streams: bool
):
    schema = {"type": "object", "properties": {"id": {"type": "integer", "maximum": LONG, "minimum": -LONG}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    for server in (slm, llm):
        server.says(Reply('{"id": 1}'))
    body = ASK | {"model": model, "stream": streams, "seed": LONG, "response_format": form}
    status, _, raw = await priced.post("/chat/completions", body)
    assert status == 200, raw
    (sent,) = (slm if model != "large" else llm).requests
    assert (sent["seed"], sent["response_format"]) == (LONG, form)


async def test_a_long_integer_where_one_is_counted_is_refused(priced: Gateway):
    status, _, raw = await priced.post("/chat/completions", ASK | {"max_tokens": LONG})
    assert status == 400
    assert "max_tokens must be an integer, not an integer of more than 64 bits" in raw.decode()


@pytest.mark.parametrize("model", ["test", "large", "small"])
async def test_a_lone_half_of_a_surrogate_pair_in_a_request_is_replaced(
    priced: Gateway, slm: Scripted, llm: Scripted, model: str
):
    asked = json.dumps(
        ASK | {"model": model, "messages": [{"role": "user", "content": "\ud83d? \ud83d\ude00"}]}
    )
    assert "\\ud83d" in asked
    status, _, raw = await priced.post("/chat/completions", asked.encode())
    assert status == 200, raw
    (sent,) = (slm if model != "large" else llm).requests
    assert sent["messages"][0]["content"] == "\ufffd? 😀"
