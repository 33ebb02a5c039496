"""Turns that refer to earlier ones by id: what is kept, what is not, and what is said of what is gone."""

import asyncio
import random
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted

from gateway.api.responses.history import History
from gateway.api.responses.request import to_chat
from gateway.settings import Settings
from gateway.state.responses import ResponseStore
from gateway.state.settings import ResponseSettings
from policies.schema.policy import Policy
from policies.schema.private import Private
from routers.strategies.direct import Direct

Body = dict[str, Any]

HOT = {"role": "user", "content": "What is the opposite of hot?"}
WET = {"role": "user", "content": "And of wet?"}
COLD = {"role": "assistant", "content": "It is cold."}


@pytest.fixture(params=[False, True], ids=["plain", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def ask(gateway: Gateway, stream: bool = False, **fields: Any) -> Any:
    """The response to a request, or the last one of its stream."""
    answer: Any = await gateway.client.responses.create(**{"model": "test", **fields}, stream=stream)
    if not stream:
        return answer
    return [event async for event in answer][-1].response


async def test_an_item_is_referred_to_by_its_id(gateway: Gateway, slm: Scripted, stream: bool):
    first = await ask(gateway, stream, input=[HOT])
    assert (first.output_text, first.store) == ("It is cold.", True)
    reference = {"type": "item_reference", "id": first.output[0].id}
    await ask(gateway, stream, input=[HOT, reference, WET])
    assert slm.requests[1]["messages"] == [HOT, COLD, WET]
    await ask(gateway, stream, input=[HOT, {"id": first.output[0].id}, WET])
    assert slm.requests[2]["messages"] == [HOT, COLD, WET]


async def test_every_item_of_an_answer_can_be_referred_to(
    start: StartGateway, slm: Scripted, llm: Scripted, stream: bool
):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [simple_policy()])
    tool = {"type": "function", "name": "look_up", "parameters": {"type": "object"}, "strict": False}
    slm.says(Reply(calls=[("look_up", '{"word": "hot"}')], reasoning="Let me see."), "It is cold.")
    first = await ask(gateway, stream, input=[HOT], tools=[tool])
    assert [item.type for item in first.output] == ["reasoning", "function_call"]
    references = [{"type": "item_reference", "id": item.id} for item in first.output]
    result = {"type": "function_call_output", "call_id": first.output[1].call_id, "output": "cold"}
    await ask(gateway, stream, input=[HOT, *references, result], tools=[tool])
    _, assistant, found = slm.requests[1]["messages"]
    assert assistant["tool_calls"][0]["function"] == {"name": "look_up", "arguments": '{"word": "hot"}'}
    assert found == {"role": "tool", "tool_call_id": first.output[1].call_id, "content": "cold"}


async def test_a_turn_goes_on_from_the_previous_response(gateway: Gateway, slm: Scripted, stream: bool):
    first = await ask(gateway, stream, input=HOT["content"], instructions="Be brief.")
    second = await ask(gateway, stream, input=[WET], previous_response_id=first.id)
    assert second.previous_response_id == first.id
    await ask(gateway, stream, input="And of dry?", previous_response_id=second.id)
    assert slm.requests[2]["messages"] == [
        HOT,
        COLD,
        WET,
        COLD,
        {"role": "user", "content": "And of dry?"},
    ]


async def test_a_call_that_is_sent_again_after_the_previous_response_is_one_call(
    gateway: Gateway, slm: Scripted
):
    tool = {"type": "function", "name": "look_up", "parameters": {"type": "object"}, "strict": False}
    slm.says(Reply(calls=[("look_up", '{"word": "hot"}')]), "It is cold.")
    first = await ask(gateway, input=[HOT], tools=[tool])
    (call,) = first.output
    again = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "cold"}
    await ask(gateway, input=[again, result], tools=[tool], previous_response_id=first.id)
    _, assistant, found = slm.requests[1]["messages"]
    assert [each["id"] for each in assistant["tool_calls"]] == [call.call_id] == [found["tool_call_id"]]


