"""What becomes an example to learn from, what is left out and why, and where it goes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.record_builders import answered, call, record

from policies.records.schema import Record
from policies.schema.policy import Policy
from policies.tuning.examples.duplicates import MIN_SIMILARITY, _shingles, remove_duplicates
from policies.tuning.examples.export import (
    NothingToExport,
    build_export,
    conversation_key,
    is_held_out,
    summarise,
    to_jsonl,
)
from policies.tuning.examples.selection import Loss, select_examples
from policies.tuning.examples.sft_examples import Example, list_texts, replace_texts
from routers.plan import Reason

TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"required": ["at"], "type": "object"}},
}
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def called(arguments: str = '{"at": "ice"}', id_: str = "call_1") -> dict[str, Any]:
    function = {"name": "look", "arguments": arguments}
    return said(None, tool_calls=[{"id": id_, "type": "function", "function": function}])


def recorded(
    messages: Sequence[Mapping[str, Any]] = (user("Is ice cold?"),),
    reply: Mapping[str, Any] | None = said("Yes."),
    *,
    route: str = "llm",
    reason: Reason = Reason.LOW_CONFIDENCE,
    finish: str = "stop",
    body: Mapping[str, Any] = {},
    **changes: Any,
) -> Record:
    content = {"model": "auto", "messages": list(messages), **body}
    fields = {"endpoint": "chat", "content": content, "reply": reply, **changes}
    return record([call("llm", finish=finish)], answered(route, reason), **fields)


def calling(arguments: str, id_: str) -> dict[str, Any]:
    """A call as an example holds it, of an earlier turn."""
    return {"role": "assistant", "tool_calls": called(arguments, id_)["tool_calls"], "weight": 0}


def lines(*records: Record, **options: Any) -> list[dict[str, Any]]:
    found = build_export(records, **{"validation": 0.0, **options})
    return [json.loads(line) for line in to_jsonl(found.train).splitlines()]


def why(*records: Record, **options: Any) -> str:
    with pytest.raises(NothingToExport) as error:
        build_export(records, **options)
    return str(error.value)


# --- one example


def test_a_line_is_the_conversation_and_its_answer():
    spoken = [{"role": "developer", "content": "Be short."}, user("Hi"), said("Hello."), user("Is ice cold?")]
    (line,) = lines(recorded(spoken, said("Yes.", reasoning_content="Hm.", refusal=None)))
    assert line == {
        "messages": [
            {"role": "system", "content": "Be short."},
            user("Hi"),
            said("Hello.", weight=0),
            user("Is ice cold?"),
            said("Yes."),
        ]
    }


def test_a_line_holds_tools_and_their_calls():
    asked = [
        user("Look."),
        called(id_="call_0"),
        {"role": "tool", "tool_call_id": "call_0", "content": "Ice."},
    ]
    (line,) = lines(recorded(asked, called(), body={"tools": [TOOL], "parallel_tool_calls": False}))
    function = {"name": "look", "arguments": '{"at": "ice"}'}
    calls = [{"id": "call_0", "type": "function", "function": function}]
    assert line == {
        "messages": [
            user("Look."),
            {"role": "assistant", "tool_calls": calls, "weight": 0},
            {"role": "tool", "tool_call_id": "call_0", "content": "Ice."},
            {"role": "assistant", "tool_calls": [calls[0] | {"id": "call_1"}]},
        ],
        "tools": [TOOL],
        "parallel_tool_calls": False,
    }


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "Is ice"}, {"type": "text", "text": "cold?"}], "Is ice\ncold?"),
        (None, ""),
    ],
)
def test_a_text_in_parts_is_one_text(content: Any, text: str):
    (line,) = lines(recorded([user(content)]))
    assert line["messages"][0] == user(text)


def test_reasoning_that_was_written_into_the_answer_is_not_learned():
    (line,) = lines(recorded(reply=said("<think>Is it?\nIt is.</think>\n\nYes.")))
    assert line["messages"][-1] == said("Yes.")


@pytest.mark.parametrize(
    ("left_out", "reason"),
    [
        (recorded(endpoint="completions"), "of other endpoints than chat and responses"),
        (recorded(shadow_of="sf-0"), "shadows"),
        (recorded(status=502, error="x"), "not answered"),
        (recorded(cancelled=True), "not answered"),
        (recorded(route="slm", reason=Reason.CONFIDENT), "not escalated"),
        (recorded(route="slm+llm", reason=Reason.VERIFIED), "not escalated"),
        (recorded(content=None), "recorded without content"),
        (recorded(reply=None), "recorded without their answer"),
        (recorded(finish="length"), "cut off"),
        (recorded([user("Count."), said("One, ")]), "answers that the request had begun"),
        (recorded([]), "answers that the request had begun"),
        (recorded([user([{"type": "image_url", "image_url": {"url": "x"}}])]), "not text alone"),
        (recorded([{"role": "function", "name": "f", "content": "1"}]), "with messages of another kind"),
        (recorded(reply=said("")), "flawed answers (empty)"),
        (recorded(reply=said(None, refusal="No.")), "flawed answers (refusal)"),
        (recorded(reply=called(), body={"tools": []}), "flawed answers (tool_not_offered)"),
        (recorded(reply=called("{}"), body={"tools": [TOOL]}), "flawed answers (tool_arguments)"),
        (
            recorded(body={"response_format": {"type": "json_object"}}),
            "flawed answers (invalid_json)",
        ),
        (
            recorded(body={"tools": [{"type": "custom", "custom": {"name": "f"}}]}),
            "with tools of another kind",
        ),
        (recorded(reply=said(None, tool_calls=[{"id": "1"}])), "with tools of another kind"),
    ],
)
def test_what_teaches_nothing_is_left_out_and_counted(left_out: Record, reason: str):
    found = build_export([recorded(), left_out], validation=0.0)
    assert (len(found.train), dict(found.left_out)) == (1, {reason: 1})
    assert ("exchanges read", 2) in summarise(found)
    assert (f"left out: {reason}", 1) in summarise(found)


def test_all_takes_the_small_models_answers_too():
    own = recorded([user("Is fire hot?")], route="slm", reason=Reason.CONFIDENT)
    spliced = recorded([user("Is it late?")], route="slm+llm", reason=Reason.GAVE_UP)
    assert len(lines(recorded(), own, spliced)) == 2
    assert len(lines(recorded(), own, spliced, include_all=True)) == 3


# --- nothing to learn from


def test_an_empty_set_says_why():
    assert why() == "holds no records"
    bare = why(recorded(content=None), recorded(content=None))
    assert bare == (
        "nothing to learn from in 2 exchanges: 2 recorded without content;"
        " set records.content: true, and export what is recorded from then on"
    )
    own = why(recorded(route="slm"), recorded(finish="length"))
    assert own.endswith("1 not escalated, 1 cut off; --all takes these too")
    assert why(recorded(finish="length")) == "nothing to learn from in 1 exchanges: 1 cut off"
    assert why(recorded(), validation=1.0).startswith("all 1 examples fell to the validation set")


# --- duplicates


def example(text: str, answer: str = "Yes.", at: float = 0.0, before: Sequence[Any] = ()) -> Example:
    return Example(f"sf-{at}", at, [*before, user(text), said(answer)])


def test_of_one_prompt_asked_again_the_newest_answer_stays():
    twice = [example("Is  ice\ncold?", "Newer.", 2.0), example("is ice COLD?", "Older.", 1.0)]
    kept, same, alike = remove_duplicates([*twice, example("Is fire hot?", at=3.0)])
    assert ([one.answer["content"] for one in kept], same, alike) == (["Newer.", "Yes."], 1, 0)


def test_calls_of_other_ids_are_the_same_prompt():
    first, second = (
        Example(id_, float(at), [user("Look."), calling("{}", id_), user("And?"), said("Ice.")])
        for at, id_ in enumerate("ab")
    )
    kept, same, _ = remove_duplicates([first, second])
    assert (kept, same) == ([second], 1)


def test_of_near_duplicates_the_newest_stays():
    text = f"{LONG} seventeen eighteen nineteen twenty " * 3
    kept, same, alike = remove_duplicates(
        [example(text, at=1.0), example(f"Well, {text}", at=2.0), example(LONG, at=3.0)]
    )
    assert ([one.at for one in kept], same, alike) == ([2.0, 3.0], 0, 1)


def test_short_prompts_and_other_turns_of_a_conversation_are_no_near_duplicates():
    long = user(f"{LONG} " * 5)
    turns = [
        example(text, at=float(at), before=[long, said("Yes.", weight=0)]) for at, text in enumerate("ab")
    ]
    short = [example(f"What is {number} and {number}?", at=float(number)) for number in range(3)]
    assert len(remove_duplicates([*turns, *short])[0]) == 5


@settings(max_examples=50)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=18, max_size=26), max_size=6))
def test_no_two_that_stay_are_alike_and_each_that_went_is_alike_to_one(texts: list[list[str]]):
    given_ = [example(" ".join(words), at=float(at)) for at, words in enumerate(texts)]
    kept, _, _ = remove_duplicates(given_)
    unique = {one.messages[0]["content"]: one for one in given_}

    def alike(one: Example, other: Example) -> bool:
        a, b = _shingles(one), _shingles(other)
        return bool(a) and len(a & b) >= MIN_SIMILARITY * len(a | b) - 1e-9

    assert not any(alike(one, other) for one in kept for other in kept if one is not other)
    went = [one for one in unique.values() if one not in kept]
    assert all(any(alike(one, other) for other in kept) for one in went)


# --- the split


def test_turns_of_a_conversation_are_on_one_side_and_stay_there():
    turns = [
        example(f"Turn {turn}?", before=[user(f"Conversation {number}"), said("Yes.", weight=0)])
        for number in range(200)
        for turn in range(2)
    ]
    sides: dict[str, set[bool]] = {}
    for one in turns:
        sides.setdefault(conversation_key(one), set()).add(is_held_out(one, 0.25))
    assert all(len(side) == 1 for side in sides.values())
    assert 30 <= sum(True in side for side in sides.values()) <= 70
    assert all(is_held_out(one, 0.5) for one in turns if is_held_out(one, 0.25))


# --- redaction


def test_texts_and_arguments_are_redacted_and_alike_once_they_are():
    def hide(texts: list[str], _: Policy) -> list[str]:
        return [text.replace("ann", "<NAME_1>").replace("bob", "<NAME_1>") for text in texts]

    records = [
        recorded([user(f"Look at {name}")], called(f'{{"at": ["{name}", 1, {{"n": "é{name}"}}]}}'), at=at,
                 body={"tools": [TOOL]})
        for at, name in enumerate(("ann", "bob"))
    ]  # fmt: skip
    (line,) = lines(*records, redact=hide)
    assert line["messages"][0] == user("Look at <NAME_1>")
    (one,) = line["messages"][1]["tool_calls"]
    assert one["function"]["arguments"] == '{"at": ["<NAME_1>", 1, {"n": "é<NAME_1>"}]}'


def test_arguments_that_are_no_json_are_a_text():
    broken = Example("sf-1", 0.0, [user("Look."), calling("{at: ann", "1"), user("And?"), said("Ice.")])
    assert list_texts(broken) == ["Look.", "{at: ann", "And?", "Ice."]
    assert list_texts(replace_texts(broken, ["a", "b", "c", "d"])) == ["a", "b", "c", "d"]


# --- selection

GRADED = [example(f"Question {number}", at=float(number)) for number in range(6)]
LOSSES = [Loss(0.5, 2.0), Loss(1.5, 2.0), None, Loss(3.0, 2.0), Loss(1.0, 2.0), Loss(2.0, 2.0)]


@pytest.mark.parametrize(("wanted", "chosen"), [(2, [1, 4]), (10, [1, 4, 0]), (0.34, [1, 4]), (0.01, [1])])
def test_the_highest_losses_are_chosen_but_for_answers_that_their_prompts_make_no_likelier(
    wanted: float, chosen: list[int]
):
    found = select_examples(GRADED, LOSSES, wanted)
    assert [GRADED.index(one) for one, _ in found.examples] == chosen
    assert (found.unscored, found.outliers, found.easier) == (1, 2, 3 - len(chosen))
