"""With content on, a record holds the answer as it was served, whoever wrote it and however it left."""

from pathlib import Path

import pytest
from support.recorded_exchanges import CHAT, Turn, doubted, recorded
from support.scripted_server import Reply, Scripted
from support.strategy_requests import ASK, SENTENCE, SURE

from gateway.exchange.captured import CapturedAnswer
from gateway.telemetry import record_writer as recording

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALLS = Reply(calls=[("look", '{"at": "ice"}'), ("look", "{}")])
TEXT = {"role": "assistant", "content": SENTENCE}


async def test_the_answer_is_recorded_as_it_was_served(slm: Scripted, llm: Scripted, tmp_path: Path):
    tools = ASK | {"tools": [TOOL], "tool_choice": "auto"}
    response = {"model": "test", "input": "Is ice cold?"}
    streamed = {"stream": True}
    sure, lost = SENTENCE.split(), ["But", *["of"] * 8]
    breaking_off = Reply(" ".join(sure + lost), logprobs=[SURE] * len(sure) + [-9.0] * len(lost))
    turns: list[Turn] = [
        (CHAT, ASK, doubted(), Reply(SENTENCE)),
        (CHAT, ASK | streamed, doubted(), Reply(SENTENCE, usage=False)),
        (CHAT, ASK, Reply(SENTENCE, logprobs=SURE), Reply("Unasked.")),
        (CHAT, ASK | streamed, Reply(SENTENCE, logprobs=SURE), Reply("Unasked.")),
        (CHAT, ASK | streamed | {"model": "splicing"}, breaking_off, Reply(" It hurts.")),
        ("/responses", response, doubted(), Reply(SENTENCE)),
        ("/responses", response | streamed, doubted(), Reply(SENTENCE)),
        ("/completions", {"model": "test", "prompt": "Ice:", "stream": True}, doubted(), Reply(SENTENCE)),
        (CHAT, tools, doubted(), CALLS),
        (CHAT, tools | streamed, doubted(), CALLS),
    ]
    found = await recorded(slm, llm, tmp_path, turns)
    assert [line.answer and line.answer.route for line in found] == [
        *("llm", "llm", "slm", "slm", "slm+llm", "llm", "llm", "llm", "llm", "llm")
    ]
    plain = [line.reply for line in found]
    assert plain[:4] == [TEXT] * 4
    assert plain[4] == {"role": "assistant", "content": f"{SENTENCE} It hurts."}
    assert plain[5:8] == [TEXT] * 3
    called = [(call["function"]["name"], call["function"]["arguments"]) for call in plain[8]["tool_calls"]]
    assert (called, plain[9]) == ([*CALLS.calls], plain[8])


async def test_private_failed_and_unwatched_content_is_not_recorded(
    slm: Scripted, llm: Scripted, tmp_path: Path
):
    private = ASK | {"smallfirst": {"private": True}}
    failing = Reply(status=400, body={"error": {"message": "no"}})
    turns: list[Turn] = [
        (CHAT, private, Reply(SENTENCE, logprobs=SURE), Reply()),
        (CHAT, ASK, failing, failing),
        ("/embeddings", {"model": "test", "input": "ice"}, Reply(), Reply()),
    ]
    hidden, failed, vector = await recorded(slm, llm, tmp_path / "with", turns)
    assert (hidden.content, hidden.reply) == (None, None)
    assert hidden.calls[0].tokens is not None
    assert hidden.calls[0].tokens.texts is None
    assert (failed.status, failed.reply, vector.reply) == (400, None, None)
    (without,) = await recorded(slm, llm, tmp_path / "without", [(*turns[0][:1], ASK, *turns[0][2:])], False)
    assert (without.content, without.reply) == (None, None)


CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "ice"}}]}\n\n'


@pytest.mark.parametrize("size", [2 * len(CHUNK), 2 * len(CHUNK) - 1])
def test_half_an_answer_is_not_kept(size: int):
    kept = CapturedAnswer(max_bytes=size)
    for _ in range(2):
        kept.raw(CHUNK)
    whole = {"role": "assistant", "content": "iceice"}
    assert kept.message("chat") == (whole if size == 2 * len(CHUNK) else None)


@pytest.mark.parametrize("body", [b"{}", b"[", b'{"choices": []}', b'{"choices": [5]}'])
def test_an_answer_of_a_shape_of_its_own_is_recorded_without(body: bytes):
    kept = CapturedAnswer()
    kept.response(body)
    assert kept.message("chat") is None
    assert CapturedAnswer().message("chat") is None


async def test_answers_that_wait_for_the_disk_are_bounded(
    slm: Scripted, llm: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recording, "MAX_QUEUED_ANSWER_BYTES", 10)
    (line,) = await recorded(slm, llm, tmp_path, [(CHAT, ASK, doubted(), Reply(SENTENCE))])
    assert (line.reply, line.content) == (None, ASK)
