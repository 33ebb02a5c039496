"""Stops answers that reproduce the system prompt. Matching words are held back until a run is long enough to
decide."""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from gateway.skills.answer_rewriter import TextFilter
from gateway.skills.transforms import Transform, UnusableAnswer
from gateway.wire.body_types import Body
from gateway.wire.prompt_text import SYSTEM_ROLES, extract_text
from policies.schema.policy import Policy

if TYPE_CHECKING:
    from gateway.upstreams.upstream import Upstream

MIN_SECRET_WORDS = 6
"""System prompts with fewer words are not guarded, since an answer may contain them by chance."""

_LETTERS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
WORD = re.compile(rf"([{_LETTERS}])|[^\W_{_LETTERS}]+")
"""Letters and digits; in scripts without spaces between words, each letter. Other characters are not
compared."""


def split_words(text: str) -> list[str]:
    return [word[0].casefold() for word in WORD.finditer(text)]


class PromptLeakGuard:
    """A transform that passes requests unchanged and ends answers that reproduce `run_length` consecutive
    words of a secret, or all words of a shorter secret."""

    def __init__(self, secrets: Iterable[str], run_length: int) -> None:
        word_lists = [split_words(secret) for secret in secrets]
        self._secrets = [
            _Secret(each, min(run_length, len(each))) for each in word_lists if len(each) >= MIN_SECRET_WORDS
        ]

    def rewrite_request(self, upstream: "Upstream", body: Body) -> Body:
        return body

    def build_answer_filter(self, upstream: "Upstream", *, json: bool) -> TextFilter | None:
        return PromptLeakFilter(self._secrets) if self._secrets else None


def build_leak_guards(policy: Policy, body: Body) -> list[Transform]:
    """Build the transforms that keep a request's system messages out of its answers, if the policy asks for
    it."""
    if policy.guard is None or policy.guard.leak is None:
        return []
    messages = body.get("messages") or ()
    secrets = [
        extract_text(message.get("content")) for message in messages if message["role"] in SYSTEM_ROLES
    ]
    return [PromptLeakGuard(secrets, policy.guard.leak.words)]


class _Secret:
    """A secret's words, and the positions at which a run of `run_length` words can begin."""

    def __init__(self, words: Sequence[str], run_length: int) -> None:
        self.words = words
        self.run_length = run_length
        self._places: dict[str, list[int]] = defaultdict(list)
        for place in range(len(words) - run_length + 1):
            self._places[words[place]].append(place)
        self._first = sorted(self._places)

    def find_run_starts(self, word: str) -> Sequence[int]:
        """Return the positions at which a run begins with this word."""
        return self._places.get(word, ())

    def can_begin_with(self, part: str) -> bool:
        """Whether a run begins with a word that has this prefix."""
        at = bisect_left(self._first, part)
        return at < len(self._first) and self._first[at].startswith(part)


class _RunMatcher:
    """Counts how many of a text's last words begin a run. `_matches` maps a position in the secret to the
    number of words before it that match the text's last words."""

    def __init__(self, secret: _Secret) -> None:
        self._secret = secret
        self._matches: dict[int, int] = {}

    @property
    def matched_words(self) -> int:
        return max(self._matches.values(), default=0)

    @property
    def is_complete(self) -> bool:
        return self.matched_words >= self._secret.run_length

    def add_word(self, word: str) -> None:
        found = {place + 1: 1 for place in self._secret.find_run_starts(word)}
        for place, length in self._find_continuations(word):
            if self._secret.words[place] == word:
                found[place + 1] = length + 1
        self._matches = found

    def match_partial(self, part: str) -> int:
        """Return `matched_words` if the text continues with an unfinished word that begins with `part`."""
        longest = max((length + 1 for _, length in self._find_continuations(part)), default=0)
        return longest or int(self._secret.can_begin_with(part))

    def _find_continuations(self, part: str) -> Iterator[tuple[int, int]]:
        words = self._secret.words
        for place, length in self._matches.items():
            if place < len(words) and words[place].startswith(part):
                yield place, length


class PromptLeakFilter:
    """A TextFilter that holds back words that may become a run, and releases them once they cannot. After a
    complete run the next call raises UnusableAnswer, so that the text before the run is sent however the
    answer was cut."""

    def __init__(self, secrets: Sequence[_Secret]) -> None:
        self._matchers = [_RunMatcher(secret) for secret in secrets]
        self._held = ""
        self._starts: list[int] = []
        """Start offsets of the finished words in the held text."""
        self._scanned = 0
        """Length of the part of the held text that has been scanned."""
        self._in_other_word = False
        """Whether the current unfinished word is no part of a run. Its known part has been released."""
        self._has_leak = False

    @property
    def has_pending_text(self) -> bool:
        return bool(self._held)

    def feed(self, text: str) -> str:
        self._raise_if_leak()
        self._held += text
        self._skip_other_word()
        for word in WORD.finditer(self._held, self._scanned):
            if word.end() == len(self._held) and word[1] is None:
                return self._release_before_partial(word.start())
            if self._add_word(word):
                return self._release(self._max_matched_words())
        self._scanned = len(self._held)
        return self._release(self._max_matched_words())

    def flush(self) -> str:
        self._raise_if_leak()
        if word := WORD.search(self._held, self._scanned):
            self._add_word(word)
            self._raise_if_leak()
        return self._release(0)

    def _raise_if_leak(self) -> None:
        if self._has_leak:
            raise UnusableAnswer("leak", "the answer reproduces the system prompt")

    def _skip_other_word(self) -> None:
        """Skip the rest of a word that is no part of a run."""
        if self._in_other_word and self._held:
            rest = WORD.match(self._held)
            self._scanned = rest.end() if rest and rest[1] is None else 0
            self._in_other_word = self._scanned == len(self._held)

    def _add_word(self, word: re.Match[str]) -> bool:
        """Add a finished word. Return whether it completes a run."""
        self._starts.append(word.start())
        self._scanned = word.end()
        for copying in self._matchers:
            copying.add_word(word[0].casefold())
        self._has_leak = any(copying.is_complete for copying in self._matchers)
        return self._has_leak

    def _max_matched_words(self) -> int:
        return max(copying.matched_words for copying in self._matchers)

    def _release_before_partial(self, start: int) -> str:
        """Release what cannot become a run, whatever the unfinished word at `start` turns out to be."""
        part = self._held[start:].casefold()
        count = max(copying.match_partial(part) for copying in self._matchers)
        if not count:
            self._in_other_word = True
            for copying in self._matchers:
                copying.add_word("")
            return self._release(0)
        self._scanned = start
        self._starts.append(start)
        out = self._release(count)
        self._starts.pop()
        return out

    def _release(self, count: int) -> str:
        """Release everything but the last `count` words and what follows them."""
        at = self._starts[-count] if count else len(self._held)
        out, self._held = self._held[:at], self._held[at:]
        self._starts = [start - at for start in self._starts if start >= at]
        self._scanned = max(0, self._scanned - at)
        return out
