"""A conversation is known by its beginning."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.state.conversations import Conversations

MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=5)}),
    min_size=1,
    max_size=5,
)


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


def test_the_next_turns_of_a_conversation_are_known_and_counted() -> None:
    known = Conversations()
    known.pin_to_llm("auto", said("a"), 2)
    assert known.turns_left("auto", said("a", "b", "c")) == 2
    known.pin_to_llm("auto", said("a", "b", "c"), 1)
    assert known.turns_left("auto", said("a", "b", "c", "d", "e")) == 1
    known.pin_to_llm("auto", said("a", "b", "c", "d", "e"), 0)
    assert known.turns_left("auto", said("a", "b", "c", "d", "e", "f", "g")) == 0


def test_another_conversation_another_policy_and_the_same_turn_again_are_not_it() -> None:
    known = Conversations()
    known.pin_to_llm("auto", said("a", "b"), 2)
    assert known.turns_left("auto", said("a", "x", "c")) == 0
    assert known.turns_left("careful", said("a", "b", "c")) == 0
    assert known.turns_left("auto", said("a", "b")) == 0


def test_a_reordered_key_is_the_same_message() -> None:
    known = Conversations()
    known.pin_to_llm("auto", [{"role": "user", "content": "a"}], 1)
    assert known.turns_left("auto", [{"content": "a", "role": "user"}, *said("b")]) == 1


def test_the_oldest_are_forgotten_first() -> None:
    known = Conversations(max_conversations=2)
    for text in "abc":
        known.pin_to_llm("auto", said(text), 1)
    assert [known.turns_left("auto", said(text, "next")) for text in "abc"] == [0, 1, 1]


@given(MESSAGES, MESSAGES)
def test_any_continuation_is_recognised(begun: list[Any], more: list[Any]) -> None:
    known = Conversations()
    known.pin_to_llm("auto", begun, 3)
    assert known.turns_left("auto", begun + more) == 3
