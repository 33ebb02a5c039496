"""What of a request may be compressed, and what never."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.skills.compress.messages import find_question, parse_segments, replace_texts
from gateway.skills.compress.protected_spans import find_protected_spans
from gateway.skills.compress.spans import find_gaps
from gateway.skills.compress.words import WordKind, join_words, split_words


def fixed(text: str, *keep: str) -> list[str]:
    return [text[start:end] for start, end in find_protected_spans(text, keep)]


def staying(text: str) -> list[str]:
    """The words that stay for being numbers or of them."""
    return [text[unit.start : unit.end] for unit in split_words(text) if unit.kind is WordKind.BLOCK_BOUND]


def test_code_json_marks_and_kept_words_are_found():
    assert fixed("a\n```py\nx = 1\n```\nb `y z` c") == ["```py\nx = 1\n```", "`y z`"]
    assert fixed("a\n  ~~~\nnever closed") == ["  ~~~\nnever closed"]
    assert fixed('He said {"a": ["}", 1], "b": {}} to [me], {\'x\': 2}') == ['{"a": ["}", 1], "b": {}}']
    assert fixed('a 6" pipe {"a": 1} and [1, 2]') == ['{"a": 1}', "[1, 2]"]
    assert fixed('cut {"a": [1, "b\n\nthe next') == ['{"a": [1, "b']
    assert fixed("as said [1] of [12345] and [1, 2]") == ["[12345]", "[1, 2]"]
    assert fixed("no <keep>a <keep>b</keep> c</keep> no") == ["<keep>a <keep>b</keep> c</keep>"]
    assert fixed("no <keep>to the end") == ["<keep>to the end"]
    assert fixed("Cats, a CAT and concatenation: New  York new york", "cat", "new york") == [
        "CAT",
        "new york",
    ]
    assert fixed("一二三四", "二三") == ["二三"]


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("He ate 5 apples, then $ 1,200.50 of it and 20 % more.", ["5", "apples,", "$", "1,200.50", "20", "%", "more"]),
        ("In 2020 the USD 5 note, twenty-one days", ["2020", "USD", "5", "note,", "twenty-one", "days"]),
        ("so 12 / 4 = 3 days and COVID-19.", ["12", "/", "4", "=", "3", "days", "COVID-19"]),
        ("1. first\n2) second of 7km", ["7km"]),
        ("Q: why\nA: (B)\n\nA: no answer is as long as this line, of which words may go", ["(B)", "no", "answer"]),
        ("It is so.\nThe answer is yes.", ["The", "answer", "is", "yes"]),
    ],
)  # fmt: skip
def test_numbers_stay_with_their_units(text: str, stays: list[str]):
    assert staying(text) == stays


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("One paragraph, all of it.\nWith a line.", "One paragraph, all of it.|With a line."),
        ("Context: long\nlong\n\nWho was it?", "Who was it?"),
        ("Summarise this:\n\nlong\n\nlong\n\nIn French, please, and do not leave out any name.", None),
        ("Q: a\nA: b\n\nQ: c\nA: d\n\nQ: e?\nOptions:\n(A) x\n\nA:", "Q: e?|Options:|(A) x||A:"),
        ("Question: a\n\nContext: long\n\nAnswer:", "Question: a|Answer:"),
        ("Some long text\n\nWhat does it say of the matter?\n\nThank you.", None),
        ("word " * 100 + "\n\nWhy?", "Why?"),
    ],
)
def test_the_question_is_told_from_what_is_given_for_it(text: str, asked: str | None):
    told = [text[start:end] for start, end in find_question(text)]
    if asked is not None:
        assert "|".join("|".join(told).split("\n")) == asked
    else:
        first, last = text.split("\n\n")[0], text.split("\n\n")[-1]
        assert told[0].startswith(first)
        assert told[-1].endswith(last)
    assert text.rstrip().endswith(told[-1].rstrip())


def test_roles_parts_and_marks():
    prose = "Some words.\n\nOther words that go on.\n\nAnd more of them?"
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": prose},
        {"role": "user", "content": prose},
        {"role": "assistant", "content": prose, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": '{"a": "b c"}'},
        {"role": "assistant", "content": prose},
        {"role": "user", "content": [image, {"type": "text", "text": prose}, {"type": "text", "text": "Why?"}]},
        {"role": "assistant", "content": prose},
    ]  # fmt: skip
    found = parse_segments({"messages": messages})
    open_ = [text.path for text in found.segments if not text.is_protected]
    assert open_ == [
        ("messages", 1, "content"),
        ("messages", 4, "content"),
        ("messages", 5, "content", 1, "text"),
    ]
    assert found.question == "Some words.\nWhy?"
    assert not parse_segments({"messages": messages}, system=True).segments[0].is_protected

    body = {"messages": messages, "x": 1}
    changed = replace_texts(
        body, {("messages", 5, "content", 1, "text"): "new", ("messages", 1, "content"): "n"}
    )
    assert messages[1]["content"] == prose
    assert changed["messages"][5]["content"] == [
        image,
        {"type": "text", "text": "new"},
        messages[5]["content"][2],
    ]
    assert changed["messages"][0] is messages[0]

    marked = "Be short. <context>a b c</context> And <context>d</context><context>e</context> x?"
    (text,) = parse_segments({"prompt": marked}).segments
    assert [marked[start:end] for start, end in find_gaps(text.protected, len(marked))] == ["a b c", "d", "e"]
    assert parse_segments({"text": "a b", "question": "why"}) == ([(("text",), "a b", [])], "why")
    assert parse_segments({"prompt": [1, 2]}).segments == []


TEXTS = st.text(st.sampled_from("ab5 \n\t.,!:;{}[]\"'`~<>/关。，é\0-=%"), max_size=80) | st.text(max_size=40)


@given(text=TEXTS, draw=st.data())
@settings(max_examples=50, deadline=None)
def test_what_is_fixed_survives_and_what_stays_is_in_its_order(text: str, draw: st.DataObject):
    spans = find_protected_spans(text, ["ab"])
    cut = split_words(text, spans)
    assert all(first.end <= second.start for first, second in pairwise(cut))
    assert all(
        text[start:end].strip() == text[start:end] for start, end, kind, _ in cut if kind < WordKind.PROTECTED
    )
    assert join_words(text, cut, [True] * len(cut)) == (text if cut else "")
    stays = [unit.kind >= WordKind.BLOCK_BOUND or draw.draw(st.booleans()) for unit in cut]
    out = join_words(text, cut, stays)
    at = 0
    for unit, stay in zip(cut, stays, strict=True):
        if stay:
            at = out.index(text[unit.start : unit.end], at) + unit.end - unit.start
    for start, end in spans:
        assert text[start:end].strip() in out
