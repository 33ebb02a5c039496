"""The structural reasons, one by one and in order; and that no text, call or request makes them raise."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routers.plan import Reason, ToolCall
from routers.structure.answer_form import ANY_FORM, AnswerForm
from routers.structure.flaws import find_flaw
from routers.structure.json_text import parse_json
from routers.structure.loops import is_looping, is_stuck
from routers.structure.refusals import is_refusal

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
SHELL = {"type": "custom", "custom": {"name": "shell"}}
SEARCH = {"type": "web_search"}
BOTH = [WEATHER, CLOCK]
PARIS = ToolCall("weather", '{"city": "Paris"}')
NOON = ToolCall("clock", "{}")


def schema_format(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


JSON_MODE = {"response_format": {"type": "json_object"}}
AS_CITY = {"response_format": schema_format(CITY)}


def of_text(text: str, body: dict[str, Any], finish: str | None = "stop") -> Reason | None:
    return find_flaw(text, (), finish, AnswerForm.from_body(body))


def of_calls(
    calls: Sequence[ToolCall], body: dict[str, Any], finish: str | None = "tool_calls"
) -> Reason | None:
    return find_flaw("", calls, finish, AnswerForm.from_body(body))


# --- what a request asks for


@pytest.mark.parametrize("body", [{}, {"model": "auto", "messages": [], "max_tokens": 5, "stream": True}])
def test_a_plain_request_asks_for_nothing_and_costs_nothing(body: dict[str, Any]) -> None:
    assert AnswerForm.from_body(body) is ANY_FORM
    assert not ANY_FORM.needs_complete_answer


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "text"}},
        {"response_format": None, "tools": None},
        {"response_format": "json_object", "tools": "weather", "functions": 5},
        {"response_format": {"type": ["json_object"]}, "structured_outputs": []},
        {"structured_outputs": {"choice": []}},
        {"structured_outputs": {"json_object": False, "json": None, "choice": "a", "regex": 5}},
        {"tools": [], "tool_choice": "required"},
        {"tools": BOTH, "tool_choice": "none"},
        {"tools": [SEARCH], "tool_choice": "none"},
    ],
    ids=str,
)
def test_what_asks_for_no_form_or_cannot_be_read_is_not_demanded(body: dict[str, Any]) -> None:
    assert AnswerForm.from_body(body) == ANY_FORM
    assert of_text("free text", body, "length") is None


@pytest.mark.parametrize(
    "body",
    [
        JSON_MODE,
        AS_CITY,
        {"response_format": {"type": "json_schema"}},
        {"structured_outputs": {"choice": ["yes", "no"]}},
        {"structured_outputs": {"regex": "a+"}},
        {"tools": [WEATHER]},
        {"tools": [SEARCH]},
        {"functions": [WEATHER["function"]]},
    ],
    ids=str,
)
def test_an_answer_of_a_form_is_checked_whole_and_so_must_be_complete(body: dict[str, Any]) -> None:
    assert AnswerForm.from_body(body).needs_complete_answer
    assert of_text("free te", body, "length") is Reason.TRUNCATED


# --- any draft


@pytest.mark.parametrize("text", ["", " ", "\n\t\u00a0\u3000"])
@pytest.mark.parametrize("body", [{}, JSON_MODE, {"tools": BOTH, "tool_choice": "required"}], ids=str)
def test_a_draft_without_text_or_calls_is_empty(text: str, body: dict[str, Any]) -> None:
    assert of_text(text, body) is Reason.EMPTY


def test_a_draft_of_calls_alone_is_not_empty() -> None:
    assert of_calls([PARIS], {"tools": BOTH}) is None


@pytest.mark.parametrize("finish", ["stop", "length", None])
def test_free_text_may_be_cut_off(finish: str | None) -> None:
    assert of_text("It was a dark and", {}, finish) is None


# --- refusals


REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I\u2019m sorry, but I can\u2019t assist with that request.",
    "Sorry, I can't help you with that.",
    "I am very sorry, I cannot help.",
    "I can't assist you in making weapons.",
    "I cannot fulfill your request. I'm just an AI.",
    "I can\u2019t fulfill that request.",
    "I won't comply with this.",
    "I'm unable to answer that question.",
    "I'm sorry, I can't do that.",
    "I apologize, but I cannot provide information or guidance on illegal activities.",
    "I can't provide instructions on how to do this.",
    "I can't create explicit content.",
    "Unfortunately, I am not able to process this request.",
    "As an AI language model, I cannot predict the future.",
    "**As an AI assistant, I'm unable to browse the internet.**",
    "I'm sorry for any confusion, but as a chatbot designed to assist with games, I don't have the capability to say.",
    "I'm sorry for your loss, but as a text-based AI, I don't have the ability to access personal data.",
    "\n\nI can't help with that. However, I can tell you about the law.",
]
ANSWERS = [
    "Sorry, the answer is 4",
    "I'm sorry for the confusion. The answer is 4.",
    "I'm sorry to hear that. Have you tried turning it off and on?",
    "I cannot recommend this restaurant enough",
    "I can't help but love this song.",
    "I can't help it: spring is my favourite season.",
    "I'm sorry, but I can't come to your party on Friday.",
    "Unfortunately, I cannot provide a refund for this order.",
    "I can't wait to help with the move!",
    "I will not answer the door.",
    "I can help with that.",
    "No, cows cannot fly.",
    "As an AI language model, I cannot give a definitive answer. However, many see it in love and work.",
    "As an AI, I don't have access to your calendar, but Tuesday is usually quiet.",
    "I cannot provide medical advice, but a cold lasts about a week.",
    "\"I'm sorry, but I can't help with that,\" said the robot.",
    "AI can't help with that.",
    "As a rule, I can't help with that before noon, said the clerk.",
    "The model replied: I'm sorry, but I can't help with that.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_told_by_how_they_begin(text: str) -> None:
    assert is_refusal(text)
    assert of_text(text, {}) is Reason.REFUSAL


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_that_apologises_or_cannot_do_something_is_no_refusal(text: str) -> None:
    assert not is_refusal(text)
    assert of_text(text, {}) is None


def test_a_refusal_may_have_a_field_of_its_own() -> None:
    assert find_flaw("", (), "stop", AnswerForm.from_body(AS_CITY), refusal="No.") is Reason.REFUSAL
    assert find_flaw("Yes.", (), "stop", ANY_FORM, refusal="") is None


def test_the_text_beside_calls_is_not_judged() -> None:
    assert (
        find_flaw(REFUSALS[0], [PARIS], "tool_calls", AnswerForm.from_body({"tools": BOTH, **AS_CITY}))
        is None
    )


# --- JSON


@pytest.mark.parametrize("text", ['{"a": 1}', ' \n{"a": 1, "a": 2}\n', "{}", '{"n": ' + "9" * 5000 + "}"])
def test_an_object_is_json(text: str) -> None:
    assert of_text(text, JSON_MODE) is None


@pytest.mark.parametrize(
    "text",
    [
        "Paris",
        '```json\n{"a": 1}\n```',
        'Here it is: {"a": 1}',
        '{"a": 1} and so on',
        '{"a": 1',
        "{'a': 1}",
        '{"a": 1,}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '\ufeff{"a": 1}',
        '{"a": ' + "[" * 100_000,
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=lambda text: text[:20],
)
@pytest.mark.parametrize("body", [JSON_MODE, AS_CITY], ids=["json_object", "json_schema"])
def test_what_is_not_json_alone_is_invalid(text: str, body: dict[str, Any]) -> None:
    assert of_text(text, body) is Reason.INVALID_JSON


def test_json_mode_means_an_object() -> None:
    assert of_text("[1, 2]", JSON_MODE) is Reason.SCHEMA_MISMATCH


@pytest.mark.parametrize(
    "body",
    [
        AS_CITY,
        {"response_format": {"type": "json_object", "schema": CITY}},
        {"structured_outputs": {"json": CITY}},
        {"structured_outputs": {"json": json.dumps(CITY)}},
    ],
    ids=str,
)
def test_an_answer_must_meet_its_schema(body: dict[str, Any]) -> None:
    assert of_text('{"city": "Paris", "days": 3}', body) is None
    assert of_text('{"days": 3}', body) is Reason.SCHEMA_MISMATCH
    assert of_text('{"city": "Paris", "days": "three"}', body) is Reason.SCHEMA_MISMATCH
    assert of_text("{", body) is Reason.INVALID_JSON


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "json_schema"}},
        {"response_format": schema_format("city")},
        {"response_format": schema_format({"type": "objekt"})},
        {"response_format": schema_format({"$ref": "https://127.0.0.1:1/schema.json"})},
        {"structured_outputs": {"json": "not JSON"}},
        {"structured_outputs": {"json": "[" * 100_000}},
        {"structured_outputs": {"json": "[]"}},
    ],
    ids=lambda body: str(body)[:60],
)
def test_a_schema_that_cannot_be_used_still_asks_for_json(body: dict[str, Any]) -> None:
    assert of_text("[1]", body) is None
    assert of_text("one", body) is Reason.INVALID_JSON


def test_vllms_json_mode_means_an_object_too() -> None:
    body = {"structured_outputs": {"json_object": True}}
    assert of_text("{}", body) is None
    assert of_text("[]", body) is Reason.SCHEMA_MISMATCH


def test_a_choice_is_taken_literally() -> None:
    body = {"structured_outputs": {"choice": ["yes", "no"]}}
    assert of_text("yes", body) is None
    assert of_text("Yes.", body) is Reason.SCHEMA_MISMATCH


def test_a_regular_expression_is_for_the_whole_text() -> None:
    body = {"structured_outputs": {"regex": r"\d+|none"}}
    assert of_text("42", body) is None
    assert of_text("none", body) is None
    assert of_text("42 or none", body) is Reason.SCHEMA_MISMATCH


# --- tools


@pytest.mark.parametrize(
    "arguments",
    ["", "Paris", '{"city": "Paris"', "[]", '"Paris"', "{}", '{"city": 5}', '{"city": NaN}', "[" * 100_000],
    ids=lambda arguments: arguments[:20],
)
def test_arguments_must_be_an_object_that_meets_the_tools_schema(arguments: str) -> None:
    assert of_calls([ToolCall("weather", arguments)], {"tools": BOTH}) is Reason.TOOL_ARGUMENTS


def test_a_tool_without_parameters_takes_any_object() -> None:
    for clock in (CLOCK, {"type": "function", "function": {"name": "clock", "parameters": "none"}}):
        assert of_calls([NOON], {"tools": [clock]}) is None
        assert of_calls([ToolCall("clock", '{"a": 1}')], {"tools": [clock]}) is None
        assert of_calls([ToolCall("clock", "noon")], {"tools": [clock]}) is Reason.TOOL_ARGUMENTS
        assert of_calls([ToolCall("clock", "[]")], {"tools": [clock]}) is Reason.TOOL_ARGUMENTS


def test_the_first_flawed_call_gives_the_reason() -> None:
    unknown, wrong = ToolCall("shell", "{}"), ToolCall("weather", "{}")
    assert of_calls([PARIS, NOON], {"tools": BOTH}) is None
    assert of_calls([PARIS, wrong, unknown], {"tools": BOTH}) is Reason.TOOL_ARGUMENTS
    assert of_calls([PARIS, unknown, wrong], {"tools": BOTH}) is Reason.TOOL_NOT_OFFERED


def test_a_call_that_was_cut_off_is_truncated() -> None:
    cut = ToolCall("weather", '{"city": "Par')
    assert of_calls([cut], {"tools": BOTH}, "length") is Reason.TRUNCATED


@pytest.mark.parametrize("body", [{}, JSON_MODE, {"tools": BOTH, "tool_choice": "none"}], ids=str)
def test_without_tools_every_call_is_one_too_many(body: dict[str, Any]) -> None:
    assert of_calls([PARIS], body) is Reason.TOOL_NOT_OFFERED


ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [CLOCK]}}
EITHER = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [CLOCK, CLOCK]}}
UNKNOWN = {"type": "function", "function": {"name": "unheard of"}}
WITH_UNKNOWN = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [CLOCK, UNKNOWN]}}
THE_CLOCK = {"type": "function", "function": {"name": "clock"}}
TEXT = "It is noon."


@pytest.mark.parametrize(
    ("choice", "text", "weather", "clock"),
    [
        (None, True, True, True),
        ("auto", True, True, True),
        ("required", False, True, True),
        (THE_CLOCK, False, False, True),
        (ALLOWED, False, False, True),
        (EITHER, True, False, True),
        (UNKNOWN, True, True, True),
        (WITH_UNKNOWN, True, True, True),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}, True, True, True),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [SEARCH]}},
            False,
            True,
            True,
        ),
        ({"type": "something new"}, True, True, True),
        (["required"], True, True, True),
    ],
    ids=str,
)
def test_the_tool_choice_says_which_calls_will_do(
    choice: Any, text: bool, weather: bool, clock: bool
) -> None:
    body = {"tools": BOTH, "tool_choice": choice}
    refused = Reason.TOOL_NOT_OFFERED
    assert of_text(TEXT, body) is (None if text else refused)
    assert of_calls([PARIS], body) is (None if weather else refused)
    assert of_calls([NOON], body) is (None if clock else refused)
    assert of_calls([ToolCall("shell", "{}")], body) is refused


def test_custom_tools_take_free_text() -> None:
    call = [ToolCall("shell", "ls -l")]
    assert of_calls(call, {"tools": [SHELL, CLOCK]}) is None
    forced = {"tools": [SHELL, CLOCK], "tool_choice": {"type": "custom", "custom": {"name": "shell"}}}
    assert of_calls(call, forced) is None
    assert of_calls([NOON], forced) is Reason.TOOL_NOT_OFFERED


def test_where_a_tool_cannot_be_read_any_other_name_may_be_its() -> None:
    body = {"tools": [SEARCH, WEATHER]}
    assert of_calls([ToolCall("web_search", "anything")], body) is None
    assert of_calls([ToolCall("weather", "{}")], body) is Reason.TOOL_ARGUMENTS
    forced = {**body, "tool_choice": WEATHER}
    assert of_calls([ToolCall("web_search", "anything")], forced) is Reason.TOOL_NOT_OFFERED


def test_functions_of_the_older_form_count_as_tools() -> None:
    body: dict[str, Any] = {"functions": [WEATHER["function"], CLOCK["function"]]}
    assert of_calls([PARIS], body) is None
    assert of_calls([ToolCall("weather", "{}")], body) is Reason.TOOL_ARGUMENTS
    assert of_text(TEXT, {**body, "function_call": {"name": "clock"}}) is Reason.TOOL_NOT_OFFERED
    assert of_calls([NOON], {**body, "function_call": "none"}) is Reason.TOOL_NOT_OFFERED


def test_beside_tools_the_text_must_have_the_form_where_no_tool_is_called() -> None:
    body = {"tools": BOTH, **AS_CITY}
    assert of_text('{"city": "Paris"}', body) is None
    assert of_text("Paris", body) is Reason.INVALID_JSON
    assert of_calls([PARIS], body) is None


# --- properties


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "items", "$ref", "name", "a"]), inner, max_size=3)
    ),
    max_leaves=4,
)
ODD_FUNCTION = st.fixed_dictionaries(
    {}, optional={"name": st.sampled_from(["f", "g"]) | JSON, "parameters": JSON}
)
ODD_TOOL = JSON | st.fixed_dictionaries({"type": st.just("function"), "function": ODD_FUNCTION})
ODD_TOOLS = JSON | st.lists(ODD_TOOL, max_size=3)
ODD_CHOICE = (
    JSON
    | ODD_TOOL
    | st.sampled_from(["none", "required"])
    | st.builds(lambda tools: {"type": "allowed_tools", "allowed_tools": {"tools": tools}}, ODD_TOOLS)
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "response_format": JSON | JSON.map(schema_format) | st.just(JSON_MODE["response_format"]),
        "structured_outputs": JSON
        | st.dictionaries(st.sampled_from(["json", "json_object", "choice", "regex"]), JSON),
        "tools": ODD_TOOLS,
        "functions": JSON | st.lists(ODD_FUNCTION, max_size=3),
        "tool_choice": ODD_CHOICE,
        "function_call": ODD_CHOICE,
        "messages": JSON,
    },
)
TEXTS = st.text() | JSON.map(json.dumps) | st.sampled_from([*REFUSALS, *ANSWERS])


@given(
    TEXTS,
    st.lists(st.builds(ToolCall, st.sampled_from(["f", "g"]) | st.text(), TEXTS), max_size=2),
    st.sampled_from(["stop", "length", "tool_calls", "content_filter", None]),
    BODIES,
    st.none() | st.text(),
)
def test_no_draft_and_no_request_makes_it_raise(
    text: str, calls: list[ToolCall], finish: str | None, body: dict[str, Any], refusal: str | None
) -> None:
    expected = AnswerForm.from_body(body)
    reason = find_flaw(text, calls, finish, expected, refusal)
    assert reason is None or reason in Reason
    if reason in (Reason.TRUNCATED, Reason.INVALID_JSON, Reason.SCHEMA_MISMATCH, Reason.TOOL_ARGUMENTS):
        assert expected.needs_complete_answer


LEAVES: list[tuple[dict[str, Any], st.SearchStrategy[Any]]] = [
    ({"type": "string"}, st.text(max_size=5)),
    ({"type": "string", "maxLength": 3}, st.text(max_size=3)),
    ({"type": "integer", "minimum": 0}, st.integers(min_value=0)),
    ({"type": "number"}, st.floats(allow_nan=False, allow_infinity=False)),
    ({"type": ["boolean", "null"]}, st.none() | st.booleans()),
    ({"enum": ["a", 1, None]}, st.sampled_from(["a", 1, None])),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, st.text(max_size=5) | st.integers()),
    ({"$ref": "#/$defs/short"}, st.text(max_size=3)),
]


@st.composite
def met_schemas(draw: st.DrawFn, depth: int = 2) -> tuple[dict[str, Any], Any]:
    """A schema, and a value that meets it."""
    kind = draw(st.sampled_from(["leaf", "list", "object"] if depth else ["leaf"]))
    if kind == "object":
        return draw(met_objects(depth - 1))
    if kind == "leaf":
        schema, values = draw(st.sampled_from(LEAVES))
        return schema, draw(values)
    schema, value = draw(met_schemas(depth - 1))
    return {"type": "array", "items": schema}, [value] * draw(st.integers(0, 3))


@st.composite
def met_objects(draw: st.DrawFn, depth: int = 2) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schema of an object with required keys, and an object that meets it."""
    fields = draw(st.dictionaries(st.text(max_size=3), met_schemas(depth), min_size=1, max_size=3))
    schema = {
        "type": "object",
        "properties": {key: field[0] for key, field in fields.items()},
        "required": list(fields),
        "additionalProperties": False,
        "$defs": {"short": {"type": "string", "maxLength": 3}},
    }
    return schema, {key: field[1] for key, field in fields.items()}


