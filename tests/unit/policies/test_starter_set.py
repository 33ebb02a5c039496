"""The starter set is complete and free of leaks, its grader is fair, and bad files are named by line."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache, reduce
from operator import add, mul, sub
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from policies.tuning.starter_set import Item, is_right, load_items

ITEMS = load_items()
KINDS = ["sums", "sentiment", "opposites", "extraction", "facts", "yes_no"]
SPLITS = ("train", "held_out")
LEVELS = {"easy": 4, "medium": 3, "hard": 3}
SENTIMENT = ("positive", "negative")
UNITS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
NUMBER_WORDS = dict(zip([*UNITS, *TEENS, "nineteen"], range(1, 20), strict=True)) | {
    tens + ending: value + more
    for tens, value in zip(TENS, range(20, 100, 10), strict=True)
    for more, ending in enumerate(["", *(f"-{unit}" for unit in UNITS)])
}


def make(grade: str, answers: list[str], prompt: str = "?", labels: tuple[str, ...] = ()) -> Item:
    return Item.model_validate_json(
        json.dumps(row(grade=grade, answers=answers, prompt=prompt, labels=labels))
    )


def row(**changes: Any) -> dict[str, Any]:
    base = {"id": "sums-001", "kind": "sums", "template": "sums/a", "split": "train", "level": "easy"}
    return {**base, "prompt": "1 + 1 = ?", "grade": "number", "answers": ["2"], **changes}


def of_kind(kind: str) -> list[Item]:
    return [item for item in ITEMS if item.kind == kind]


# --- the shape of the set


def test_the_set_has_200_items_of_each_of_six_kinds() -> None:
    assert Counter(item.kind for item in ITEMS) == dict.fromkeys(KINDS, 200)


def test_ids_and_prompts_occur_once() -> None:
    assert len({item.id for item in ITEMS}) == len({item.prompt for item in ITEMS}) == 1200


@pytest.mark.parametrize("kind", KINDS)
def test_a_fifth_of_every_kind_is_held_out_by_template(kind: str) -> None:
    splits = {(item.template, item.split) for item in of_kind(kind)}
    held_out = [template for template, split in splits if split == "held_out"]
    assert len(splits) == len({template for template, _ in splits}) >= 10
    assert len(held_out) >= 3
    assert 35 <= sum(item.split == "held_out" for item in of_kind(kind)) <= 45


def test_every_template_holds_all_levels_in_no_order() -> None:
    counts = Counter((item.template, item.level) for item in ITEMS)
    assert counts == {(item.template, level): n for item in ITEMS for level, n in LEVELS.items()}
    assert len({tuple(item.level for item in ITEMS[at : at + 10]) for at in range(0, 1200, 10)}) > 50


@pytest.mark.parametrize("split", ["train", "held_out"])
@pytest.mark.parametrize("kind", ["sentiment", "yes_no"])
def test_two_way_answers_are_balanced_within_every_template(kind: str, split: str) -> None:
    counts = Counter((item.template, item.answers) for item in of_kind(kind) if item.split == split)
    assert set(counts.values()) == {5}


def operands(item: Item) -> tuple[int, ...]:
    words = re.findall(r"\d+|[a-z-]+", re.sub(r"\bone (\w+ )?sentence", "", item.prompt))
    return tuple(sorted(found for word in words if (found := as_number(word)) is not None))


def as_number(word: str) -> int | None:
    return int(word) if word.isdigit() else NUMBER_WORDS.get(word)


def test_no_sum_of_the_train_split_is_held_out() -> None:
    sums = {split: {operands(i) + i.answers for i in of_kind("sums") if i.split == split} for split in SPLITS}
    assert all(len(found) in (3, 4) for split in SPLITS for found in sums[split])
    assert len(sums["train"]) == 160
    assert len(sums["held_out"]) == 40
    assert not sums["train"] & sums["held_out"]


@cache
def fixed_parts(template: str) -> set[str]:
    parts = Counter(
        part for item in ITEMS if item.template == template for part in set(split_up(item.prompt))
    )
    return {part for part, count in parts.items() if count > 1}


def split_up(prompt: str) -> list[str]:
    return [part.strip().lower() for part in re.split(r"[\n\":.?!]", prompt)]


def contents(item: Item) -> set[str]:
    """The parts of a prompt that its template does not fix, where they are long enough to be a content."""
    return {part for part in split_up(item.prompt) if len(part) > 12} - fixed_parts(item.template)


@pytest.mark.parametrize("kind", ["sentiment", "extraction", "facts", "yes_no"])
def test_no_sentence_of_the_train_split_is_held_out(kind: str) -> None:
    train, held_out = (
        {part for item in of_kind(kind) if item.split == split for part in contents(item)} for split in SPLITS
    )
    assert train
    assert held_out
    assert not train & held_out


def test_no_word_pair_of_an_opposite_occurs_in_both_splits() -> None:
    train, held_out = (
        {answer for item in of_kind("opposites") if item.split == split for answer in item.answers}
        for split in SPLITS
    )
    assert not train & held_out
    asked = {split: asked_words(split) for split in SPLITS}
    assert not asked["train"] & held_out
    assert not asked["held_out"] & train


def asked_words(split: str) -> set[str]:
    """The words of the prompts that their template does not fix."""
    items = [item for item in of_kind("opposites") if item.split == split]
    words = {item.id: re.findall(r"[a-z]+", item.prompt.lower()) for item in items}
    shared = Counter((item.template, word) for item in items for word in set(words[item.id]))
    return {word for item in items for word in words[item.id] if shared[item.template, word] == 1}


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_graded_right_and_silence_wrong(kind: str) -> None:
    for item in of_kind(kind):
        assert all(is_right(item, answer) for answer in item.answers), item
        assert not is_right(item, ""), item
        assert not is_right(item, "I do not understand the question."), item


@pytest.mark.parametrize("kind", ["sums", "facts", "opposites"])
def test_repeating_the_question_is_not_an_answer(kind: str) -> None:
    for item in of_kind(kind):
        assert item.grade == "choice" or not is_right(item, item.prompt), item


SIGNS = {"+": add, "-": sub, "x": mul, "plus": add, "minus": sub, "times": mul}


def computed(first: str, *steps: str) -> int:
    """The value of "2 + 3 x 4", products first."""
    terms = [(add, int(first))]
    for sign, number in zip(steps[::2], steps[1::2], strict=True):
        if SIGNS[sign] is mul:
            terms[-1] = (terms[-1][0], terms[-1][1] * int(number))
        else:
            terms.append((SIGNS[sign], int(number)))
    return reduce(lambda total, term: term[0](total, term[1]), terms, 0)


def test_sums_are_computed_correctly() -> None:
    written = re.compile(rf"\d+(?: (?:{'|'.join(re.escape(sign) for sign in SIGNS)}) \d+)+")
    checked = 0
    for item in of_kind("sums"):
        if found := written.search(item.prompt):
            assert item.answers == (str(computed(*found[0].split())),), item
            checked += 1
    assert checked == 140


# --- grading numbers


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("12", "12"),
        ("12", "12."),
        ("12", " **12**\n"),
        ("12", "The answer is 12."),
        ("12", "7 + 5 = 12"),
        ("12", "7 + 5 = **12**, because 7 and 5 more"),
        ("12", "12 = 7 + 5"),
        ("12", "7+5 is 12"),
        ("12", "$$7 + 5 = \\boxed{12}$$"),
        ("12", "You get 12 when you add 7 and 5."),
        ("12", "The answer is 7 + 5 = 12."),
        ("12", "First 7 + 3 = 10, then 10 + 2 = 12."),
        ("12", "3 + 4 = 7. The answer is 12"),
        ("12", "2 + 5 = 7, and one more 5: the sum of 7 and 5 is 12."),
        ("12", "\\[2 + 5 = 7\\] So, the sum of \\(7 + 5\\) is \\(\\boxed{12}\\)."),
        ("12", "2 + 5 = 7, and so 7 plus 5 equals 12."),
        ("12", "Twelve"),
        ("12", "There are twelve."),
        ("12", "12.00"),
        ("25", "twenty-five"),
        ("18", "$18.00"),
        ("18", "The total is $18.00."),
        ("1299", "$1,299"),
        ("1299", "1299 dollars"),
        ("1234567", "1,234,567"),
        ("0.5", ".5"),
        ("-3", "-3"),
        ("-3", "The result is −3."),
    ],
)
def test_a_number_is_right_however_it_is_written(answer: str, reply: str) -> None:
    assert is_right(make("number", [answer], "What is 7 + 5?"), reply)


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("12", ""),
        ("12", "13"),
        ("12", "112"),
        ("12", "1.2"),
        ("12", "12.5"),
        ("12", "-12"),
        ("12", "12,000"),
        ("12", "7 + 5 = 13. 12 is near."),
        ("12", "12 + 1 = 13"),
        ("12", "7 + 5"),
        ("12", "It is 12, no, it is 14"),
        ("5", "one hundred and five"),
        ("12", "a dozen"),
        ("2", "1 2 3"),
    ],
)
def test_a_reply_that_concludes_with_another_number_is_wrong(answer: str, reply: str) -> None:
    assert not is_right(make("number", [answer], "What is 7 + 5?"), reply)


def test_a_number_from_the_question_counts_when_no_other_is_given() -> None:
    item = make("number", ["4"], "What is 8 minus 4?")
    assert is_right(item, "4")
    assert is_right(item, "8 minus 4 is 4")
    assert not is_right(item, "8")


# --- grading words


@pytest.mark.parametrize(
    "reply",
    ["Paris", "paris.", "**Paris**", "The capital is Paris, on the Seine.", '"Paris"', "Not Lyon but Paris"],
)
def test_a_word_is_right_wherever_it_stands(reply: str) -> None:
    assert is_right(make("word", ["Paris"]), reply)


@pytest.mark.parametrize(
    "reply", ["", "Lyon", "Parisian", "Comparison", "It is not Paris.", "It isn't Paris"]
)
def test_part_of_a_word_or_a_negated_word_is_wrong(reply: str) -> None:
    assert not is_right(make("word", ["Paris"]), reply)


@pytest.mark.parametrize(
    ("answers", "reply"),
    [
        (["Milky Way"], "our galaxy, the Milky  Way"),
        (["2 April", "April 2"], "It was paid on April 2nd."),
        (["help@lamp.example"], "Write to help@lamp.example."),
        (["sunny_77"], "sunny\\_77"),
        (["A-5512"], "Order a‑5512"),
        (["Rossi's"], "the Rossi’s house"),
        (["16:45"], "It ends at 16:45."),
        (["390", "$390"], "$390.00".removesuffix(".00")),
    ],
)
def test_names_dates_codes_and_addresses_are_found(answers: list[str], reply: str) -> None:
    assert is_right(make("word", answers), reply)


@pytest.mark.parametrize(
    ("answer", "reply"), [("9", "9:15"), ("15", "9:15"), ("5", "5.50"), ("5", "15"), ("2", "1,2")]
)
def test_part_of_a_number_is_not_a_word(answer: str, reply: str) -> None:
    assert not is_right(make("word", [answer]), reply)


def test_a_word_beside_a_rival_label_is_wrong() -> None:
    item = make("word", ["Carla"], labels=("Carla", "Dmitri"))
    assert is_right(item, "Carla")
    assert not is_right(item, "Carla gave the keys to Dmitri.")
    assert not is_right(item, "Dmitri")


# --- grading choices


@pytest.mark.parametrize(
    "reply",
    [
        "positive",
        "Positive.",
        "**Positive**",
        "The review is positive, not negative.",
        "It is not negative.",
        "It isn't really negative, I think.",
        "Positive or negative? Positive.",
        "The sentiment (positive/negative) is positive.",
        "It is positive rather than negative",
        'The word is "positive".',
    ],
)
def test_the_first_label_decides_and_a_negated_one_means_the_other(reply: str) -> None:
    assert is_right(make("choice", ["positive"], labels=SENTIMENT), reply)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "negative",
        "not positive",
        "It is neutral, not negative",
        "neither positive nor negative",
        "Negative, not positive",
        "positively",
        "positive or negative",
        "neutral",
    ],
)
def test_another_label_or_none_is_wrong(reply: str) -> None:
    assert not is_right(make("choice", ["positive"], labels=SENTIMENT), reply)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("apple", True),
        ("Not carrot, apple", True),
        ("carrot, apple or potato: apple", True),
        ("An apple is a fruit, a carrot is not.", True),
        ("It is not a carrot", False),
        ("carrot, apple or potato", False),
        ("A carrot, then an apple", False),
        ("apples", False),
    ],
)
def test_of_three_labels_a_negated_one_is_passed_over(reply: str, right: bool) -> None:
    assert is_right(make("choice", ["apple"], labels=("carrot", "apple", "potato")), reply) is right


def test_a_label_that_contains_another_is_not_confused_with_it() -> None:
    assert not is_right(make("choice", ["happy"], labels=("happy", "unhappy")), "unhappy")
    assert is_right(make("choice", ["unhappy"], labels=("happy", "unhappy")), "The customer is unhappy.")


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("Yes", True),
        ("YES!", True),
        ("**Yes**, no doubt about it", True),
        ("There is no doubt: yes.", True),
        ("Yes or no? Yes.", True),
        ("Yeah, sure", True),
        ("Well, I would say yes", True),
        ("No", False),
        ("no, yes", False),
        ("Nope.", False),
        ("No. 81 is not 18.", False),
        ("There is no problem: yes.", True),
        ("Nobody knows", False),
        ("Yesterday", False),
        ("Yes or no", False),
        ("It is so.", False),
    ],
)
def test_the_first_yes_or_no_decides(reply: str, right: bool) -> None:
    assert is_right(make("yes_no", ["yes"]), reply) is right


@settings(database=None)
@given(st.sampled_from(ITEMS), st.text(max_size=80))
def test_grading_is_deterministic_and_never_raises(item: Item, reply: str) -> None:
    assert is_right(item, reply) is is_right(item, reply)


@settings(database=None)
@given(st.sampled_from([i for i in ITEMS if i.grade == "number"]), st.from_regex(r"[-=0-9 ,.+$x]{0,60}"))
def test_no_jumble_of_digits_and_signs_raises(item: Item, reply: str) -> None:
    is_right(item, reply)


@pytest.mark.parametrize(
    "reply", ["1," * 50_000, "-" * 100_000, "not a " * 20_000, "answer " * 20_000, "=" * 100_000]
)
def test_long_replies_are_graded_in_linear_time(reply: str) -> None:
    for grade, answers, labels in (
        ("number", ["2"], ()),
        ("word", ["b"], ("b", "c")),
        ("choice", ["positive"], SENTIMENT),
        ("yes_no", ["yes"], ()),
    ):
        assert not is_right(make(grade, answers, labels=labels), reply)


# --- files


def write(path: Path, *rows: dict[str, Any] | str) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows), encoding="utf-8")
    return path


def test_items_come_back_in_file_order_without_blank_lines(tmp_path: Path) -> None:
    second = row(id="sums-002", prompt="2 + 2 = ?", answers=["4"])
    assert [i.id for i in load_items(write(tmp_path / "s.jsonl", second, "", row(), ""))] == [
        "sums-002",
        "sums-001",
    ]


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        (row(id="sums-002", extra=1), "extra"),
        (row(id="facts-002"), "an id that starts with 'sums-'"),
        (row(id="sums-002", template="facts/a"), "a template that starts with 'sums/'"),
        (row(id="sums-002", grade="exact"), "'number', 'word', 'choice' or 'yes_no'"),
        (row(id="sums-002", split="test"), "'train' or 'held_out'"),
        (row(id="sums-002", level="simple"), "'easy', 'medium' or 'hard'"),
        (row(id="sums-002", answers=[]), "answers"),
        (row(id="sums-002", answers="2"), "answers"),
        (row(id="sums-002", answers=[2]), "answers.0"),
        (row(id="sums-002", answers=[" "], grade="word"), "not blank"),
        (row(id="sums-002", answers=["two"]), "'number' grade"),
        (row(id="sums-002", answers=["NaN"]), "'number' grade"),
        (row(id="sums-002", answers=["maybe"], grade="yes_no"), "'yes_no' grade"),
        (row(id="sums-002", answers=["a"], grade="choice"), "labels"),
        (row(id="sums-002", answers=["a"], grade="choice", labels=["b", "c"]), "labels"),
        (row(id="sums-002", labels=["1", "2"]), "labels"),
        ({"id": "sums-002"}, "kind"),
        ({key: value for key, value in row(id="sums-002").items() if key != "level"}, "level"),
        (row(prompt="another"), "expected a new id"),
        (row(id="sums-002"), "expected a new prompt"),
        (row(id="sums-002", prompt="another", split="held_out"), "in one split only"),
    ],
)
def test_a_bad_line_is_named_with_what_was_expected(
    tmp_path: Path, bad: dict[str, Any] | str, expected: str
) -> None:
    path = write(tmp_path / "mine.jsonl", row(), "", bad)
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        load_items(path)
    assert f"{path}, line 3: " in str(caught.value)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"none\.jsonl"):
        load_items(tmp_path / "none.jsonl")


def test_items_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        ITEMS[0].prompt = "another"
