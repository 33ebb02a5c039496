"""Codex CLI without its terminal interface, against a scripted model that uses its tools."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.client_scenarios import ALONE, Case
from support.node_clients import require_node_clients, run_command
from support.pairwise import every_pair
from support.scripted_server import Reply

pytestmark = [pytest.mark.heavy, pytest.mark.asyncio(loop_scope="module")]

CONFIGURATION = """
model = "{model}"
model_provider = "gateway"
check_for_update_on_startup = false
analytics.enabled = false
[model_providers.gateway]
name = "gateway"
base_url = "{url}"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""


async def run_codex(case: Case, work: Path) -> list[Any]:
    """Return the events of a turn that asks the case's question."""
    packages = require_node_clients("codex")
    home, folder = work / "home", work / "project"
    for each in (home, folder):
        each.mkdir()
    configuration = CONFIGURATION.format(model=case.model, url=case.gateway.url)
    (home / "config.toml").write_text(configuration, encoding="utf-8")
    command = str(packages / "node_modules" / ".bin" / "codex")
    # There is no sandbox on each machine, and the model only says what is below.
    options = ["--skip-git-repo-check", "--json", "--dangerously-bypass-approvals-and-sandbox"]
    output = await run_command(
        command, "exec", *options, case.question, cwd=folder, env={"CODEX_HOME": str(home)}
    )
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


@every_pair(policy_name=["frugal", "private"], sure=ALONE)
async def test_a_turn_runs_a_command_and_a_tool_of_a_namespace(case: Case, tmp_path: Path):
    case.slm.says(
        Reply(calls=[("exec_command", json.dumps({"cmd": "echo $((6 * 7))"}))]),
        Reply(calls=[("multi_agent_v1__close_agent", json.dumps({"target": "nobody"}))]),
        Reply("It is 42."),
    )
    events = await run_codex(case, tmp_path)
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    (run,) = [item for item in items if item["type"] == "command_execution"]
    assert (run["exit_code"], run["aggregated_output"]) == (0, "42\n")
    (said,) = [item for item in items if item["type"] == "agent_message"]
    assert said["text"] == "It is 42."
    ran, closed = [message for message in case.slm.requests[-1]["messages"] if message["role"] == "tool"]
    assert "42" in ran["content"]
    assert "unsupported call" not in closed["content"]
    calls = [
        call for message in case.slm.requests[-1]["messages"] for call in message.get("tool_calls") or ()
    ]
    assert [call["function"]["name"] for call in calls] == ["exec_command", "multi_agent_v1__close_agent"]
    for exchange in await case.exchanges():
        assert exchange["left_out"] == ["web_search"]