@given(met_objects(), st.data())
def test_what_meets_its_schema_passes_and_without_a_required_key_does_not(
    pair: tuple[dict[str, Any], dict[str, Any]], data: st.DataObject
) -> None:
    schema, value = pair
    form = {"response_format": schema_format(schema)}
    tools = {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]}
    assert of_text(json.dumps(value), form) is None
    assert of_calls([ToolCall("f", json.dumps(value))], tools) is None
    del value[data.draw(st.sampled_from(list(value)))]
    assert of_text(json.dumps(value), form) is Reason.SCHEMA_MISMATCH
    assert of_calls([ToolCall("f", json.dumps(value))], tools) is Reason.TOOL_ARGUMENTS


@given(JSON)
def test_json_is_read_as_it_was_written(value: Any) -> None:
    text = json.dumps(value)
    assume("NaN" not in text and "Infinity" not in text)
    assert parse_json(text) == value


# --- loops


def told(words: str) -> list[str]:
    """Words as tokens, their spaces with them."""
    return [f" {word}" for word in words.split()]


SENTENCE = told("I 'm sorry for any inconvenience you may have had .")


@pytest.mark.parametrize(
    "tokens",
    [
        told("Well :") + SENTENCE * 6,
        told("No ,") + told("I 'm not .") * 12,
        SENTENCE * 6 + SENTENCE[:5],
        [str(n) for n in range(64)] * 6,
        told("no ,") * 192,
        ["0", ",", " "] * 128,
        ["-"] * 384,
    ],
    ids=["sentence", "short", "cut", "longest", "two tokens", "zeros", "one token"],
)
def test_a_draft_that_goes_on_and_on_is_looping(tokens: list[str]) -> None:
    assert is_looping(tokens)
    assert not is_looping(tokens[:40])


