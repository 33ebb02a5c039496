"""`smallfirst models bench` between two scripted servers, and what it concludes."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import Result
from support.fake_engine import FakeVllm
from support.record_builders import call, record
from support.scripted_server import Reply, Scripted, scripted
from typer.testing import CliRunner

from gateway.cli import app
from gateway.cli.models.bench import Run, judge_runs, read_prompts
from gateway.local.throughput import NO_DRAFTING, Throughput
from policies.loading.yaml_files import ConfigError
from policies.records.schema import PolicyLine, RecordError

PAGE = """\
# TYPE vllm:spec_decode_num_drafts counter
vllm:spec_decode_num_drafts_total{{engine="0"}} {drafts}
# TYPE vllm:spec_decode_num_draft_tokens counter
vllm:spec_decode_num_draft_tokens_total{{engine="0"}} {tokens}
# TYPE vllm:spec_decode_num_accepted_tokens counter
vllm:spec_decode_num_accepted_tokens_total{{engine="0"}} {accepted}
# TYPE vllm:spec_decode_num_accepted_tokens_per_pos counter
vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",position="0"}} {first}
vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",position="1"}} {second}
"""


class Speculating(Scripted):
    """Counts as vLLM does: ten blocks of two a request, of which six keep one token and three both."""

    async def look(self, request: web.Request) -> web.Response:
        assert request.path == "/metrics"
        asked = len(self.requests)
        counts = {"drafts": 10, "tokens": 20, "accepted": 9, "first": 6, "second": 3}
        return web.Response(text=PAGE.format(**{name: value * asked for name, value in counts.items()}))


@pytest.fixture
async def plain() -> AsyncIterator[Scripted]:
    async with scripted("small") as server:
        server.says("It is cold.")
        yield server


@pytest.fixture
async def speculating() -> AsyncIterator[Scripted]:
    async with scripted("small", Speculating) as server:
        server.says("It is cold.")
        yield server


async def bench(prompts: Path, *arguments: object) -> Result:
    words = ["models", "bench", str(prompts), *map(str, arguments)]
    return await asyncio.to_thread(CliRunner().invoke, app, words)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.txt"
    path.write_text("Hot?\n\nCool?\n")
    return path


async def test_it_asks_without_with_and_without_again(
    questions: Path, plain: Scripted, speculating: Scripted
):
    urls = [
        "--url",
        plain.url,
        "--url",
        speculating.url,
        "--model",
        "small",
        "--key",
        "sk-two",
        "--max-tokens",
        9,
    ]
    result = await bench(questions, *urls)
    assert result.exit_code == 0, result.output
    asked = [request["messages"][0]["content"] for request in speculating.requests]
    assert (asked[0], sorted(asked[1:])) == ("Hi", ["Cool?", "Hot?"])
    assert len(plain.requests) == 2 * len(asked)
    assert [request["max_tokens"] for request in speculating.requests] == [8, 9, 9]
    assert speculating.requests[1]["temperature"] == 0
    assert speculating.headers[0]["Authorization"] == "Bearer sk-two"
    head, *runs = result.stdout.splitlines()[:4]
    assert head.split() == ["tokens", "seconds", "tokens/s", "accepted", "a", "token"]
    assert [run.split()[0] for run in runs] == ["without", "with", "without"]
    # Two requests of ten blocks: 18 of 40 tokens accepted; of the 20 blocks 14 were rejected somewhere.
    assert runs[1].split()[-2:] == ["45%", "0.56"]
    assert "Same answers as the first run: 2 of 2 with it, 2 without again." in result.stdout
    assert "equal runs differ by" in result.stdout.splitlines()[-1]


async def test_as_json_it_has_every_run_and_the_verdict(
    questions: Path, plain: Scripted, speculating: Scripted
):
    urls = ["--url", plain.url, "--url", speculating.url, "--model", "small", "--rounds", 2, "--json"]
    told = json.loads((await bench(questions, *urls)).stdout)
    assert [run["speculative"] for run in told["runs"]] == [False, True, False, True, False]
    assert {run["tokens"] for run in told["runs"]} == {6}
    assert (told["runs"][1]["accepted"], told["runs"][0]["drafted"]) == (18, 0)
    assert told["spread"] >= 0.0


async def test_it_says_where_nothing_was_drafted(questions: Path, plain: Scripted, speculating: Scripted):
    for server, said in ((plain, True), (speculating, False)):
        result = await bench(questions, "--url", plain.url, "--url", server.url, "--model", "small")
        assert ("Nothing was drafted" in result.stdout) is said


async def test_llamacpps_timings_tell_what_it_accepted(questions: Path, plain: Scripted):
    plain.says(Reply("Cold.", extra={"timings": {"draft_n": 8, "draft_n_accepted": 6}}))
    told = json.loads(
        (await bench(questions, "--url", plain.url, "--url", plain.url, "--model", "small", "--json")).stdout
    )
    assert (told["runs"][0]["drafted"], told["runs"][0]["accepted"], told["runs"][0]["accept"]) == (
        16,
        12,
        None,
    )


async def test_a_server_that_refuses_ends_it(questions: Path, plain: Scripted):
    plain.says(Reply(status=400))
    result = await bench(questions, "--url", plain.url, "--url", plain.url, "--model", "small")
    assert result.exit_code == 1
    assert "scripted 400" in result.stderr
    assert "Traceback" not in result.output


async def test_a_server_that_reports_no_usage_ends_it(questions: Path, plain: Scripted):
    plain.says(Reply(usage=False))
    result = await bench(questions, "--url", plain.url, "--url", plain.url, "--model", "small")
    assert result.exit_code == 1
    assert "without: KeyError('usage')" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "http://127.0.0.1:9/v1", "--model", "small"], "--url is given twice"),
        (["--url", "http://127.0.0.1:9/v1"] * 2, "and --model with it"),
        (["--url", "nowhere"] * 2 + ["--model", "small"], "--url nowhere: "),
        ([], "local.speculative is not set"),
    ],
)
async def test_what_can_not_be_compared_is_refused(
    questions: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(questions.parent)
    result = await bench(questions, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


async def test_the_configured_engine_runs_without_with_and_without_it(questions: Path, tmp_path: Path):
    fake = FakeVllm(tmp_path)
    local = fake.engine(speculative={"method": "ngram", "num_speculative_tokens": 3})
    config = tmp_path / "smallfirst.yaml"
    config.write_text(json.dumps({"local": local.model_dump(mode="json", exclude_unset=True)}))
    result = await bench(questions, "--config", config)
    assert result.exit_code == 0, result.output
    turns = [line for line in result.stderr.splitlines() if " of 3: " in line]
    assert turns == ["1 of 3: without", "2 of 3: with speculation", "3 of 3: without"]
    assert result.stderr.count("ready") == 3
    assert [line.split()[-4] for line in result.stdout.splitlines()[1:4]] == [
        "without",
        "speculation",
        "without",
    ]
    assert fake.pids() == set()


def test_requests_keep_their_fields_and_get_a_limit(tmp_path: Path):
    path = tmp_path / "requests.jsonl"
    chat = {"messages": [{"role": "user", "content": "Hot?"}], "temperature": 0.5, "stream": True}
    path.write_text(f'{json.dumps(chat)}\n\n{{"prompt": "Hot is", "max_tokens": 3}}\n')
    assert read_prompts(path, 50) == [
        {"messages": chat["messages"], "temperature": 0.5, "max_tokens": 50},
        {"prompt": "Hot is", "max_tokens": 3},
    ]


def write_records(folder: Path, *contents: dict[str, Any] | None) -> Path:
    """Write a record file with an exchange for each content."""
    records = [record([call("slm")], None, content=content) for content in contents]
    ran = records[0].policy
    lines = [PolicyLine(digest=ran.digest, policy=ran), *(each.exchange for each in records)]
    path = folder / "records.jsonl"
    path.write_text("".join(f"{line.model_dump_json()}\n" for line in lines))
    return path


@pytest.mark.parametrize("as_folder", [False, True])
def test_records_give_the_requests_they_hold(tmp_path: Path, as_folder: bool):
    path = write_records(tmp_path, {"messages": [], "model": "auto"}, None, {"input": "embed me"})
    assert read_prompts(tmp_path if as_folder else path, 5) == [
        {"messages": [], "model": "auto", "max_tokens": 5}
    ]


def test_a_torn_record_is_left_out_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write_records(tmp_path, {"messages": []})
    path.write_text('{"type": "exch\n' + path.read_text())
    assert read_prompts(path, 5) == [{"messages": [], "max_tokens": 5}]
    assert f"1 line of records left out: {path}:1" in capsys.readouterr().err


def test_records_without_content_or_a_readable_line_are_refused(tmp_path: Path):
    path = write_records(tmp_path, None)
    with pytest.raises(ConfigError, match="holds no prompts"):
        read_prompts(path, 5)
    path.write_text(path.read_text().splitlines()[1])
    with pytest.raises(RecordError, match="no policy line"):
        read_prompts(path, 5)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"messages": []}\n{', "a.jsonl:2: not JSON"),
        ("a.jsonl", '{"messages": [], "prompt": ""}', "a.jsonl:1: expected a request with either"),
        ("a.jsonl", "[]", "a.jsonl:1: expected a request with either"),
        ("a.txt", " \n", "holds no prompts"),
        ("a.txt", None, "cannot be read"),
    ],
)
def test_prompts_that_are_none_are_refused_by_file_and_line(
    tmp_path: Path, name: str, text: str | None, said: str
):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_prompts(tmp_path / name, 5)


def runs(*speeds: float) -> list[Run]:
    return [
        Run(index % 2 == 1, Throughput(100, 100 / speed, ["x"], NO_DRAFTING))
        for index, speed in enumerate(speeds)
    ]


@pytest.mark.parametrize(
    ("speeds", "pays"),
    [
        ([10.0, 15.0, 11.0], True),
        ([10.0, 5.0, 11.0], False),
        ([10.0, 11.0, 12.0], None),
        ([10.0, 11.4, 11.0], None),  # faster than both, but by less than they differ
        ([10.0, 15.0, 10.0, 9.0, 10.0], None),  # the runs with it differ too
    ],
)
def test_it_pays_only_beyond_the_spread(speeds: list[float], pays: bool | None):
    verdict = judge_runs(runs(*speeds))
    assert verdict.pays is pays
    assert verdict.sentence.startswith({True: "It pays", False: "It does not", None: "No difference"}[pays])