async def test_a_kept_response_is_read_and_deleted(gateway: Gateway, stream: bool):
    first = await ask(gateway, stream, input=[HOT])
    assert await gateway.client.responses.retrieve(first.id) == first
    with pytest.raises(openai.BadRequestError, match="stream is not supported"):
        await gateway.client.responses.retrieve(first.id, stream=True)
    async with gateway.http.delete(f"{gateway.url}/responses/{first.id}") as response:
        assert await response.json() == {"id": first.id, "object": "response", "deleted": True}
    for call in (gateway.client.responses.retrieve, gateway.client.responses.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            await call(first.id)
        assert (caught.value.code, caught.value.param) == ("response_not_found", "response_id")


async def test_azures_path_and_other_spellings_find_it_too(gateway: Gateway):
    async with gateway.http.post(
        f"{gateway.root}/openai/deployments/test/responses", json={"input": [HOT]}
    ) as made:
        response = await made.json()
    for path in ("/openai/v1/responses/", "//v1/responses/", "/responses/"):
        status, found = await gateway.get(f"{path}{response['id']}")
        assert (status, found) == (200, response)


async def refusal_of(gateway: Gateway, **fields: Any) -> openai.NotFoundError:
    with pytest.raises(openai.NotFoundError) as caught:
        await ask(gateway, **fields)
    return caught.value


async def test_what_is_gone_is_a_404_that_says_what_to_do(gateway: Gateway, slm: Scripted):
    error = await refusal_of(gateway, input=[WET], previous_response_id="resp_0")
    assert (error.code, error.param) == ("previous_response_not_found", "previous_response_id")
    assert "'resp_0' is not kept here" in error.message
    assert "Send the whole conversation as input" in error.message
    for item_id in ("msg_0", "msg_sf-0_0", "", "😀"):
        error = await refusal_of(gateway, input=[HOT, {"type": "item_reference", "id": item_id}, WET])
        assert (error.code, error.param) == ("item_not_found", "input[1].id")
        assert "Send the item itself" in error.message
        assert "`store: false`" in error.message
    assert slm.requests == []


async def test_an_item_that_the_response_did_not_have_is_gone_too(gateway: Gateway):
    first = await ask(gateway, input=[HOT])
    other = first.output[0].id.replace("_0", "_1")
    assert (
        await refusal_of(gateway, input=[{"type": "item_reference", "id": other}])
    ).code == "item_not_found"


@pytest.mark.parametrize("name", [{}, {"id": None}, {"id": 7}], ids=str)
async def test_a_misshapen_reference_is_named(gateway: Gateway, name: Body):
    status, _, body = await gateway.post(
        "/responses", {"model": "test", "input": [{"type": "item_reference", **name}]}
    )
    assert status == 400
    assert b'"param":"input[0].id"' in body


async def test_an_item_is_referred_to_once(gateway: Gateway, slm: Scripted):
    """Else a body of a megabyte could stand for a conversation of terabytes."""
    first = await ask(gateway, input=[HOT])
    reference = {"type": "item_reference", "id": first.output[0].id}
    with pytest.raises(openai.BadRequestError, match="in the input already") as caught:
        await ask(gateway, input=[HOT, reference, WET, reference])
    assert (caught.value.code, caught.value.param) == ("invalid_value", "input[3].id")
    assert len(slm.requests) == 1


MESSAGES = st.lists(st.sampled_from(["It is cold.", "", None]), min_size=1, max_size=4)
TURNS = st.lists(st.tuples(st.sampled_from(["Hi", "And?"]), MESSAGES, st.booleans()), min_size=1, max_size=4)


def answer_of(number: int, texts: list[str | None]) -> list[Body]:
    """An answer's output: a text is a message, and None a call of a tool."""
    name = f"sf-{number}"
    return [
        {"id": f"fc_{name}_{place}", "type": "function_call", "call_id": f"c{number}.{place}", "name": "f"}
        | {"arguments": "{}"}
        if text is None
        else {"id": f"msg_{name}_{place}", "type": "message", "role": "assistant", "content": text}
        for place, text in enumerate(texts)
    ]


@given(TURNS, st.randoms(use_true_random=False))
def test_however_a_turn_names_what_came_before_the_model_reads_the_same(turns: Any, chance: random.Random):
    async def converse() -> None:
        history = History(ResponseStore(ResponseSettings()))
        whole: list[Body] = []
        previous: str | None = None
        for number, (text, texts, chained) in enumerate(turns):
            asked = {"role": "user", "content": text}
            earlier = [item for item in whole if not (chained and previous)]
            named = [
                {"type": "item_reference", "id": each["id"]}
                if "id" in each and chance.random() < 0.5
                else each
                for each in earlier
            ]
            request = {"model": "m", "input": [*named, asked]}
            if chained and previous:
                request["previous_response_id"] = previous
            resolved = await history.resolve_references(request)
            chat = to_chat(resolved, await history.read_conversation(resolved))
            whole.append(asked)
            assert chat["messages"] == to_chat({"model": "m", "input": whole})["messages"]
            output = answer_of(number, texts)
            response = {"id": f"resp_sf-{number}", "store": True, "output": output}
            response["previous_response_id"] = request.get("previous_response_id")
            await history.keep(resolved, response)
            whole, previous = [*whole, *output], response["id"]

    asyncio.run(converse())


async def is_kept(gateway: Gateway, response: Any) -> bool:
    """Whether any way of referring to the response finds it."""
    status, _ = await gateway.get(f"/v1/responses/{response.id}")
    if status == 404:
        await refusal_of(gateway, input=[WET], previous_response_id=response.id)
        for item in response.output:
            await refusal_of(gateway, input=[{"type": "item_reference", "id": item.id}])
    return status == 200


async def test_store_false_keeps_nothing(gateway: Gateway, stream: bool):
    response = await ask(gateway, stream, input=[HOT], store=False)
    assert response.store is False
    assert not await is_kept(gateway, response)


async def test_a_deployment_that_keeps_none_says_so(start: StartGateway, slm: Scripted, stream: bool):
    gateway = await start(settings_of(upstream(slm, "slm"), responses={"count": 0}), [simple_policy()])
    response = await ask(gateway, stream, input=[HOT])
    assert response.store is False
    assert not await is_kept(gateway, response)


def private_settings(slm: Scripted, llm: Scripted) -> Settings:
    return settings_of(upstream(slm, "slm"), upstream(llm, "llm"))


@pytest.mark.parametrize("action", ["redact", "stay_local"])
async def test_nothing_of_an_exchange_with_private_data_is_kept(
    start: StartGateway, slm: Scripted, llm: Scripted, action: str, stream: bool
):
    pytest.importorskip("presidio_analyzer", reason="smallfirst[privacy] is not installed")
    policy = Policy(
        name="test", description="For tests.", router=Direct(tier="slm"), private=Private(action=action)
    )
    gateway = await start(private_settings(slm, llm), [policy])
    response = await ask(gateway, stream, input="Write to jane@example.com")
    assert response.store is False
    assert not await is_kept(gateway, response)
    assert await is_kept(gateway, await ask(gateway, stream, input=[HOT]))


@pytest.mark.parametrize(
    "body", [{"smallfirst": {"private": True}}, {"model": "home"}], ids=["request", "policy"]
)
async def test_nothing_of_a_private_exchange_is_kept(
    start: StartGateway, slm: Scripted, llm: Scripted, body: Body, stream: bool
):
    home = Policy(name="home", description="For tests.", router=Direct(tier="slm"), private=True)
    gateway = await start(private_settings(slm, llm), [simple_policy(), home])
    fields = {key: value for key, value in body.items() if key == "model"}
    extra = {key: value for key, value in body.items() if key != "model"}
    response = await ask(gateway, stream, input=[HOT], extra_body=extra, **fields)
    assert response.store is False
    assert not await is_kept(gateway, response)


async def test_an_answer_that_broke_off_is_not_kept(gateway: Gateway, slm: Scripted, llm: Scripted):
    slm.says(Reply("It is cold.", cut_at=2))
    llm.says(Reply("It is cold.", cut_at=2))
    response = await ask(gateway, True, input=[HOT])
    assert response.status == "failed"
    assert not await is_kept(gateway, response)