ROW = [" [", "0", *[",", " ", "0"] * 7, "],", "\n"]
EMPTY_ROW = ["|", "  ", " |", "  ", " |", "  ", " |", "\n"]
CELLS = ["<tr>", *["<td>", "</td>"] * 3, "</tr>", "\n"]
VERSE = told("And the river runs , and the river runs , and the river runs to the sea .")


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        told("the cat sat on the mat ."),
        SENTENCE * 5,
        told("I 'm not .") * 11,
        [str(n) for n in range(64)] * 5,
        [str(n) for n in range(65)] * 20,
        ["0", ",", " "] * 100,
        ["-"] * 300,
        ["---", "|"] * 40,
        ROW * 10,
        EMPTY_ROW * 30,
        CELLS * 30,
        [token for n in range(80) for token in (str(n), ".", " ", "yes", "\n")],
        [token for n in range(20) for token in [*told(f"verse {n} goes by ,"), *VERSE]],
    ],
    ids=[
        "nothing",
        "prose",
        "five times",
        "too few tokens",
        "five long blocks",
        "too long a block",
        "zeros",
        "rule",
        "table rule",
        "matrix",
        "empty table",
        "empty cells",
        "numbered list",
        "refrain",
    ],
)
def test_what_repeats_for_a_reason_is_not_looping(tokens: list[str]) -> None:
    assert not any(is_looping(tokens[:end]) for end in range(len(tokens) + 1))


