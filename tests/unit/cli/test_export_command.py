"""`smallfirst export`, from what a gateway has recorded to lines that OpenAI's types take."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web
from click.testing import Result
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter
from support.recorded_exchanges import CHAT, Turn, doubted, recorded
from support.scripted_server import Reply, Scripted, scripted
from support.strategy_requests import ASK, SENTENCE, SURE
from typer.testing import CliRunner

from gateway.cli import app
from gateway.skills.privacy.recognizers import load_recognizers
from policies.schema.private import Private

OPENAI: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALLS = Reply(calls=[("look", '{"at": "ice"}')])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *[str(argument) for argument in arguments]])


def asking(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "test", "messages": [{"role": "user", "content": text}], **more}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def checked(line: dict[str, Any]) -> None:
    """Each message is one of OpenAI's, but for the weights, which are the format's own."""
    messages = [{key: value for key, value in one.items() if key != "weight"} for one in line["messages"]]
    OPENAI.validate_python({**line, "messages": messages, "model": "m"}, strict=False)
    assert line.keys() <= {"messages", "tools", "parallel_tool_calls"}
    assert "weight" not in line["messages"][-1]


async def test_what_cannot_be_read_is_left_out_with_one_warning(slm: Scripted, llm: Scripted, tmp_path: Path):
    await recorded(slm, llm, tmp_path / "records", [(CHAT, ASK, doubted(), Reply("It was cold."))])
    torn = tmp_path / "records" / "0.jsonl"
    torn.write_text('{"type": "exch')
    arguments = (tmp_path / "records", "--no-redact", "--validation", 0, "--out", tmp_path / "set")
    result = run(*arguments)
    assert (result.exit_code, len(lines(tmp_path / "set" / "train.jsonl"))) == (0, 1)
    first, *_ = result.stderr.splitlines()
    assert first.startswith(f"smallfirst: 1 line of records left out: {torn}:1: the line: Invalid JSON")


async def test_escalated_exchanges_become_lines_to_tune_on(slm: Scripted, llm: Scripted, tmp_path: Path):
    later = [*ASK["messages"], {"role": "assistant", "content": "No."}, {"role": "user", "content": "Sure?"}]
    turns: list[Turn] = [
        (CHAT, ASK, doubted(), Reply("It was cold.")),
        (CHAT, ASK | {"stream": True}, doubted(), Reply(SENTENCE)),
        (CHAT, ASK | {"messages": later, "stream": True}, doubted(), Reply("Yes.")),
        (CHAT, asking("Look.", tools=[TOOL], stream=True), doubted(), CALLS),
        ("/responses", {"model": "test", "input": "Is fire hot?"}, doubted(), Reply("Very.")),
        (CHAT, asking("Who?"), Reply("I.", logprobs=SURE), Reply("Unasked.")),
        (CHAT, asking("Count."), doubted(), Reply("One, two,", finish="length")),
    ]
    await recorded(slm, llm, tmp_path / "records", turns)
    result = run(tmp_path / "records", "--no-redact", "--validation", 0, "--out", tmp_path / "set")
    assert result.exit_code == 0, result.output
    train = lines(tmp_path / "set" / "train.jsonl")
    for line in train:
        checked(line)
    answers = [line["messages"][-1].get("content") for line in train]
    assert answers == [SENTENCE, "Yes.", None, "Very."]
    assert train[1]["messages"][1] == {"role": "assistant", "content": "No.", "weight": 0}
    assert train[2]["messages"][-1]["tool_calls"][0]["function"]["arguments"] == '{"at": "ice"}'
    assert train[2]["tools"] == [TOOL]
    assert lines(tmp_path / "set" / "validation.jsonl") == []
    assert (tmp_path / "set" / "train.jsonl").stat().st_mode & 0o777 == 0o600
    told = dict(line.rsplit(maxsplit=1) for line in result.stderr.splitlines())
    assert told == {
        "exchanges read": "7",
        "left out: not escalated": "1",
        "left out: cut off": "1",
        "left out: the same prompt again": "1",
        "for training": "4",
        "for validation": "0",
    }
    assert result.stdout.splitlines() == [
        str(tmp_path / "set" / f"{name}.jsonl") for name in ("train", "validation")
    ]


async def test_each_count_is_apart_from_its_label(
    slm: Scripted, llm: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    label = "left out: " + "x" * 60
    monkeypatch.setattr("gateway.cli.records.export.summarise", lambda _: [(label, 7), ("exchanges read", 1)])
    await recorded(slm, llm, tmp_path / "records", [(CHAT, ASK, doubted(), Reply())])
    result = run(tmp_path / "records", "--no-redact", "--out", tmp_path / "set")
    assert result.stderr.splitlines() == [f"{label} 7", f"{'exchanges read':<52}1"]


async def test_private_data_becomes_placeholders(slm: Scripted, llm: Scripted, tmp_path: Path):
    pytest.importorskip("presidio_analyzer")
    mail = [Reply(calls=[("look", '{"at": "ann@example.com"}')])] * 2
    turns: list[Turn] = [
        (CHAT, asking(f"Mail {name}@example.com", tools=[TOOL]), doubted(), reply)
        for name, reply in zip(("bob", "ann"), mail, strict=True)
    ]
    await recorded(slm, llm, tmp_path / "records", turns)
    result = run(tmp_path / "records", "--validation", 0, "--out", tmp_path / "set")
    assert result.exit_code == 0, result.output
    (line,) = lines(tmp_path / "set" / "train.jsonl")
    assert line["messages"][0]["content"] == "Mail <EMAIL_ADDRESS_1>"
    (call,) = line["messages"][1]["tool_calls"]
    assert call["function"]["arguments"] == '{"at": "<EMAIL_ADDRESS_1>"}'
    assert "@" not in (tmp_path / "set" / "train.jsonl").read_text()
    unknown = run(tmp_path / "records", "--redact", "EMAIL_ADDRESS,SHOE_SIZE", "--out", tmp_path / "other")
    assert (unknown.exit_code, "'SHOE_SIZE'" in unknown.stderr) == (2, True)


async def test_what_clouds_got_redacted_is_recorded_and_exported_redacted(
    slm: Scripted, llm: Scripted, tmp_path: Path
):
    pytest.importorskip("presidio_analyzer")
    private = Private(action="redact", patterns={"TICKET": r"T-\d+"})
    reply = Reply("I wrote to <EMAIL_ADDRESS_1> of <TICKET_1>.")
    turns: list[Turn] = [(CHAT, asking("Mail bob@example.com of T-77."), doubted(), reply)]
    (line,) = await recorded(slm, llm, tmp_path / "records", turns, private=private)
    assert (line.content or {})["messages"][0]["content"] == "Mail <EMAIL_ADDRESS_1> of <TICKET_1>."
    assert (line.reply or {})["content"] == reply.text
    assert run(tmp_path / "records", "--validation", 0, "--out", tmp_path / "set").exit_code == 0
    (example,) = lines(tmp_path / "set" / "train.jsonl")
    assert [one["content"] for one in example["messages"]] == [
        "Mail <EMAIL_ADDRESS_1> of <TICKET_1>.",
        "I wrote to <EMAIL_ADDRESS_1> of <TICKET_1>.",
    ]


async def test_without_the_library_one_says_that_nothing_is_redacted(
    slm: Scripted, llm: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    load_recognizers.cache_clear()
    await recorded(slm, llm, tmp_path / "records", [(CHAT, ASK, doubted(), Reply())])
    result = run(tmp_path / "records", "--out", tmp_path / "set")
    assert result.exit_code == 1
    assert "pip install 'smallfirst[privacy]'; or say --no-redact" in " ".join(result.stderr.split())
    assert not (tmp_path / "set").exists()


class Reader(Scripted):
    """A vLLM whose model finds an answer as likely as the prompt's word says."""

    LOSSES: ClassVar = {"easy": 1.0, "hard": 2.0, "harder": 2.5, "odd": 4.0}
    ALONE = 3.0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if request.path.endswith("/tokenize"):
            text = (
                "".join(one["content"] for one in body["messages"]) if "messages" in body else body["prompt"]
            )
            if "long" in text:
                return web.json_response({"error": {"message": "too long"}}, status=400)
            return web.json_response({"tokens": [*text.encode(), 0], "max_model_len": 100})
        ids = body["prompt"]
        prompt = bytes(ids).partition(b"\0")[0].decode()
        logprob = -self.LOSSES.get(prompt.strip("?"), self.ALONE)
        places = [None, *[{str(id_): {"logprob": logprob}} for id_ in ids[1:]]]
        return web.json_response({"choices": [{"prompt_logprobs": places}]})


