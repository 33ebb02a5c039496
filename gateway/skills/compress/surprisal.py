"""How a small model finds a text: the log-probability of each of its tokens, by what its server can tell."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.upstreams.providers.kind import Post, Scorer, Spelled
from gateway.wire.shapes import Body

CONTEXT = 2048
"""Tokens that every model has room for, for one of which it is not known."""
OVERLAP = 4
"""A window of a text that is too long for one begins with as many a part of it that was read before."""


class Surprise(NamedTuple):
    """A token of a text: from which character to before which, and its natural log-probability. That of a text's first
    token is None where the model reads nothing before it.

    A character that several tokens share is of the first of them; the others are empty.
    """

    start: int
    end: int
    logprob: float | None


class Unspelled(ValueError):
    """The tokens of a text do not spell it, as where the tokenizer writes it otherwise first."""


class Window(NamedTuple):
    """A part of a text that is read at once: the places of its tokens, and from which on they are scored."""

    start: int
    scored: int
    end: int


class Surprises:
    """One model's, by its server's scorer. `context` is how many tokens it has room for, where that is known.

    Its methods raise what `post` raises, Garbage for an answer of another shape, and Unspelled.
    """

    def __init__(self, scorer: Scorer, model: str, context: int | None, post: Post) -> None:
        self._scorer = scorer
        self._model = model
        room = (context or CONTEXT) - 1  # one is written
        self._most = min(scorer.window or room, room)
        self._post = post
        self.read = 0
        """Tokens that it has read so far."""

    async def count(self, text: str) -> int:
        """Its tokens of a text."""
        return len((await self._spelled(text)).ids) if text else 0

    async def surprises(self, text: str, given: str = "") -> list[Surprise]:
        """Of the text's tokens, read after `given`: of a `given` that is too long, after its end."""
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
        """Of ids, read after others that leave room for them."""
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
        """What stands before a text of so many tokens leaves it half of a window, or what it needs."""
        room = max(self._most // 2, self._most - count)
        return given if len(given) <= room else given[-room:]

    async def _spelled(self, text: str) -> Spelled:
        return await self._scorer.spell(self._ask, text)

    async def _ask(self, page: str, body: Body) -> Body:
        return await self._post(page, {"model": self._model, **body})


def windows(count: int, most: int) -> Iterator[Window]:
    """Over a text's tokens, `most` at a time: each is scored once, and read after at least a quarter of `most` of
    those before it, or all. What is read in all is linear in the text's length."""
    overlap = most // OVERLAP
    end = 0
    while end < count:
        start = max(0, end - overlap)
        scored, end = end, min(count, start + most)
        yield Window(start, scored, end)


def _parted(whole: Spelled, text: str) -> tuple[Sequence[int], Spelled]:
    """The special tokens that the model reads before a text, and the text's own. Raises Unspelled."""
    wanted = text.encode()
    for first, last in ((0, 0), (1, 0), (0, 1), (1, 1)):
        part = slice(first, len(whole.ids) - last)
        if _spells(whole.pieces[part], wanted):
            return whole.ids[:first], Spelled(whole.ids[part], whole.pieces[part])
    raise Unspelled("the model's tokens do not spell the text, so which characters are whose is not known")


def _spells(pieces: Sequence[bytes], text: bytes) -> bool:
    """Some tokenizers put a space before a text."""
    return b"".join(pieces) in (text, b" " + text)


def spans(pieces: Sequence[bytes], text: str) -> Iterator[tuple[int, int]]:
    """From which character to before which each piece of a text's bytes goes; all of them cover it without a gap."""
    starts = [at for at, letter in enumerate(text) for _ in letter.encode()]
    put_before = sum(map(len, pieces)) - len(starts)
    at = -put_before
    end = 0
    for piece in pieces:
        at += len(piece)
        start, end = end, (starts[at - 1] + 1 if at > 0 else 0)
        yield start, end
