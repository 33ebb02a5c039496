"""Fast paths for the most common chunks of streams: those with text, and nothing else to act on.

A relayed chunk is only told from others. Of a watched one, the text and the log-probabilities are decoded. All other
fields, known or not, stay as raw bytes. The log-probabilities are cut out of these bytes because the client did not ask
for them. Parsing and encoding the whole chunk would cost several times as much.
"""

import re
from typing import Literal, NamedTuple

import msgspec

from .body_types import Endpoint
from .parsing.answers import may_need_mending

JSON_NULL = msgspec.Raw(b"null")
LOGPROBS_KEY = b',"logprobs":'
ID_PREFIX = b'{"id":"'
CONTENT_KEY = re.compile(rb'"content": ?"')
TEXT_KEY = re.compile(rb'"text": ?"')
UNESCAPED = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))
"""ASCII characters that stand for themselves in a JSON string."""
NO_CHUNK = b"\n\n"
"""No event contains it."""
MAX_MISSES = 16
"""Chunks of a stream that are compared anew. Some servers write something else into each, and gain nothing."""


class _Alternative(msgspec.Struct, gc=False):
    logprob: float


class ChunkToken(msgspec.Struct, gc=False, rename={"text": "token"}):
    """A token in a chat chunk's log-probabilities."""

    text: str
    logprob: float | None
    top_logprobs: list[_Alternative] | None = None

    @property
    def top(self) -> list[float]:
        """The alternatives' log-probabilities, highest first. They are sorted on demand, since some servers
        list the sampled token first, whatever its rank."""
        logprobs = [alternative.logprob for alternative in self.top_logprobs or ()]
        logprobs.sort(reverse=True)
        return logprobs

    @property
    def reasoning(self) -> bool:
        return False


class _Logprobs(msgspec.Struct, gc=False):
    content: list[ChunkToken] | None = None


class _Delta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A delta with content only. Any other key (a role, tool calls, reasoning) makes decoding fail."""

    content: str


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta
    finish_reason: None = None
    logprobs: msgspec.Raw = JSON_NULL
    index: int = 0
    error: None = None
    usage: None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: tuple[_Choice]
    error: None = None
    usage: None = None


_chunk_decoder = msgspec.json.Decoder(_Chunk)
_logprobs_decoder = msgspec.json.Decoder(_Logprobs)


class _RelayedDelta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A delta with text only. Some servers have null for all that it might have beside."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    role: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None


class _RelayedChoice(msgspec.Struct, gc=False):
    delta: _RelayedDelta
    finish_reason: None = None
    index: Literal[0] = 0
    error: None = None
    usage: None = None


class _RelayedText(msgspec.Struct, gc=False):
    """A choice of the completions endpoint."""

    text: str
    finish_reason: None = None
    index: Literal[0] = 0
    error: None = None
    usage: None = None


class _RelayedChunk(msgspec.Struct, gc=False):
    choices: tuple[_RelayedChoice]
    error: None = None
    usage: None = None


class _RelayedCompletion(msgspec.Struct, gc=False):
    choices: tuple[_RelayedText]
    error: None = None
    usage: None = None


_relayed_decoder = msgspec.json.Decoder(_RelayedChunk)
_completion_decoder = msgspec.json.Decoder(_RelayedCompletion)


def is_plain_chunk(block: bytes) -> bool:
    """Return whether a raw event of a chat is a chunk that only adds text to its first choice, and is JSON as it is."""
    if b"\\" in block and may_need_mending(block):
        return False
    try:
        delta = _relayed_decoder.decode(block[block.find(b"{") :]).choices[0].delta
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return bool(delta.content or delta.reasoning_content or delta.reasoning)


def is_plain_completion(block: bytes) -> bool:
    """Return the same of an event of the completions endpoint."""
    if b"\\" in block and may_need_mending(block):
        return False
    try:
        return bool(_completion_decoder.decode(block[block.find(b"{") :]).choices[0].text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


class PlainChunks:
    """Tells the plain chunks of one relayed stream from others.

    A server's plain chunks mostly differ in their text alone. So one is decoded, and the next are compared with what
    stands before and after its text, which takes half of the time.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._decode, self._text_key = (
            (is_plain_chunk, CONTENT_KEY) if endpoint == "chat" else (is_plain_completion, TEXT_KEY)
        )
        self._before = self._after = NO_CHUNK
        self._misses = 0

    def has(self, block: bytes) -> bool:
        """Return whether a raw event only adds text to the first choice, and is JSON as it is."""
        if block.startswith(self._before) and block.endswith(self._after):
            text = block[len(self._before) : len(block) - len(self._after)]
            if text and not text.translate(None, UNESCAPED):
                return True
        if not self._decode(block):
            return False
        if self._misses < MAX_MISSES:
            self._misses += 1
            self._learn(block)
        return True

    def _learn(self, block: bytes) -> None:
        if (key := self._text_key.search(block)) is None:
            return
        end = block.find(b'"', key.end())
        if end > key.end() and b"\\" not in block[key.end() : end]:
            self._before, self._after = block[: key.end()], block[end:]


class PlainChunk(NamedTuple):
    """A parsed plain chunk. `payload` is the chunk for the client, still with the upstream's id. It begins
    with `ID_PREFIX`."""

    text: str
    tokens: list[ChunkToken]
    payload: bytes


def parse_plain_chunk(payload: bytes) -> PlainChunk | None:
    """Parse a plain chunk. None if the chunk has other content, or if its bytes do not allow cutting out the
    log-probabilities; then the caller parses the whole chunk."""
    if not payload.startswith(ID_PREFIX):
        return None
    try:
        (choice,) = _chunk_decoder.decode(payload).choices
        tokens = _logprobs_decoder.decode(choice.logprobs).content
    except (msgspec.DecodeError, UnicodeDecodeError, AttributeError):
        return None
    text, key_start = choice.delta.content, payload.find(LOGPROBS_KEY)
    if choice.index or not tokens or not text or key_start < 0:
        return None
    # Quotes inside a string are escaped, so this is a key. It is the choice's own if its value matches.
    value = bytes(choice.logprobs)
    value_start = key_start + len(LOGPROBS_KEY)
    if not payload.startswith(value, value_start):
        return None
    return PlainChunk(text, tokens, payload[:key_start] + payload[value_start + len(value) :])


def replace_id(payload: bytes, new_id: bytes) -> bytes | None:
    """Return the payload of a plain chunk with another id. None if its current id contains escapes."""
    end = payload.find(b'"', len(ID_PREFIX))
    if payload.find(b"\\", len(ID_PREFIX), end) >= 0:
        return None
    return ID_PREFIX + new_id + payload[end:]
