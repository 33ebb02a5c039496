"""Turns records into a training set for the small model and a validation set."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from policies.records.lines import Record
from policies.schema.policy import Policy

from .duplicates import distinct, normalised
from .sft_examples import NOT_ESCALATED, WITHOUT_CONTENT, Example, LeftOut, example_of, texts_of, with_texts

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


def export(
    records: Iterable[Record],
    *,
    everyones: bool = False,
    redact: Redact | None = None,
    validation: float = 0.1,
) -> Export:
    """Return the training set and the validation set made of `records`.

    `include_all` also takes answers of the small model alone. `redact` changes the texts of each example.
    `validation` is the share of the conversations in the validation set. Raises NothingToExport, and
    RecordError if a record cannot be read.
    """
    found = Export()
    examples = []
    for record in records:
        found.read += 1
        try:
            example = example_of(record.exchange, everyones)
            if redact is not None:
                example = with_texts(example, redact(texts_of(example), record.policy))
        except LeftOut as why:
            found.left_out[str(why)] += 1
        else:
            examples.append(example)
    if not examples:
        raise NothingToExport(_why_nothing(found))
    kept, same, alike = distinct(examples)
    found.left_out += Counter({"the same prompt again": same, "near duplicates": alike})
    for example in kept:
        (found.validation if held_out(example, validation) else found.train).append(example)
    if not found.train:
        raise NothingToExport(
            f"all {len(kept)} examples fell to the validation set: there are too few conversations for a share of"
            f" {validation:g}; record more, or say --validation 0"
        )
    return found


def held_out(example: Example, share: float) -> bool:
    """True if the example belongs to the validation set, a `share` of all conversations.

    All turns of a conversation belong to the same set, in this and in every later export."""
    digest = hashlib.blake2b(conversation(example).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def conversation(example: Example) -> str:
    """Return a key that all turns of a conversation share: its texts up to the first non-system message."""
    messages = example.messages
    first = next(at for at, message in enumerate(messages) if message["role"] != "system")
    return json.dumps([normalised(message.get("content", "")) for message in messages[: first + 1]])


def as_jsonl(examples: Sequence[Example]) -> str:
    return "".join(json.dumps(example.line(), ensure_ascii=False) + "\n" for example in examples)


def account(found: Export) -> list[tuple[str, int]]:
    """Return what happened to the exchanges that were read, as pairs of a label and a count."""
    left = [(f"left out: {why}", count) for why, count in found.left_out.most_common()]
    return [
        ("exchanges read", found.read),
        *left,
        ("for training", len(found.train)),
        ("for validation", len(found.validation)),
    ]


def _why_nothing(found: Export) -> str:
    if not found.read:
        return "holds no records"
    why = ", ".join(f"{count} {what}" for what, count in found.left_out.most_common())
    text = f"nothing to learn from in {found.read} exchanges: {why}"
    if found.left_out[WITHOUT_CONTENT]:
        return f"{text}; set records.content: true, and export what is recorded from then on"
    return f"{text}; --all takes these too" if found.left_out[NOT_ESCALATED] else text