async def test_the_answers_that_the_small_model_finds_least_likely_are_selected(
    slm: Scripted, llm: Scripted, tmp_path: Path
):
    turns: list[Turn] = [
        (CHAT, asking(f"{word}?"), doubted(), Reply(SENTENCE))
        for word in ("easy", "hard", "long", "odd", "harder")
    ]
    await recorded(slm, llm, tmp_path / "records", turns)
    async with scripted("reader", Reader) as reader:
        small = {"name": "r", "tier": "slm", "engine": "vllm", "url": reader.url, "model": "m", "probe": 0}
        config = tmp_path / "smallfirst.yaml"
        config.write_text(json.dumps({"local": None, "upstreams": [small]}))
        options = ["--no-redact", "--validation", 0, "--select", 2, "--config", config]
        result = await asyncio.to_thread(run, tmp_path / "records", *options, "--out", tmp_path / "set")
        await recorded(slm, llm, tmp_path / "odd", [turns[3]])
        empty = await asyncio.to_thread(run, tmp_path / "odd", *options, "--out", tmp_path / "none")
    assert result.exit_code == 0, result.output
    why = "none of 1 examples could be selected: 1 no likelier after their prompts, 0 unreadable"
    assert (empty.exit_code, why in " ".join(empty.stderr.split())) == (1, True), empty.output
    asked = [line["messages"][0]["content"] for line in lines(tmp_path / "set" / "train.jsonl")]
    assert asked == ["harder?", "hard?"]
    told = dict(line.rsplit(maxsplit=1) for line in result.stderr.splitlines() if line[-1].isdigit())
    assert told["selected for training"] == "2"
    assert {what: number for what, number in told.items() if what.startswith("not selected")} == {
        "not selected: easier for the small model": "1",
        "not selected: no likelier after their prompts": "1",
        "not selected: unreadable for the small model": "1",
    }


