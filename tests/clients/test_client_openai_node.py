"""OpenAI's client for Node.js, over chat completions and responses."""

from pathlib import Path
from typing import Any

import pytest
from support.client_scenarios import ALONE, ERRORS, RETRY_AFTER, SURE, WAYS, Case, look_up
from support.node_clients import require_node_clients, run_script
from support.pairwise import every_pair

pytestmark = [pytest.mark.heavy, pytest.mark.asyncio(loop_scope="module")]

APIS = ("chat", "responses")
EACH_WAY = every_pair(policy_name=WAYS, sure=SURE, api=APIS)
EACH_ERROR = every_pair(error=[*ERRORS], policy_name=["balanced", "private"], sure=ALONE, api=APIS)


async def run(case: Case, work: Path, scenario: str) -> Any:
    packages = require_node_clients("sdks")
    own = {"baseURL": case.gateway.url, "model": case.model, "question": case.question}
    return await run_script(packages, work, "openai_node.mjs", scenario=scenario, **own)


@EACH_WAY
async def test_chat(case: Case, tmp_path: Path, api: str):
    case.talk()
    got = await run(case, tmp_path, api)
    if api == "chat":
        assert got["text"] == case.said
        assert got["id"].startswith("sf-")
    elif case.policy.private:
        assert (got["status"], got["code"]) == (404, "previous_response_not_found")
    else:
        assert got == {"texts": [case.said] * 3, "gone": [404, "response_not_found"]}


@EACH_WAY
async def test_stream(case: Case, tmp_path: Path, api: str):
    case.talk()
    assert await run(case, tmp_path, f"{api}_stream") == {"text": case.said, "final": case.said}
    assert await case.routes() == [case.by]


@EACH_WAY
async def test_tools(case: Case, tmp_path: Path, api: str):
    case.call_a_tool()
    got = await run(case, tmp_path, f"{api}_tools")
    if case.policy.private and api == "responses":
        assert (got["status"], got["code"]) == (404, "item_not_found")
        return
    assert got == {"text": case.said}
    assert case.results() == [look_up(case.word)]


@EACH_WAY
async def test_structured_output(case: Case, tmp_path: Path, api: str):
    case.answer_in_json()
    assert await run(case, tmp_path, f"{api}_parse") == {"word": case.word}


@EACH_ERROR
async def test_errors(case: Case, tmp_path: Path, error: str, api: str):
    reply, status, code = ERRORS[error]
    case.fail(reply)
    got = await run(case, tmp_path, api)
    wait = RETRY_AFTER if reply.headers else None
    assert got == {"status": status, "code": code, "retry_after": wait}
