"""Turns records into a training set for the small model and a validation set."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from policies.records.schema import Record
from policies.schema.policy import Policy

from .duplicates import normalise, remove_duplicates
from .sft_examples import (
    NOT_ESCALATED,
    WITHOUT_CONTENT,
    Example,
    LeftOut,
    list_texts,
    replace_texts,
    to_example,
)

Redact = Callable[[list[str], Policy], list[str]]
"""A function of the texts of one example and the policy it ran under. It returns the texts with placeholders
in place of what must not be learned; equal originals get equal placeholders. It may raise LeftOut."""


class NothingToExport(ValueError):
    """No example is left for training. The message says why."""


@dataclass
class Export:
    """A training set and a validation set. `left_out` counts the exchanges in neither set, by cause."""

    read: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    train: list[Example] = field(default_factory=list)
    validation: list[Example] = field(default_factory=list)


def build_export(
    records: Iterable[Record],
    *,
    include_all: bool = False,
    redact: Redact | None = None,
    validation: float = 0.1,
) -> Export:
    """Return the training set and the validation set made of `records`.

    `include_all` also takes answers of the small model alone. `redact` changes the texts of each example.
    `validation` is the share of the conversations in the validation set. Raises NothingToExport, and
    RecordError if a record cannot be read.
    """
    result = Export()
    examples = []
    for record in records:
        result.read += 1
        try:
            example = to_example(record.exchange, include_all)
            if redact is not None:
                example = replace_texts(example, redact(list_texts(example), record.policy))
        except LeftOut as why:
            result.left_out[str(why)] += 1
        else:
            examples.append(example)
    if not examples:
        raise NothingToExport(_explain_nothing(result))
    remaining, exact, near = remove_duplicates(examples)
    result.left_out += Counter({"the same prompt again": exact, "near duplicates": near})
    for example in remaining:
        (result.validation if is_held_out(example, validation) else result.train).append(example)
    if not result.train:
        raise NothingToExport(
            f"all {len(remaining)} examples fell to the validation set: there are too few conversations for a share of"
            f" {validation:g}; record more, or say --validation 0"
        )
    return result


def is_held_out(example: Example, share: float) -> bool:
    """True if the example belongs to the validation set, a `share` of all conversations.

    All turns of a conversation belong to the same set, in this and in every later export."""
    digest = hashlib.blake2b(conversation_key(example).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def conversation_key(example: Example) -> str:
    """Return a key that all turns of a conversation share: its texts up to the first non-system message."""
    messages = example.messages
    first = next(at for at, message in enumerate(messages) if message["role"] != "system")
    return json.dumps([normalise(message.get("content", "")) for message in messages[: first + 1]])


def to_jsonl(examples: Sequence[Example]) -> str:
    return "".join(json.dumps(example.to_line(), ensure_ascii=False) + "\n" for example in examples)


def summarise(result: Export) -> list[tuple[str, int]]:
    """Return what happened to the exchanges that were read, as pairs of a label and a count."""
    left_out = [(f"left out: {why}", count) for why, count in result.left_out.most_common()]
    return [
        ("exchanges read", result.read),
        *left_out,
        ("for training", len(result.train)),
        ("for validation", len(result.validation)),
    ]


def _explain_nothing(result: Export) -> str:
    if not result.read:
        return "holds no records"
    why = ", ".join(f"{count} {what}" for what, count in result.left_out.most_common())
    text = f"nothing to learn from in {result.read} exchanges: {why}"
    if result.left_out[WITHOUT_CONTENT]:
        return f"{text}; set records.content: true, and export what is recorded from then on"
    return f"{text}; --all takes these too" if result.left_out[NOT_ESCALATED] else text
