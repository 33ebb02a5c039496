"""pydantic-ai's agents, over chat completions and over responses."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.providers.openai import OpenAIProvider
from support.client_scenarios import ALONE, ERRORS, SURE, WAYS, Case, Opposite, freed_by, look_up
from support.disconnect import MOST
from support.pairwise import every_pair

pytestmark = pytest.mark.asyncio(loop_scope="module")

MakeAgent = Callable[..., Agent[None, Any]]
APIS = {"chat": OpenAIChatModel, "responses": OpenAIResponsesModel}
STREAM = {"plain": False, "stream": True}
EACH_WAY = every_pair(policy_name=WAYS, sure=SURE, agent=APIS, indirect=["agent"])
EACH_WAY_AND_STREAM = every_pair(policy_name=WAYS, sure=SURE, agent=APIS, stream=STREAM, indirect=["agent"])
EACH_ERROR = every_pair(error=[*ERRORS], policy_name=WAYS, sure=ALONE, agent=APIS, indirect=["agent"])


@pytest.fixture(params=APIS.values(), ids=APIS)
def agent(request: pytest.FixtureRequest, tiers: Any) -> MakeAgent:
    def made(model: str, **more: Any) -> Agent[None, Any]:
        provider = OpenAIProvider(openai_client=tiers.gateway.client)
        return Agent(request.param(model, provider=provider), retries=0, **more)

    return made


@EACH_WAY
async def test_chat(case: Case, agent: MakeAgent):
    case.talk()
    answer = await agent(case.model).run(case.question)
    assert answer.output == case.said
    assert await case.routes() == [case.by]


@EACH_WAY
async def test_stream(case: Case, agent: MakeAgent):
    case.talk()
    async with agent(case.model).run_stream(case.question) as answer:
        parts = [part async for part in answer.stream_text(delta=True, debounce_by=None)]
    assert "".join(parts) == case.said
    assert await case.routes() == [case.by]


@EACH_WAY_AND_STREAM
async def test_tools(case: Case, agent: MakeAgent, stream: bool):
    case.call_a_tool()
    able = agent(case.model, tools=[look_up])
    if stream:
        async with able.run_stream(case.question) as answer:
            said = await answer.get_output()
    else:
        said = (await able.run(case.question)).output
    assert said == case.said
    assert case.results() == [look_up(case.word)]
    assert await case.routes() == [case.by, case.by]


@EACH_WAY_AND_STREAM
async def test_structured_output(case: Case, agent: MakeAgent, stream: bool):
    case.answer_in_json()
    await is_structured(case, agent(case.model, output_type=NativeOutput(Opposite)), stream)


@EACH_WAY_AND_STREAM
async def test_structured_output_by_a_tool(case: Case, agent: MakeAgent, stream: bool):
    case.call_a_tool("final_result")
    await is_structured(case, agent(case.model, output_type=Opposite), stream)


async def is_structured(case: Case, agent: Agent[None, Any], stream: bool) -> None:
    if stream:
        async with agent.run_stream(case.question) as answer:
            found = await answer.get_output()
    else:
        found = (await agent.run(case.question)).output
    assert found == Opposite(word=case.word)
    assert await case.routes() == [case.by]


@EACH_ERROR
async def test_errors(case: Case, agent: MakeAgent, error: str):
    reply, status, code = ERRORS[error]
    case.fail(reply)
    with pytest.raises(ModelHTTPError) as plain:
        await agent(case.model).run(case.question)
    with pytest.raises(ModelHTTPError) as streamed:
        async with agent(case.model).run_stream(case.question):
            pass
    for caught in (plain.value, streamed.value):
        assert caught.status_code == status
        assert isinstance(caught.body, dict)
        assert caught.body["code"] == code


async def test_an_unknown_model(agent: MakeAgent):
    with pytest.raises(ModelHTTPError, match="there are: ") as caught:
        await agent("gpt-9").run("Is ice cold?")
    assert caught.value.status_code == 404


@EACH_WAY
async def test_leaving_frees_the_upstream(case: Case, agent: MakeAgent):
    able = agent(case.model)

    async def ask() -> None:
        async with able.run_stream(case.question) as answer:
            await answer.get_output()

    assert await freed_by(case, ask) < MOST


@every_pair(policy_name=["balanced"], sure=ALONE)
async def test_turns_go_on_from_the_previous_response(case: Case, tiers: Any):
    case.call_a_tool()
    asked = OpenAIResponsesModel(case.model, provider=OpenAIProvider(openai_client=tiers.gateway.client))
    settings = OpenAIResponsesModelSettings(openai_previous_response_id="auto")
    able = Agent(asked, retries=0, tools=[look_up], model_settings=settings)
    first = await able.run(case.question)
    second = await able.run("And once more?", message_history=first.all_messages())
    assert (first.output, second.output) == (case.said, case.said)
    assert case.results() == [look_up(case.word)]
    asked_for = [
        message["content"] for message in case.answering.requests[-1]["messages"] if message["role"] == "user"
    ]
    assert asked_for == [case.question, "And once more?"]
