"""What leaves of an answer that may reproduce the system prompt, however its text is cut."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.skills.guard.prompt_leak import PromptLeakFilter, PromptLeakGuard, split_words
from gateway.skills.transforms import UnusableAnswer

WORDS = st.sampled_from(["a", "ab", "b", "C", "道"])
SECRETS = st.lists(st.lists(WORDS, min_size=6, max_size=14).map(" ".join), min_size=1, max_size=2)
NOISE = st.lists(st.sampled_from(["a", "ab", "B", "c", "x", " ", ", ", "-", "_", "\n", "道"]), max_size=30)


def filtering(leak: PromptLeakGuard) -> PromptLeakFilter:
    found = leak.build_answer_filter(None, json=False)  # type: ignore[arg-type]
    assert isinstance(found, PromptLeakFilter)
    return found


def let_out(leak: PromptLeakGuard, pieces: Sequence[str]) -> tuple[str, bool]:
    """What leaves of a text in pieces, and whether it ends in a leak."""
    withheld, out = filtering(leak), ""
    try:
        for piece in pieces:
            out += withheld.feed(piece)
        out += withheld.flush()
    except UnusableAnswer:
        return out, True
    assert not withheld.has_pending_text
    return out, False


def copied(text: str, secret: str, run: int) -> bool:
    """Whether so many words of the secret, or all that it has, stand in the text one after the other."""
    told, said = split_words(text), split_words(secret)
    run = min(run, len(said))
    runs = {tuple(said[at : at + run]) for at in range(len(said) - run + 1)}
    return any(tuple(told[at : at + run]) in runs for at in range(len(told) - run + 1))


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[str], str]:
    """System messages, and an answer that has a part of one, more or less."""
    secrets = draw(SECRETS)
    told = secrets[0].split()
    begin = draw(st.integers(0, len(told)))
    part = told[begin : draw(st.integers(begin, len(told)))]
    noise = st.builds("".join, NOISE)
    return secrets, draw(noise) + draw(st.sampled_from([" ", ", ", "\n* "])).join(part) + draw(noise)


@settings(max_examples=50, deadline=None)
@given(found=answers(), run=st.integers(6, 9), data=st.data())
def test_what_leaves_has_no_run_and_does_not_depend_on_the_cuts(
    found: tuple[list[str], str], run: int, data: st.DataObject
) -> None:
    secrets, text = found
    leak = PromptLeakGuard(secrets, run)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    out, leaks = let_out(leak, [text])
    assert let_out(leak, pieces) == let_out(leak, list(text)) == (out, leaks)
    assert leaks == any(copied(text, secret, run) for secret in secrets)
    assert not any(copied(out, secret, run) for secret in secrets)
    assert text.startswith(out)
    assert leaks or out == text


SECRET = "You are Nora and you never say that the vault of the Harbour Bank opens at nine."


@pytest.mark.parametrize(
    ("pieces", "out"),
    [
        (["You"], ["", "You"]),
        (["You", " will"], ["", "You will", ""]),
        (["You", " are", " Nora", " Jones"], ["", "", "", "You are Nora Jones", ""]),
        (["It is n", "oon.", " Hi"], ["It is ", "noon.", " Hi", ""]),
        (["opens at nine, you are"], ["opens at nine, ", "you are"]),
        (["as you", " are Nora and I"], ["as ", "you are Nora and I", ""]),
    ],
    ids=[
        "at the end",
        "another word",
        "a longer beginning",
        "a part of a word",
        "no room for a run",
        "in the middle",
    ],
)
def test_words_are_held_while_they_may_become_a_run_and_no_longer(pieces: list[str], out: list[str]) -> None:
    withheld = filtering(PromptLeakGuard([SECRET], 6))
    assert [*(withheld.feed(piece) for piece in pieces), withheld.flush()] == out


@pytest.mark.parametrize(
    ("secret", "run", "text", "leaks"),
    [
        (SECRET, 12, "you ARE **nora**, and\n\nyou never say: that the vault of the", True),
        (SECRET, 12, "you are nora, and you never say that the vaults of the Harbour Bank", False),
        ("Always answer in the French language", 12, "I always answer in the french language!", True),
        ("Always answer in French", 12, "Always answer in French", False),
        ("请始终用中文回答问题", 8, "好的：请始终用中文回答问题。", True),
    ],
    ids=["other case and marks", "another word within", "all of a short one", "too short", "without spaces"],
)
def test_what_is_a_leak(secret: str, run: int, text: str, leaks: bool) -> None:
    leak = PromptLeakGuard([secret], run)
    found = leak.build_answer_filter(None, json=False)  # type: ignore[arg-type]
    assert (found is not None and let_out(leak, [text])[1]) == leaks
