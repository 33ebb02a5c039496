"""Stops answers that reproduce the system prompt. Matching words are held back until a run is long enough to
decide."""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from gateway.skills.answer_rewriter import TextFilter
from gateway.skills.transform import Transform, Unusable
from gateway.wire.prompt_text import SYSTEM, spoken
from gateway.wire.shapes import Body
from policies.schema.policy import Policy

if TYPE_CHECKING:
    from gateway.upstreams.upstream import Upstream

SHORTEST = 6
"""System prompts with fewer words are not guarded, since an answer may contain them by chance."""

_LETTERS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
WORD = re.compile(rf"([{_LETTERS}])|[^\W_{_LETTERS}]+")
"""Letters and digits; in scripts without spaces between words, each letter. Other characters are not
compared."""


def words(text: str) -> list[str]:
    return [found[0].casefold() for found in WORD.finditer(text)]


class Leak:
    """A transform that passes requests unchanged and ends answers that reproduce `run_length` consecutive
    words of a secret, or all words of a shorter secret."""

    def __init__(self, secrets: Iterable[str], run: int) -> None:
        told = [words(secret) for secret in secrets]
        self._secrets = [_Secret(each, min(run, len(each))) for each in told if len(each) >= SHORTEST]

    def outgoing(self, upstream: "Upstream", body: Body) -> Body:
        return body

    def incoming(self, upstream: "Upstream", *, json: bool) -> TextFilter | None:
        return Withheld(self._secrets) if self._secrets else None


def against_leaks(policy: Policy, body: Body) -> list[Transform]:
    """Build the transforms that keep a request's system messages out of its answers, if the policy asks for
    it."""
    if policy.guard is None or policy.guard.leak is None:
        return []
    messages = body.get("messages") or ()
    secrets = [spoken(message.get("content")) for message in messages if message["role"] in SYSTEM]
    return [Leak(secrets, policy.guard.leak.words)]


class _Secret:
    """A secret's words, and the positions at which a run of `run_length` words can begin."""

    def __init__(self, told: Sequence[str], run: int) -> None:
        self.words = told
        self.run = run
        self._places: dict[str, list[int]] = defaultdict(list)
        for place in range(len(told) - run + 1):
            self._places[told[place]].append(place)
        self._first = sorted(self._places)

    def begun_by(self, word: str) -> Sequence[int]:
        """Return the positions at which a run begins with this word."""
        return self._places.get(word, ())

    def may_begin(self, part: str) -> bool:
        """Whether a run begins with a word that has this prefix."""
        at = bisect_left(self._first, part)
        return at < len(self._first) and self._first[at].startswith(part)


class _Copying:
    """Counts how many of a text's last words begin a run. `_matches` maps a position in the secret to the
    number of words before it that match the text's last words."""

    def __init__(self, secret: _Secret) -> None:
        self._secret = secret
        self._matches: dict[int, int] = {}

    @property
    def length(self) -> int:
        return max(self._matches.values(), default=0)

    @property
    def complete(self) -> bool:
        return self.length >= self._secret.run

    def take(self, word: str) -> None:
        found = {place + 1: 1 for place in self._secret.begun_by(word)}
        for place, length in self._going_on(word):
            if self._secret.words[place] == word:
                found[place + 1] = length + 1
        self._matches = found

    def with_part(self, part: str) -> int:
        """Return `matched_words` if the text continues with an unfinished word that begins with `part`."""
        longest = max((length + 1 for _, length in self._going_on(part)), default=0)
        return longest or int(self._secret.may_begin(part))

    def _going_on(self, part: str) -> Iterator[tuple[int, int]]:
        told = self._secret.words
        for place, length in self._matches.items():
            if place < len(told) and told[place].startswith(part):
                yield place, length


class Withheld:
    """A TextFilter that holds back words that may become a run, and releases them once they cannot. After a
    complete run the next call raises UnusableAnswer, so that the text before the run is sent however the
    answer was cut."""

    def __init__(self, secrets: Sequence[_Secret]) -> None:
        self._copying = [_Copying(secret) for secret in secrets]
        self._held = ""
        self._starts: list[int] = []
        """Start offsets of the finished words in the held text."""
        self._read = 0
        """Length of the part of the held text that has been scanned."""
        self._other = False
        """Whether the current unfinished word is no part of a run. Its known part has been released."""
        self._leaks = False

    @property
    def holding(self) -> bool:
        return bool(self._held)

    def feed(self, text: str) -> str:
        self._check()
        self._held += text
        self._read_other()
        for found in WORD.finditer(self._held, self._read):
            if found.end() == len(self._held) and found[1] is None:
                return self._with_part(found.start())
            if self._take(found):
                return self._let_go(self._longest())
        self._read = len(self._held)
        return self._let_go(self._longest())

    def end(self) -> str:
        self._check()
        if found := WORD.search(self._held, self._read):
            self._take(found)
            self._check()
        return self._let_go(0)

    def _check(self) -> None:
        if self._leaks:
            raise Unusable("leak", "the answer reproduces the system prompt")

    def _read_other(self) -> None:
        """Skip the rest of a word that is no part of a run."""
        if self._other and self._held:
            rest = WORD.match(self._held)
            self._read = rest.end() if rest and rest[1] is None else 0
            self._other = self._read == len(self._held)

    def _take(self, found: re.Match[str]) -> bool:
        """Add a finished word. Return whether it completes a run."""
        self._starts.append(found.start())
        self._read = found.end()
        for copying in self._copying:
            copying.take(found[0].casefold())
        self._leaks = any(copying.complete for copying in self._copying)
        return self._leaks

    def _longest(self) -> int:
        return max(copying.length for copying in self._copying)

    def _with_part(self, start: int) -> str:
        """Release what cannot become a run, whatever the unfinished word at `start` turns out to be."""
        part = self._held[start:].casefold()
        count = max(copying.with_part(part) for copying in self._copying)
        if not count:
            self._other = True
            for copying in self._copying:
                copying.take("")
            return self._let_go(0)
        self._read = start
        self._starts.append(start)
        out = self._let_go(count)
        self._starts.pop()
        return out

    def _let_go(self, count: int) -> str:
        """Release everything but the last `count` words and what follows them."""
        at = self._starts[-count] if count else len(self._held)
        out, self._held = self._held[:at], self._held[at:]
        self._starts = [start - at for start in self._starts if start >= at]
        self._read = max(0, self._read - at)
        return out
