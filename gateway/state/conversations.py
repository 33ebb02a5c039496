"""Which conversations stay with the large model: once escalated, for a number of turns."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

KEPT = 10_000


class Conversations:
    """Knows a conversation by its beginning: a request whose messages begin with all of an earlier request's is
    its next turn. Holds digests only, the latest `kept` of them."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._left: OrderedDict[bytes, int] = OrderedDict()

    def turns_left(self, policy: str, messages: Sequence[Any]) -> int:
        """How many turns, this one included, still stay with the large model; 0 where none do."""
        digests = list(_digests(policy, messages))[:-1]
        return next((self._left[digest] for digest in reversed(digests) if digest in self._left), 0)

    def stays(self, policy: str, messages: Sequence[Any], turns: int) -> None:
        """The `turns` turns after this one stay with the large model."""
        *_, digest = _digests(policy, messages)
        self._left[digest] = turns
        self._left.move_to_end(digest)
        if len(self._left) > self._kept:
            self._left.popitem(last=False)


def _digests(policy: str, messages: Sequence[Any]) -> Iterator[bytes]:
    """Of each beginning of the conversation, from its first message to all of them."""
    digest = policy.encode()
    for message in messages:
        text = orjson.dumps(message, option=orjson.OPT_SORT_KEYS)
        digest = hashlib.blake2b(digest + text, digest_size=16).digest()
        yield digest
