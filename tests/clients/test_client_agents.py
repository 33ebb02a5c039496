"""The OpenAI agents SDK, over responses, which it asks by default, and over chat completions."""

from collections.abc import Callable
from typing import Any

import agents
import openai
import pytest
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, RunConfig, Runner
from support.client_scenarios import ALONE, ERRORS, SURE, WAYS, Case, Opposite, freed_by, look_up
from support.disconnect import MOST
from support.pairwise import every_pair

pytestmark = pytest.mark.asyncio(loop_scope="module")

MakeAgent = Callable[..., Agent[None]]
LOOK_UP = agents.function_tool(look_up)
APIS = {"chat": OpenAIChatCompletionsModel, "responses": OpenAIResponsesModel}
STREAM = {"plain": False, "stream": True}
EACH_WAY = every_pair(policy_name=WAYS, sure=SURE, agent=APIS, indirect=["agent"])
EACH_WAY_AND_STREAM = every_pair(policy_name=WAYS, sure=SURE, agent=APIS, stream=STREAM, indirect=["agent"])
EACH_ERROR = every_pair(
    error=[*ERRORS], policy_name=WAYS, sure=ALONE, agent=APIS, stream=STREAM, indirect=["agent"]
)
QUIET = RunConfig(tracing_disabled=True)


@pytest.fixture(params=APIS.values(), ids=APIS)
def agent(request: pytest.FixtureRequest, tiers: Any) -> MakeAgent:
    def made(model: str, **more: Any) -> Agent[None]:
        asked = request.param(model=model, openai_client=tiers.gateway.client)
        return Agent(name="lexicographer", model=asked, **more)

    return made


async def output_of(agent: Agent[None], question: str, stream: bool = False) -> Any:
    if not stream:
        return (await Runner.run(agent, question, run_config=QUIET)).final_output
    running = Runner.run_streamed(agent, question, run_config=QUIET)
    async for _ in running.stream_events():
        pass
    return running.final_output


@EACH_WAY
async def test_chat(case: Case, agent: MakeAgent):
    case.talk()
    assert await output_of(agent(case.model), case.question) == case.said
    assert await case.routes() == [case.by]


@EACH_WAY
async def test_stream(case: Case, agent: MakeAgent):
    case.talk()
    running = Runner.run_streamed(agent(case.model), case.question, run_config=QUIET)
    assert "".join([part async for part in deltas_of(running)]) == case.said
    assert running.final_output == case.said
    assert await case.routes() == [case.by]


async def deltas_of(running: Any) -> Any:
    async for event in running.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            yield event.data.delta


@EACH_WAY_AND_STREAM
async def test_tools(case: Case, agent: MakeAgent, stream: bool):
    case.call_a_tool()
    assert await output_of(agent(case.model, tools=[LOOK_UP]), case.question, stream) == case.said
    assert case.results() == [look_up(case.word)]
    assert await case.routes() == [case.by, case.by]


@EACH_WAY_AND_STREAM
async def test_structured_output(case: Case, agent: MakeAgent, stream: bool):
    case.answer_in_json()
    able = agent(case.model, output_type=Opposite)
    assert await output_of(able, case.question, stream) == Opposite(word=case.word)
    assert await case.routes() == [case.by]


@EACH_ERROR
async def test_errors(case: Case, agent: MakeAgent, error: str, stream: bool):
    reply, status, code = ERRORS[error]
    case.fail(reply)
    with pytest.raises(openai.APIStatusError) as caught:
        await output_of(agent(case.model), case.question, stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)


async def test_an_unknown_model(agent: MakeAgent):
    with pytest.raises(openai.NotFoundError, match="there are: "):
        await output_of(agent("gpt-9"), "Is ice cold?")


@EACH_WAY
async def test_leaving_frees_the_upstream(case: Case, agent: MakeAgent):
    able = agent(case.model)

    async def ask() -> None:
        running = Runner.run_streamed(able, case.question, run_config=QUIET)
        try:
            async for _ in running.stream_events():
                pass
        finally:
            running.cancel()  # the run is a task of its own

    assert await freed_by(case, ask) < MOST


@every_pair(policy_name=["balanced"], sure=ALONE, stream=STREAM)
async def test_turns_go_on_from_the_previous_response(case: Case, tiers: Any, stream: bool):
    case.talk()
    asked = OpenAIResponsesModel(model=case.model, openai_client=tiers.gateway.client)
    able: Agent[None] = Agent(name="lexicographer", model=asked)
    first = await Runner.run(able, case.question, run_config=QUIET)
    more: Any = {"previous_response_id": first.last_response_id, "run_config": QUIET}
    if stream:
        running = Runner.run_streamed(able, "And once more?", **more)
        async for _ in running.stream_events():
            pass
    else:
        await Runner.run(able, "And once more?", **more)
    texts = [message["content"] for message in case.answering.requests[-1]["messages"]]
    assert texts == [case.question, case.said, "And once more?"]