NO_READERS = {
    "--select needs a small model, and none is configured": [],
    "--select needs a server that tells the log-probabilities of a given text": [{"engine": "openai"}],
    "r could not be asked: ": [{"engine": "vllm"}],
}


async def test_a_selection_needs_a_small_model_that_reads(slm: Scripted, llm: Scripted, tmp_path: Path):
    await recorded(slm, llm, tmp_path / "records", [(CHAT, ASK, doubted(), Reply())])
    far = {"name": "far", "tier": "llm", "url": "http://127.0.0.1:9/v1", "model": "large"}
    small = {
        "name": "r",
        "tier": "slm",
        "url": far["url"],
        "model": "m",
        "limits": {"retries": 0},
        "probe": 0,
    }
    config = tmp_path / "smallfirst.yaml"
    common = ["--no-redact", "--validation", 0, "--select", 0.5, "--config", config]
    for said, upstreams in NO_READERS.items():
        config.write_text(
            json.dumps({"local": None, "upstreams": [far, *[small | more for more in upstreams]]})
        )
        result = await asyncio.to_thread(run, tmp_path / "records", *common, "--out", tmp_path / "set")
        assert (result.exit_code, said in " ".join(result.stderr.split())) == (2, True), result.output
        assert not (tmp_path / "set").exists()


async def test_what_was_recorded_without_content_can_not_be_exported(
    slm: Scripted, llm: Scripted, tmp_path: Path
):
    await recorded(slm, llm, tmp_path / "records", [(CHAT, ASK, doubted(), Reply())], content=False)
    result = run(tmp_path / "records", "--no-redact", "--out", tmp_path / "set")
    assert result.exit_code == 1
    assert "set records.content: true" in result.stderr
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "nowhere: no such file or folder"),
        ((".", "--format", "csv"), "Invalid value for '--format'"),
        ((".", "--out", "full"), "full is not empty"),
        ((".", "--select", "some"), "--select some: expected a number of examples, or a share of them"),
        ((".", "--select", "1.5"), "--select 1.5: expected a number"),
        ((".", "--redact", "X", "--no-redact"), "--redact and --no-redact: one of them"),
        ((".", "--no-redact"), "holds no records"),
        (("full", "--no-redact"), "full/a.jsonl:1: the line: Invalid JSON"),
    ],
)
def test_bad_input_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.jsonl").write_text("{\n")
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert said in " ".join(result.stderr.split()), result.output
