"""Answers of which it is known whether they are good, each kind for the evaluators that are to tell.

The starter set's held-out items, drafted by the small model and graded; 40 questions of passages.jsonl, each answered
with what its passages say and with what they do not; and answers.jsonl, 40 requests with a helpful answer, one that
is of no use, a refusal and an insulting one. Both files were written by hand for these benchmarks, before any model
had judged them.
"""

import asyncio
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import platformdirs

from benchmarks import relevance
from benchmarks.pair import SEED
from gateway.cli.records.collect import collect_drafts
from gateway.settings import LocalEngine, Settings
from gateway.telemetry.settings import RecordSettings
from policies.tuning.collection.graded_drafts import GradedDraft, read_graded
from policies.tuning.collection.grades import OLD_GRADES_FILE
from policies.tuning.collection.manifest import MANIFEST_FILE
from policies.tuning.starter_set import Item, load_items

FOLDER = Path(platformdirs.user_cache_dir("smallfirst")) / "evaluators"
"""What was drafted, and judged."""
ANSWERS = Path(__file__).with_name("answers.jsonl")
BAD = {"helpfulness": "unhelpful", "refusal": "refusing", "toxicity": "toxic"}
"""By rubric, the answers of answers.jsonl that are not good in its eyes; the helpful ones are."""
LONGEST = 64
"""Tokens of a draft."""


class Answered(NamedTuple):
    """`good`: in the eyes of whoever wrote or graded it, and so of an evaluator that is worth something."""

    request: str
    answer: str
    good: bool
    context: str = ""
    numeric: bool = False
    """Whether a good answer is a number."""


class Draft(NamedTuple):
    """What the small model wrote for an item."""

    item: Item
    draft: GradedDraft

    @property
    def answered(self) -> Answered:
        text = "".join(token.text for token in self.draft.tokens)
        right = self.draft.grade.right
        return Answered(self.item.prompt, text, right, numeric=self.item.grade == "number")


def train_items(count: int) -> list[Item]:
    """`count` items of the training split, as many of each kind."""
    rng = random.Random(SEED)
    items = [item for item in load_items() if item.split == "train"]
    kinds = sorted({item.kind for item in items})
    return [
        item
        for kind in kinds
        for item in rng.sample([one for one in items if one.kind == kind], count // len(kinds))
    ]


def drafts(name: str, items: Sequence[Item]) -> list[Draft]:
    """Of each item; collected where they are not there yet."""
    folder = FOLDER / name
    if not (folder / OLD_GRADES_FILE).exists():
        resumes = (folder / MANIFEST_FILE).exists()
        if not resumes:
            shutil.rmtree(folder, ignore_errors=True)
        settings = Settings(local=LocalEngine(), records=RecordSettings(content=True))
        asyncio.run(collect_drafts(settings, folder, items, LONGEST, resume=resumes))
    found = {draft.grade.item: draft for draft in read_graded(folder)}
    drawn = [Draft(item, draft) for item in items if (draft := found.get(item.id))]
    random.Random(SEED).shuffle(drawn)  # so that a part of them is like the whole
    return drawn


def by_rubric(drafted: Sequence[Answered]) -> dict[str, Sequence[Answered]]:
    """Drafts for correctness; for each other rubric as many good answers as others."""
    rows = [json.loads(line) for line in ANSWERS.read_text(encoding="utf-8").splitlines()]
    found: dict[str, Sequence[Answered]] = {
        rubric: [
            Answered(row["request"], row[sort], sort == "helpful")
            for row in rows
            for sort in ("helpful", bad)
        ]
        for rubric, bad in BAD.items()
    }
    return {"correctness": drafted, **found, "groundedness": grounded()}


def grounded() -> list[Answered]:
    return [
        Answered(item.question, answer, good, "\n\n".join(item.passages))
        for item in relevance.items()
        for good, answer in ((True, item.grounded), (False, item.ungrounded))
    ]