def block(period: int, different: int) -> list[str]:
    return [str(min(n, different - 1)) for n in range(period)]


@pytest.mark.parametrize(
    ("period", "different", "length"),
    [
        (4, 4, 48),
        (8, 8, 48),
        (11, 11, 66),
        (10, 9, 60),
        (10, 8, 384),
        (20, 17, 120),
        (20, 16, 384),
        (3, 3, 384),
    ],
)
def test_looping_begins_at_the_length_that_its_rule_says(period: int, different: int, length: int) -> None:
    tokens = block(period, different) * 200
    assert is_looping(tokens[:length])
    assert not is_looping(tokens[: length - 1])


def by_definition(tokens: list[str]) -> bool:
    tail = tokens[-384:]
    for period in range(1, min(64, len(tail)) + 1):
        cover = period
        while cover < len(tail) and tail[-1 - cover] == tail[-1 - cover + period]:
            cover += 1
        different = len(set(tail[-period:]))
        monotonous = different < 4 or period - different >= period / 5
        if cover >= max(6 * period, 384 if monotonous else 48):
            return True
    return False


SYMBOLS = st.sampled_from("abcdefgh")
NEARLY_LOOPS = st.builds(
    lambda start, block, times, rest: [*start, *(block * times)[: 400 + len(rest)], *rest],
    st.lists(SYMBOLS, max_size=20),
    st.lists(SYMBOLS, min_size=1, max_size=12)
    | st.lists(st.integers(0, 99).map(str), min_size=1, max_size=70),
    st.integers(4, 100),
    st.lists(SYMBOLS, max_size=2),
)


