"""Surprisal of a text under a small model: the log-probability of each token, as far as its server can report
it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.upstreams.providers.kind import Post, Scorer, Spelled
from gateway.wire.shapes import Body

CONTEXT = 2048
"""Context length in tokens that is assumed of a model whose own is unknown."""
OVERLAP = 4
"""The next window of a long text begins with this fraction (one over it) of tokens that were read before."""


class Surprise(NamedTuple):
    """A token's start offset, end offset (exclusive) and natural log-probability.

    The log-probability of a text's first token is None if the model reads nothing before it. A character that
    several tokens share belongs to the first of them; the others are empty.
    """

    start: int
    end: int
    logprob: float | None


class Unspelled(ValueError):
    """Raised if the tokens of a text do not spell it, for example because the tokenizer normalises it
    first."""


class Window(NamedTuple):
    """A part of a text that is read in one call: token indices of its start, of the first scored token, and
    of its end."""

    start: int
    scored: int
    end: int


class Surprises:
    """Scores texts with one model through its server's scorer. `context` is the model's context length, if
    known.

    Its methods raise what `post` raises, what parsing a malformed answer raises, and TokenTextMismatch.
    """

    def __init__(self, scorer: Scorer, model: str, context: int | None, post: Post) -> None:
        self._scorer = scorer
        self._model = model
        room = (context or CONTEXT) - 1  # the server generates one token
        self._most = min(scorer.window or room, room)
        self._post = post
        self.read = 0
        """Tokens that the model has read so far."""

    async def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return len((await self._spelled(text)).ids) if text else 0

    async def surprises(self, text: str, given: str = "") -> list[Surprise]:
        """Return the surprisal of the text's tokens, read after `context`. Only the end of a long `context`
        is read."""
        if not text:
            return []
        begins, own = _parted(await self._spelled(text), text)
        before = begins
        if given:
            _, context = _parted(await self._spelled(given), given)
            before = [*begins, *self._shortened(context.ids, len(own.ids) + len(begins))]
        found = await self.logprobs(before, own.ids)
        return [
            Surprise(*span, logprob) for span, logprob in zip(spans(own.pieces, text), found, strict=True)
        ]

    async def logprobs(self, before: Sequence[int], ids: Sequence[int]) -> list[float | None]:
        """Return the log-probabilities of `ids`, read after `before`, which must leave room for them in a
        window."""
        found: list[float | None] = []
        for window in windows(len(ids), self._most - len(before)):
            found += await self._read(before, ids, window)
        return found

    async def _read(self, before: Sequence[int], ids: Sequence[int], window: Window) -> list[float | None]:
        begun = [*before, *ids[window.start : window.scored]]
        more = ids[window.scored : window.end]
        unknown: list[float | None] = [] if begun else [None]
        after = max(1, len(begun))
        read = [*begun, *more]
        if len(read) <= after:
            return unknown
        self.read += len(read)
        return [*unknown, *await self._scorer.logprobs(self._ask, read, after)]

    def _shortened(self, given: Sequence[int], count: int) -> Sequence[int]:
        """Return the last of the context's `ids`, so that a text of `count` tokens gets what it needs or half
        of a window."""
        room = max(self._most // 2, self._most - count)
        return given if len(given) <= room else given[-room:]

    async def _spelled(self, text: str) -> Spelled:
        return await self._scorer.spell(self._ask, text)

    async def _ask(self, page: str, body: Body) -> Body:
        return await self._post(page, {"model": self._model, **body})


def windows(count: int, most: int) -> Iterator[Window]:
    """Split a text of `count` tokens into windows of at most `max_tokens`. Each token is scored once, after
    all tokens before it or at least a quarter of `max_tokens` of them. The total read is linear in the text's
    length."""
    overlap = most // OVERLAP
    end = 0
    while end < count:
        start = max(0, end - overlap)
        scored, end = end, min(count, start + most)
        yield Window(start, scored, end)


def _parted(whole: Spelled, text: str) -> tuple[Sequence[int], Spelled]:
    """Return the special tokens that the model reads before a text, and the text's own tokens. Raises
    TokenTextMismatch."""
    wanted = text.encode()
    for first, last in ((0, 0), (1, 0), (0, 1), (1, 1)):
        part = slice(first, len(whole.ids) - last)
        if _spells(whole.pieces[part], wanted):
            return whole.ids[:first], Spelled(whole.ids[part], whole.pieces[part])
    raise Unspelled("the model's tokens do not spell the text, so which characters are whose is not known")


def _spells(pieces: Sequence[bytes], text: bytes) -> bool:
    """Whether the pieces spell the text. Some tokenizers put a space before it."""
    return b"".join(pieces) in (text, b" " + text)


def spans(pieces: Sequence[bytes], text: str) -> Iterator[tuple[int, int]]:
    """Yield the character span of each piece of a text's bytes. The spans cover the text without gaps."""
    starts = [at for at, letter in enumerate(text) for _ in letter.encode()]
    put_before = sum(map(len, pieces)) - len(starts)
    at = -put_before
    end = 0
    for piece in pieces:
        at += len(piece)
        start, end = end, (starts[at - 1] + 1 if at > 0 else 0)
        yield start, end
