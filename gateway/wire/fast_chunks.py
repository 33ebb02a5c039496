"""The chunk that most of a followed stream is made of, read no further than is needed.

Such a chunk adds text with its log-probabilities and says nothing else. Its text and numbers are decoded; all other
fields, known or not, are left as the bytes they are, of which the log-probabilities are cut out: the client did not
ask for them. Parsing it whole and writing it anew would cost several times as much.
"""

from typing import NamedTuple

import msgspec

NOTHING = msgspec.Raw(b"null")
KEY = b',"logprobs":'
ID = b'{"id":"'


class _Alternative(msgspec.Struct, gc=False):
    logprob: float


class ChunkToken(msgspec.Struct, gc=False, rename={"text": "token"}):
    """A token as chat chunks list it. Its alternatives are sorted only if somebody asks: some servers list the
    sampled token first, whatever its rank."""

    text: str
    logprob: float | None
    top_logprobs: list[_Alternative] | None = None

    @property
    def top(self) -> list[float]:
        found = [alternative.logprob for alternative in self.top_logprobs or ()]
        found.sort(reverse=True)
        return found

    @property
    def reasoning(self) -> bool:
        return False


class _Logprobs(msgspec.Struct, gc=False):
    content: list[ChunkToken] | None = None


class _Delta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Whatever else a delta has (a role, parts of tool calls, reasoning) makes its chunk another."""

    content: str


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta
    finish_reason: None = None
    logprobs: msgspec.Raw = NOTHING
    index: int = 0


class _Chunk(msgspec.Struct, gc=False):
    choices: tuple[_Choice]
    error: None = None
    usage: None = None


_chunk = msgspec.json.Decoder(_Chunk)
_logprobs = msgspec.json.Decoder(_Logprobs)


class PlainChunk(NamedTuple):
    """`payload` is the chunk as the client gets it, but for its id; it begins with `ID`."""

    text: str
    tokens: list[ChunkToken]
    payload: bytes


def plain_chunk(payload: bytes) -> PlainChunk | None:
    """None for a chunk that is another, or that is written so that its parts can't be told by their places: it must be
    read whole."""
    if not payload.startswith(ID):
        return None
    try:
        (choice,) = _chunk.decode(payload).choices
        found = _logprobs.decode(choice.logprobs).content
    except (msgspec.DecodeError, UnicodeDecodeError, AttributeError):
        return None
    text, at = choice.delta.content, payload.find(KEY)
    if choice.index or not found or not text or at < 0:
        return None
    # Within a string the key's quotes would be escaped: this is a key, and it is ours if its value is.
    value = bytes(choice.logprobs)
    start = at + len(KEY)
    if not payload.startswith(value, start):
        return None
    return PlainChunk(text, found, payload[:at] + payload[start + len(value) :])


def with_id(payload: bytes, name: bytes) -> bytes | None:
    """The payload of a plain chunk with another id; None where its own is written with escapes."""
    end = payload.find(b'"', len(ID))
    if payload.find(b"\\", len(ID), end) >= 0:
        return None
    return ID + name + payload[end:]
