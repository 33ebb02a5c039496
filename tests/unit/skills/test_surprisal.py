"""How a small model finds a text: whose characters a token's are, and what is read before it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toy_vllm import VOCABULARY, cut

from gateway.local.llamacpp.hidden_states import HiddenStateScorer
from gateway.skills.compress.surprisal import (
    SurprisalReader,
    TokenSurprisal,
    TokenTextMismatch,
    char_spans,
    split_windows,
)
from gateway.upstreams.providers.server_kind import Post, Scorer, TokenizedText
from gateway.upstreams.providers.token_bytes import decode_entries

BEGIN = 1000


class Toy:
    """A model over bytes and some words; a token's log-probability is the number of those read before it, below zero.
    With `begins` it reads a token of its own before any text."""

    def __init__(self, *, begins: bool = False) -> None:
        self.read: list[list[int]] = []
        self._begins = begins

    def scorer(self, window: int | None = None) -> Scorer:
        return Scorer(self._spell, self._logprobs, window)

    async def _spell(self, post: Post, text: str) -> TokenizedText:
        ids = cut(text.encode())
        pieces = [VOCABULARY[id_] for id_ in ids]
        return TokenizedText([BEGIN, *ids], [b"<s>", *pieces]) if self._begins else TokenizedText(ids, pieces)

    async def _logprobs(self, post: Post, ids: Sequence[int], after: int) -> Sequence[float]:
        assert 0 < after < len(ids)
        self.read.append(list(ids))
        return [-float(place) for place in range(after, len(ids))]


async def nobody(page: str, body: dict[str, Any]) -> dict[str, Any]:
    raise AssertionError(page)


def told(toy: Toy, text: str, before: str = "", window: int | None = None) -> list[TokenSurprisal]:
    reader = SurprisalReader(toy.scorer(window), "toy", None, nobody)
    found = asyncio.run(reader.read_surprisals(text, before))
    assert reader.tokens_read == sum(len(read) for read in toy.read)
    return found


def test_each_token_is_told_after_all_before_it():
    text = "the sea é 🌊"
    found = told(Toy(), text)
    assert [text[one.start : one.end] for one in found] == ["the", " sea", " é", " ", "🌊", "", "", ""]
    assert [one.logprob for one in found] == [None, -1, -2, -3, -4, -5, -6, -7]


def test_a_text_is_read_after_what_is_given_and_what_the_model_itself_begins_with():
    toy = Toy(begins=True)
    assert told(toy, " sea", " wide") == [TokenSurprisal(0, 4, -2.0)]
    assert toy.read == [[BEGIN, *cut(b" wide sea")]]
    assert told(Toy(begins=True), " sea") == [TokenSurprisal(0, 4, -1.0)]
    assert told(Toy(), " sea") == [TokenSurprisal(0, 4, None)]
    assert told(Toy(), "") == []


def test_of_what_is_given_and_too_long_the_end_is_read():
    toy = Toy(begins=True)
    found = told(toy, " sea" * 4, " deep" * 50 + " wide", window=12)
    assert [one.logprob for one in found] == [-8, -9, -10, -11]
    assert toy.read == [[BEGIN, *cut(b" deep" * 6 + b" wide" + b" sea" * 4)]]
    toy = Toy()
    told(toy, " sea" * 40, " deep" * 50, window=12)
    assert all(read[:7] == cut(b" deep" * 6 + b" sea") for read in toy.read)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 700), st.integers(4, 60))
def test_windows_tell_each_token_once_and_read_linearly(count: int, most: int):
    found = list(split_windows(count, most))
    assert [place for one in found for place in range(one.first_scored, one.end)] == list(range(count))
    assert all(one.end - one.start <= most for one in found)
    assert all(one.first_scored - one.start >= min(one.first_scored, most // 4) for one in found)
    assert sum(one.end - one.start for one in found) <= count * 4 / 3 + most


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30), st.lists(st.integers(1, 5), max_size=200))
def test_tokens_that_part_characters_cover_the_text_without_a_gap(text: str, lengths: list[int]):
    left, pieces = text.encode(), []
    for length in lengths:
        pieces.append(left[:length])
        left = left[length:]
    pieces.append(left)
    found = list(char_spans(pieces, text))
    assert "".join(text[start:end] for start, end in found) == text
    for piece, (start, end) in zip(pieces, found, strict=True):
        assert piece.decode(errors="ignore") in text[start:end] or "\ufffd" in piece.decode(errors="replace")


@pytest.mark.parametrize(
    ("entries", "text", "pieces"),
    [
        (["Ġcaf", "Ã©", "Ċ", "æĹ", "¥"], " café\n日", [b" caf", "é".encode(), b"\n", b"\xe6\x97", b"\xa5"]),
        (["<|end|>", "Ġa"], "<|end|> a", [b"<|end|>", b" a"]),
        (["▁Hello", "▁café", "<0xE6>", "<0x97>", "<0xA5>"], "Hello café日", None),
    ],
)
def test_a_vocabularys_entries_are_read_as_its_family_writes_them(entries: list[str], text: str, pieces: Any):
    found = decode_entries(entries, text)
    assert found == pieces or b"".join(found) == f" {text}".encode()
    assert "".join(text[start:end] for start, end in char_spans(found, text)) == text


def test_tokens_that_do_not_spell_the_text_are_not_guessed_at():
    async def spell(post: Post, text: str) -> TokenizedText:
        return TokenizedText([1, 2], [b"ab", b"c"])

    toy = Toy()
    reader = SurprisalReader(toy.scorer()._replace(tokenize_text=spell), "toy", None, nobody)
    with pytest.raises(TokenTextMismatch):
        asyncio.run(reader.read_surprisals("ABC"))


class TinyServer:
    """Gives states of four numbers, and says of each token that it is made to write what it is told to."""

    def __init__(self, folder: Path, *, honest: bool) -> None:
        random = np.random.default_rng(1)
        self.matrix = random.normal(size=(16, 32)).astype(np.float32)
        self.states = random.normal(size=(40, 32)).astype(np.float32)
        self.honest = honest
        self.pages: list[str] = []
        self.weights = folder / "tiny.gguf"
        writer = gguf.GGUFWriter(self.weights, "llama")
        writer.add_custom_alignment(64)
        writer.add_array("tokenizer.ggml.tokens", ["a", "bc"])
        writer.add_array("tokenizer.ggml.scores", [0.5, 1.5])
        writer.add_tensor("output_norm.weight", np.ones(3, np.float32))
        writer.add_tensor("token_embd.weight", self.matrix)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    async def post(self, page: str, body: dict[str, Any]) -> Any:
        self.pages.append(page)
        if page == "embedding":
            return [{"index": 0, "embedding": self.states[: len(body["content"])].tolist()}]
        ((id_, _),) = body["logit_bias"]
        logprob = self.logprob(len(body["prompt"]), id_) if self.honest else -7.0
        return {"completion_probabilities": [{"id": id_, "logprob": logprob}]}

    def logprob(self, place: int, id_: int) -> float:
        logits = self.matrix @ self.states[place - 1]
        return float(logits[id_] - np.log(np.exp(logits).sum()))


@pytest.mark.parametrize("honest", [True, False])
async def test_states_are_read_where_they_tell_what_the_server_tells(tmp_path: Path, honest: bool):
    """Else, as of a model whose logits are more than a product, the server is made to write each token."""
    server = TinyServer(tmp_path, honest=honest)
    ids = [place % 16 for place in range(40)]
    found = await HiddenStateScorer(server.weights).logprobs(server.post, ids, 30)
    expected = [server.logprob(place, ids[place]) if honest else -7.0 for place in range(30, 40)]
    assert found == pytest.approx(expected, abs=1e-4)
    assert server.pages == ["embedding", "completion", *(["embedding"] if honest else ["completion"] * 10)]
