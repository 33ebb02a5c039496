"""Which word of a draft is the answer, and that stand-ins keep the shapes of texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.confidence.answer_words import SHAPES, AnswerWord, build_stand_in, token_shape

TEXTS = st.text(max_size=4) | st.sampled_from([" a", "b", " ", ".", ",", "\n", '"', "1"])


def found(texts: list[str]) -> tuple[str, str | None]:
    word = AnswerWord()
    for text in texts:
        word.add(text)
    return "".join(texts[word.begin : word.end]), None if word.stop is None else texts[word.stop]


@pytest.mark.parametrize(
    ("texts", "word", "stop"),
    [
        (["The", " capital", " is", " Tokyo", "."], " Tokyo", "."),
        (["The", " opposite", " is", ' "', "en", "erg", "ize", '".'], "energize", '".'),
        (["Yes", ".", " Ice", " is", " cold", "."], "Yes", "."),
        (["It", " is", " ", "4", "2", "\n", "Or", " not"], "42", "\n"),
        (["You", " mean", " red", ",", " right", "?"], " right", "?"),
        (["Berlin"], "Berlin", None),
        (["It", " is", " well", "-", "known", "!"], "known", "!"),
        (["\n", "\n", "Paris", "."], "Paris", "."),
        (["It", " is", ' "', "red", '"', "."], "red", "."),
        ([".", ","], ".", None),
    ],
)
def test_the_answer_is_the_last_word_of_the_first_sentence(
    texts: list[str], word: str, stop: str | None
) -> None:
    assert found(texts) == (word, stop)


@given(st.lists(TEXTS, min_size=1), st.lists(TEXTS))
def test_what_follows_the_first_sentence_does_not_move_the_answer(first: list[str], more: list[str]) -> None:
    word, stop = found(first)
    if stop is not None:
        assert found(first + more) == (word, stop)


@given(TEXTS, st.integers(0, 10**6))
def test_a_stand_in_has_the_shape_of_the_text(text: str, number: int) -> None:
    assert token_shape(text) in SHAPES
    assert token_shape(build_stand_in(token_shape(text), number)) == token_shape(text)


def test_the_stand_ins_of_one_shape_differ() -> None:
    assert len({build_stand_in(kind, number) for kind in SHAPES for number in range(9)}) == 36
