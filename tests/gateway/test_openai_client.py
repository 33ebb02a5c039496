"""The official client, unchanged, against the gateway."""

import asyncio
from typing import Any

import openai
import pytest
from doubles import Reply, Scripted
from gateways import Gateway
from openai.types.chat import ChatCompletion, ChatCompletionChunk

MESSAGES: list[Any] = [{"role": "user", "content": "What is the opposite of hot?"}]


def strictly(model: Any) -> Any:
    """The client reads leniently; this holds its reading against the type it names."""
    return type(model).model_validate(model.model_dump(), strict=False)


@pytest.mark.parametrize("name", ["test", "small", "large"])
async def test_a_plain_answer(gateway: Gateway, name: str):
    answer = await gateway.client.chat.completions.create(model=name, messages=MESSAGES)
    assert isinstance(answer, ChatCompletion)
    assert strictly(answer) == answer
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == "It is cold."
    assert answer.usage is not None
    assert answer.usage.total_tokens == 13


@pytest.mark.parametrize("name", ["test", "small", "large"])
async def test_a_stream(gateway: Gateway, name: str):
    text, usage = "", None
    async for chunk in await gateway.client.chat.completions.create(
        model=name, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ):
        assert isinstance(chunk, ChatCompletionChunk)
        assert strictly(chunk) == chunk
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert text == "It is cold."
    assert usage is not None
    assert usage.completion_tokens == 3


@pytest.mark.parametrize("name", ["test", "large"])
async def test_the_clients_stream_helper_gathers_the_answer(gateway: Gateway, name: str):
    seen = ""
    async with gateway.client.chat.completions.stream(model=name, messages=MESSAGES) as stream:
        async for event in stream:
            seen += event.delta if event.type == "content.delta" else ""
        whole = await stream.get_final_completion()
    assert seen == whole.choices[0].message.content == "It is cold."
    assert whole.choices[0].finish_reason == "stop"


async def test_logprobs_parse_in_a_plain_answer_and_in_a_stream(gateway: Gateway):
    ask: dict[str, Any] = {"model": "test", "messages": MESSAGES, "logprobs": True, "top_logprobs": 2}
    answer = await gateway.client.chat.completions.create(**ask)
    async with gateway.client.chat.completions.stream(**ask) as stream:
        streamed = await stream.get_final_completion()
    for found in (answer, streamed):
        logprobs = found.choices[0].logprobs
        assert logprobs is not None
        assert [token.token for token in logprobs.content or ()] == ["It", " is", " cold."]
        assert all(len(token.top_logprobs) == 2 for token in logprobs.content or ())


async def test_the_figures_are_in_the_headers(gateway: Gateway):
    raw = await gateway.client.chat.completions.with_raw_response.create(model="test", messages=MESSAGES)
    assert raw.headers["x-smallfirst-route"] == "slm"
    assert float(raw.headers["x-smallfirst-saved-usd"]) > 0
    assert (await gateway.exchange(raw.headers["x-smallfirst-id"]))["status"] == 200
    assert raw.parse().choices[0].message.content == "It is cold."


async def test_own_fields_go_in_as_extra_body(gateway: Gateway):
    answer = await gateway.client.chat.completions.create(
        model="large", messages=MESSAGES, extra_body={"smallfirst": {"policy": "test"}}
    )
    assert answer.model == "small"


async def test_the_synchronous_client(gateway: Gateway, llm: Scripted):
    llm.says(Reply(status=429))

    def talk() -> tuple[str | None, str, str, str | None]:
        with openai.OpenAI(base_url=gateway.url, api_key="none", max_retries=0) as client:
            plain = client.chat.completions.create(model="test", messages=MESSAGES)
            with client.chat.completions.create(model="test", messages=MESSAGES, stream=True) as chunks:
                streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            text = client.completions.create(model="test", prompt="hot is not").choices[0].text
            client.embeddings.create(model="small", input="hot", encoding_format="float")
            assert "test" in [model.id for model in client.models.list()]
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(model="large", messages=MESSAGES)
            return plain.choices[0].message.content, streamed, text, caught.value.code

    assert await asyncio.to_thread(talk) == (
        "It is cold.",
        "It is cold.",
        "It is cold.",
        "rate_limit_exceeded",
    )


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_errors_are_the_clients_own_exceptions(gateway: Gateway, llm: Scripted, stream: bool):
    complaint = {"error": {"message": "no", "type": "invalid_request_error", "param": "top_p", "code": "bad"}}
    rows: list[tuple[Reply, type[openai.APIStatusError], str, str | None]] = [
        (Reply(status=400, body=complaint), openai.BadRequestError, "bad", "top_p"),
        (Reply(status=422), openai.UnprocessableEntityError, "invalid_value", None),
        (Reply(status=429), openai.RateLimitError, "rate_limit_exceeded", None),
        (Reply(status=401), openai.InternalServerError, "upstream_refused", None),
        (Reply(status=500), openai.InternalServerError, "upstream_error", None),
        (Reply(status=503), openai.InternalServerError, "upstream_overloaded", None),
    ]
    for reply, kind, code, param in rows:
        llm.says(reply)
        with pytest.raises(kind) as caught:
            await gateway.client.chat.completions.create(model="large", messages=MESSAGES, stream=stream)
        assert (caught.value.code, caught.value.param) == (code, param)
    with pytest.raises(openai.NotFoundError, match="there are: ") as missing:
        await gateway.client.chat.completions.create(model="gpt-9", messages=MESSAGES, stream=stream)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as wrong:
        await gateway.client.chat.completions.create(model="test", messages=[], stream=stream)
    assert wrong.value.param == "messages"


async def test_a_stream_that_breaks_off_raises_in_the_client(gateway: Gateway, llm: Scripted):
    llm.says(Reply("one two three four", cut_at=2))
    seen: list[str] = []

    async def read() -> None:
        async for chunk in await gateway.client.chat.completions.create(
            model="large", messages=MESSAGES, stream=True
        ):
            seen.append(chunk.choices[0].delta.content or "")  # noqa: PERF401  it ends in an error

    with pytest.raises(openai.APIError, match="broke off") as caught:
        await read()
    assert "".join(seen) == "one two"
    assert caught.value.code == "upstream_lost"


async def test_the_clients_own_retries_follow_retry_after(gateway: Gateway, llm: Scripted):
    llm.says(Reply(status=503, headers={"Retry-After": "1"}), Reply("Cold."))
    patient = gateway.client.with_options(max_retries=1)
    answer = await patient.chat.completions.create(model="large", messages=MESSAGES)
    assert answer.choices[0].message.content == "Cold."
    assert len(llm.requests) == 2
