"""Compression to a target, by a reader whose surprise is made up."""

import re
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.surprisal_reader import WORDS, Reader, prose

from gateway.skills.compress.compression import Compressed, Goal, SkipReason, compress
from gateway.skills.compress.cost_benefit import Objection
from gateway.skills.compress.messages import parse_segments, replace_texts
from gateway.skills.compress.words import split_words


async def compressed(body: dict[str, Any], **goal: Any) -> tuple[Compressed, dict[str, Any]]:
    found = await compress(parse_segments(body), Goal(**goal), Reader())
    return found, replace_texts(body, found.texts)


@pytest.mark.parametrize(
    "goal", [{"ratio": 0.5}, {"ratio": 0.1}, {"tokens": 150}, {"ratio": 0.5, "drop": True}]
)
@pytest.mark.parametrize("aware", [False, True])
async def test_the_target_is_met_and_what_stays_reads_on(goal: dict[str, Any], aware: bool):
    context = prose(700)
    question = "What does alpha have to do with beta, and why?"
    body = {"messages": [{"role": "user", "content": f"{context}\n\n{question}"}]}
    found, out = await compressed(body, question_aware=aware, **goal)
    assert found.why == ""
    assert found.after == await Reader().count_tokens(out["messages"][0]["content"])
    assert found.after == pytest.approx(found.target, rel=0.05)
    assert found.before == await Reader().count_tokens(body["messages"][0]["content"])
    text = out["messages"][0]["content"]
    assert text.endswith(f"\n\n{question}")
    lines = text.removesuffix(question).split("\n")
    assert all(set(re.findall(r"\w+", line)) <= set(WORDS) for line in lines)
    assert all(re.fullmatch(r"(?:(?:\w+ )*\w+\.(?: |$))*", line) for line in lines)
    assert found.method == ("perplexity+question" if aware else "perplexity")


async def test_blocks_that_the_question_explains_come_first():
    passages = [prose(70, seed) for seed in range(8)]
    passages[5] = " ".join(["the zebra eats grass at dawn near water."] * 9)
    asked = {"text": "\n\n".join(passages), "question": "zebra eats grass dawn near water."}
    found, out = await compressed(asked, ratio=0.2, question_aware=True)
    assert found.left_out >= 4
    assert out["text"].count("zebra") >= 4
    _, unaware = await compressed(asked, ratio=0.2, question_aware=False)
    assert unaware["text"].count("zebra") < out["text"].count("zebra")


async def test_why_a_target_is_not_met_or_nothing_done():
    context = prose(300)
    asked = [
        ({"text": context}, {"tokens": 10_000}, "fits"),
        ({"text": ""}, {"ratio": 0.5}, "empty"),
        ({"text": "\n \t"}, {"ratio": 0.5}, "empty"),
        ({"text": context}, {"ratio": 0.5, "min_tokens": 5000}, "short"),
        ({"prompt": context.replace("\n", " ")}, {"ratio": 0.5}, "protected"),
        ({"text": '{"a": "' + context + '"}'}, {"ratio": 0.5}, "protected"),
        ({"text": "\0\1\2\3" * 50 + context}, {"ratio": 0.5}, "not_text"),
        ({"messages": [{"role": "user", "content": None}]}, {"ratio": 0.5}, "empty"),
    ]
    for body, goal, why in asked:
        found, out = await compressed(body, **goal)
        assert (found.why, found.after, out) == (why, found.before, body), why
    numbers = {"text": " ".join(f"it took {at} days" for at in range(100))}
    found, out = await compressed(numbers, ratio=0.3)
    assert found.why == "protected"
    assert found.after > found.target
    assert all(f"{at} days" in out["text"] for at in range(100))


async def test_numbers_of_a_block_that_is_left_out_may_go_with_it():
    text = "\n\n".join(" ".join(f"{prose(3, at)} took {at} days." for _ in range(12)) for at in range(10))
    kept, out = await compressed({"text": text}, ratio=0.3)
    assert kept.why == "protected"
    assert [len(re.findall(rf"\b{at} days", out["text"])) for at in range(10)] == [12] * 10
    dropped, out = await compressed({"text": text}, ratio=0.3, drop=True)
    assert dropped.why == ""
    assert dropped.after == pytest.approx(dropped.target, rel=0.05)
    assert not re.search(r"\d(?! days)", out["text"])


async def test_languages_without_spaces_lose_clauses_and_not_parts_of_words():
    clauses = [f"这是第{'甲乙丙丁戊己庚辛壬癸'[at % 10]}句话的内容" for at in range(60)]
    text = "，".join(clauses) + "。"
    found, out = await compressed({"text": text + "\n\nAnd English words. " + prose(100)}, ratio=0.5)
    assert found.why == ""
    chinese = out["text"].split("\n")[0]
    assert 0 < len(chinese) < len(text)
    assert set(re.split("[，。]", chinese)) <= {*clauses, ""}


JUNK = ("[", '{"', '"', '"\\', "a", "<keep>", "<context>", "`", "\n ", "\nQ:", "{a ", "。", "? ")


async def test_time_is_linear_in_the_length_of_whatever_comes():
    async def seconds(text: str) -> float:
        began = time.process_time()
        await compressed({"prompt": text}, ratio=0.5)
        return time.process_time() - began

    assert await seconds(prose(12_000)) < 12 * await seconds(prose(3_000))
    for junk in JUNK:
        assert await seconds(f"{junk * 8_000}\n\n{prose(50)}") < 3


PIECES = st.sampled_from(
    [
        "alpha",
        "beta,",
        "gamma.",
        "5 apples",
        '{"a": [1]}',
        "`x = 1`",
        "<keep>this one</keep>",
        "Name",
        "这是，",
        "7",
    ]
)
TEXT = st.lists(st.tuples(PIECES, st.sampled_from([" ", " ", " ", "\n", "\n\n"])), max_size=60).map(
    lambda pairs: "".join(piece + gap for piece, gap in pairs)
)


@given(text=TEXT, ratio=st.floats(0.05, 0.95), aware=st.booleans(), drop=st.booleans())
@settings(max_examples=50, deadline=None)
async def test_whatever_is_asked_nothing_fixed_is_lost(text: str, ratio: float, aware: bool, drop: bool):
    body = {"text": text, "question": "alpha or beta?" if aware else ""}
    found, out = await compressed(body, ratio=ratio, drop=drop)
    reader = Reader()
    assert found.after == await reader.count_tokens(out["text"]) or out == body
    for fixed in ("`x = 1`", '{"a": [1]}', "<keep>this one</keep>"):
        assert out["text"].count(fixed) == text.count(fixed)
    if not drop:
        assert len(re.findall("5 apples", out["text"])) == len(re.findall("5 apples", text))
    was, now = [[text[unit.start : unit.end] for unit in split_words(text)] for text in (text, out["text"])]
    rest = iter(was)
    assert all(any(word == other for other in rest) for word in now)
    if not found.why and found.before > found.target:
        assert abs(found.after - found.target) <= 0.05 * found.target
    elif found.why == "protected":
        assert found.after >= found.target


def test_the_page_tells_every_why():
    page = (Path(__file__).parents[3] / "docs" / "skills" / "compress.md").read_text(encoding="utf-8")
    found = [*filter(None, get_args(SkipReason)), *filter(None, get_args(Objection)), "unspelled"]
    assert [why for why in found if f"`{why}`" not in page] == []