@given(NEARLY_LOOPS)
def test_looping_is_what_its_rule_says(tokens: list[str]) -> None:
    assert is_looping(tokens) is by_definition(tokens)


@given(NEARLY_LOOPS, st.randoms(use_true_random=False))
def test_only_the_equality_of_tokens_counts(tokens: list[str], random: Any) -> None:
    names = [f"#{n}" for n in range(len(set(tokens)))]
    random.shuffle(names)
    renamed = dict(zip(sorted(set(tokens)), names, strict=True))
    assert is_looping([renamed[token] for token in tokens]) is is_looping(tokens)


@given(NEARLY_LOOPS)
def test_a_new_token_ends_a_loop(tokens: list[str]) -> None:
    assert not is_looping([*tokens, "new"])


@pytest.mark.parametrize("block", [["ha"], SENTENCE, [str(n) for n in range(64)]])
def test_a_draft_is_stuck_when_nothing_else_is_left_in_sight(block: list[str]) -> None:
    tokens = ["Well", ",", *block * 384]
    assert is_stuck(tokens[: 2 + 384])
    assert not is_stuck(tokens[: 2 + 383])
    assert not is_stuck([*tokens, "new"])


@given(NEARLY_LOOPS)
def test_what_is_stuck_is_looping(tokens: list[str]) -> None:
    assert is_looping(tokens) or not is_stuck(tokens)


@pytest.mark.parametrize("start", [0, 1, 500])
def test_what_came_before_the_tail_does_not_matter(start: int) -> None:
    assert is_looping([str(n) for n in range(start)] + SENTENCE * 30)
