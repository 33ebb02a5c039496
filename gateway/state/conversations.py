"""Conversations pinned to the LLM: after an escalation, for a number of turns."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from gateway.exchange.exchange import Exchange
from routers.reasons import ESCALATIONS, Reason

MAX_CONVERSATIONS = 10_000


class Conversations:
    """Recognises a conversation by its beginning: a request whose messages begin with all messages of an
    earlier request is its next turn. Holds only digests, of the latest `max_conversations`."""

    def __init__(self, max_conversations: int = MAX_CONVERSATIONS) -> None:
        self._max_conversations = max_conversations
        self._turns_left: OrderedDict[bytes, int] = OrderedDict()

    def turns_left(self, policy: str, messages: Sequence[Any]) -> int:
        """Return the number of turns, including this one, that still go to the LLM. 0 if the conversation is
        not pinned."""
        digests = list(_prefix_digests(policy, messages))[:-1]
        return next(
            (self._turns_left[digest] for digest in reversed(digests) if digest in self._turns_left), 0
        )

    def pin_to_llm(self, policy: str, messages: Sequence[Any], turns: int) -> None:
        """Pin the next `turns` turns after this one to the LLM."""
        *_, digest = _prefix_digests(policy, messages)
        self._turns_left[digest] = turns
        self._turns_left.move_to_end(digest)
        if len(self._turns_left) > self._max_conversations:
            self._turns_left.popitem(last=False)

    def note(self, exchange: Exchange) -> None:
        """Pin a finished exchange's conversation to the LLM if its policy's `affinity` says so."""
        affinity, answer = exchange.policy.affinity, exchange.answer
        body = exchange.body if exchange.passages is None else exchange.passages.bare
        if affinity is None or answer is None or "messages" not in body:
            return
        messages, name = body["messages"], exchange.policy.name
        if answer.reason in ESCALATIONS and answer.route != "slm":
            self.pin_to_llm(name, messages, affinity.turns)
        elif answer.reason is Reason.AFFINITY:
            self.pin_to_llm(name, messages, exchange.request.stays - 1)


def _prefix_digests(policy: str, messages: Sequence[Any]) -> Iterator[bytes]:
    """Yield the digest of each prefix of the conversation, from its first message to all of them."""
    digest = policy.encode()
    for message in messages:
        text = orjson.dumps(message, option=orjson.OPT_SORT_KEYS)
        digest = hashlib.blake2b(digest + text, digest_size=16).digest()
        yield digest
