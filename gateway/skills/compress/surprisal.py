"""Surprisal of a text under a small model: the log-probability of each token, as far as its server can report
it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.upstreams.providers.server_kind import Post, Scorer, TokenizedText
from gateway.wire.body_types import Body

DEFAULT_CONTEXT = 2048
"""Context length in tokens that is assumed of a model whose own is unknown."""
OVERLAP_DIVISOR = 4
"""The next window of a long text begins with this fraction (one over it) of tokens that were read before."""


class TokenSurprisal(NamedTuple):
    """A token's start offset, end offset (exclusive) and natural log-probability.

    The log-probability of a text's first token is None if the model reads nothing before it. A character that
    several tokens share belongs to the first of them; the others are empty.
    """

    start: int
    end: int
    logprob: float | None


class TokenTextMismatch(ValueError):
    """Raised if the tokens of a text do not spell it, for example because the tokenizer normalises it
    first."""


class Window(NamedTuple):
    """A part of a text that is read in one call: token indices of its start, of the first scored token, and
    of its end."""

    start: int
    first_scored: int
    end: int


class SurprisalReader:
    """Scores texts with one model through its server's scorer. `context` is the model's context length, if
    known.

    Its methods raise what `post` raises, what parsing a malformed answer raises, and TokenTextMismatch.
    """

    def __init__(self, scorer: Scorer, model: str, context: int | None, post: Post) -> None:
        self._scorer = scorer
        self._model = model
        room = (context or DEFAULT_CONTEXT) - 1  # the server generates one token
        self._max_tokens = min(scorer.window or room, room)
        self._post = post
        self.tokens_read = 0
        """Tokens that the model has read so far."""

    async def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return len((await self._tokenize(text)).ids) if text else 0

    async def read_surprisals(self, text: str, context: str = "") -> list[TokenSurprisal]:
        """Return the surprisal of the text's tokens, read after `context`. Only the end of a long `context`
        is read."""
        if not text:
            return []
        special_ids, own = _split_special_tokens(await self._tokenize(text), text)
        before = special_ids
        if context:
            _, context_tokens = _split_special_tokens(await self._tokenize(context), context)
            before = [*special_ids, *self._trim_context(context_tokens.ids, len(own.ids) + len(special_ids))]
        logprobs = await self.read_logprobs(before, own.ids)
        return [
            TokenSurprisal(*span, logprob)
            for span, logprob in zip(char_spans(own.pieces, text), logprobs, strict=True)
        ]

    async def read_logprobs(self, before: Sequence[int], ids: Sequence[int]) -> list[float | None]:
        """Return the log-probabilities of `ids`, read after `before`, which must leave room for them in a
        window."""
        logprobs: list[float | None] = []
        for window in split_windows(len(ids), self._max_tokens - len(before)):
            logprobs += await self._read_window(before, ids, window)
        return logprobs

    async def _read_window(
        self, before: Sequence[int], ids: Sequence[int], window: Window
    ) -> list[float | None]:
        prefix = [*before, *ids[window.start : window.first_scored]]
        more = ids[window.first_scored : window.end]
        unknown: list[float | None] = [] if prefix else [None]
        after = max(1, len(prefix))
        read = [*prefix, *more]
        if len(read) <= after:
            return unknown
        self.tokens_read += len(read)
        return [*unknown, *await self._scorer.logprobs(self._post_with_model, read, after)]

    def _trim_context(self, ids: Sequence[int], count: int) -> Sequence[int]:
        """Return the last of the context's `ids`, so that a text of `count` tokens gets what it needs or half
        of a window."""
        room = max(self._max_tokens // 2, self._max_tokens - count)
        return ids if len(ids) <= room else ids[-room:]

    async def _tokenize(self, text: str) -> TokenizedText:
        return await self._scorer.tokenize_text(self._post_with_model, text)

    async def _post_with_model(self, page: str, body: Body) -> Body:
        return await self._post(page, {"model": self._model, **body})


def split_windows(count: int, max_tokens: int) -> Iterator[Window]:
    """Split a text of `count` tokens into windows of at most `max_tokens`. Each token is scored once, after
    all tokens before it or at least a quarter of `max_tokens` of them. The total read is linear in the text's
    length."""
    overlap = max_tokens // OVERLAP_DIVISOR
    end = 0
    while end < count:
        start = max(0, end - overlap)
        scored, end = end, min(count, start + max_tokens)
        yield Window(start, scored, end)


def _split_special_tokens(spelled: TokenizedText, text: str) -> tuple[Sequence[int], TokenizedText]:
    """Return the special tokens that the model reads before a text, and the text's own tokens. Raises
    TokenTextMismatch."""
    wanted = text.encode()
    for first, last in ((0, 0), (1, 0), (0, 1), (1, 1)):
        part = slice(first, len(spelled.ids) - last)
        if _is_spelling_of(spelled.pieces[part], wanted):
            return spelled.ids[:first], TokenizedText(spelled.ids[part], spelled.pieces[part])
    raise TokenTextMismatch(
        "the model's tokens do not spell the text, so which characters are whose is not known"
    )


def _is_spelling_of(pieces: Sequence[bytes], text: bytes) -> bool:
    """Whether the pieces spell the text. Some tokenizers put a space before it."""
    return b"".join(pieces) in (text, b" " + text)


def char_spans(pieces: Sequence[bytes], text: str) -> Iterator[tuple[int, int]]:
    """Yield the character span of each piece of a text's bytes. The spans cover the text without gaps."""
    starts = [at for at, letter in enumerate(text) for _ in letter.encode()]
    leading_bytes = sum(map(len, pieces)) - len(starts)
    at = -leading_bytes
    end = 0
    for piece in pieces:
        at += len(piece)
        start, end = end, (starts[at - 1] + 1 if at > 0 else 0)
        yield start, end
