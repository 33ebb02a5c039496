"""The Vercel AI SDK: its OpenAI provider, by default over responses, and over chat, and its compatible provider."""

from pathlib import Path
from typing import Any

import pytest
from support.client_scenarios import ALONE, SURE, THOUGHT, WAYS, Case, look_up
from support.node_clients import require_node_clients, run_script
from support.pairwise import every_pair

pytestmark = [pytest.mark.heavy, pytest.mark.asyncio(loop_scope="module")]

PROVIDERS = ("responses", "chat", "compatible")
EACH_WAY = every_pair(policy_name=WAYS, sure=SURE, provider=PROVIDERS)
PRIVATE = every_pair(policy_name=["private"], sure=ALONE)


async def converse(case: Case, work: Path, provider: str, **options: Any) -> Any:
    packages = require_node_clients("sdks")
    own = {"baseURL": case.gateway.url, "model": case.model, "question": case.question}
    return await run_script(packages, work, "ai_sdk.mjs", provider=provider, **own, **options)


@EACH_WAY
async def test_turns_with_tools_and_objects(case: Case, tmp_path: Path, provider: str):
    case.converse()
    store = {"store": False} if case.policy.private else {}
    got = await converse(case, tmp_path, provider, **store)
    assert got["texts"] == [case.said] * 2
    assert got["steps"] == [2, 2]
    assert got["objects"] == [{"word": case.word}] * 3
    assert got["usage"]
    assert case.results() == [look_up(case.word)] * 2
    assert await case.routes() == [case.by] * 6


@every_pair(policy_name=["balanced"], sure=ALONE, provider=("responses", "compatible"))
async def test_reasoning_reaches_the_application(case: Case, tmp_path: Path, provider: str):
    case.converse()
    got = await converse(case, tmp_path, provider)
    thoughts = [[thought and thought.strip() for thought in turn] for turn in got["reasoning"]]
    assert thoughts == [[THOUGHT, THOUGHT]] * 2


@PRIVATE
async def test_of_a_private_exchange_nothing_is_kept_and_the_application_is_told_what_to_do(
    case: Case, tmp_path: Path
):
    case.converse()
    got = await converse(case, tmp_path, "responses")
    assert (got["status"], got["error"]["code"]) == (404, "item_not_found")
    assert "store: false" in got["error"]["message"]
