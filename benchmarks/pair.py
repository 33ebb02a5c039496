"""The cascade against random escalation, on held-out items of the starter set, with two real models.

`python -m benchmarks.pair`: the small model drafts every item and the 1.5B model answers every item; the least
confident share goes to the large one. Random escalation of the same share is the baseline: its
accuracy is what it expects. The gain's interval is a paired percentile bootstrap over items, within each kind, as
they were drawn.
"""

import asyncio
import json
import os
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import results
from benchmarks.large import path as large_weights
from gateway.cli.records.collect import collect_drafts
from gateway.settings import LocalEngine, Settings
from policies.loading.trained_files import STOCK_CALIBRATOR
from policies.tuning.calibrate import build_confidence_predictor
from policies.tuning.collection.graded_drafts import read_graded
from policies.tuning.report import auroc, predict_drafts
from policies.tuning.starter_set import Item, load_items
from routers.confidence.calibration import Calibrator

Array = NDArray[np.float64]
SHARES = (0.3, 0.5)
RESAMPLES = 2000
SEED = 20261121
MAX_TOKENS = 256
"""Room for an answer that is worked out step by step: at 64 the large model's sums are cut off before their result."""
ALL, SAMPLE = 240, 100
SAMPLES = 200
"""Samples of 100 in which it is looked how often the gain shows."""


@dataclass(frozen=True)
class Answers:
    """Of each item, in order: its kind, the small model's confidence, and whether each model was right (0 or 1)."""

    kinds: NDArray[np.str_]
    confidence: Array
    small: Array
    large: Array

    def drawn(self, at: NDArray[np.int64]) -> "Answers":
        return Answers(self.kinds[at], self.confidence[at], self.small[at], self.large[at])

    def of_kinds(self) -> list[NDArray[np.int64]]:
        """The places of each kind's items."""
        return [np.flatnonzero(self.kinds == kind) for kind in np.unique(self.kinds)]

    def sampled(self, rng: np.random.Generator, count: int) -> "Answers":
        """`count` of them, as many of each kind."""
        shuffled = zip(*(rng.permutation(at) for at in self.of_kinds()), strict=True)
        return self.drawn(np.sort(np.concatenate(list(shuffled))[:count]))

    def resampled(self, rng: np.random.Generator) -> "Answers":
        """As many of each kind as there are, with replacement: a bootstrap draws as the sample was drawn (Efron and
        Tibshirani, An Introduction to the Bootstrap, 1993, section 8.3)."""
        return self.drawn(np.concatenate([rng.choice(at, len(at)) for at in self.of_kinds()]))


def held_out(count: int) -> list[Item]:
    """`count` held-out items, as many of each kind, drawn with a fixed seed."""
    rng = random.Random(SEED)
    items = [item for item in load_items() if item.split == "held_out"]
    kinds = sorted({item.kind for item in items})
    drawn: list[Item] = []
    for index, kind in enumerate(kinds):
        share = count // len(kinds) + (index < count % len(kinds))
        drawn += rng.sample([item for item in items if item.kind == kind], share)
    return drawn


async def ask_both(items: Sequence[Item], large: Path, calibrator: Calibrator) -> Answers:
    with tempfile.TemporaryDirectory() as folder:
        drafts, answers = Path(folder) / "small", Path(folder) / "large"
        # One at a time: what else is in a batch changes a text here and there, from run to run.
        await collect_drafts(Settings(local=LocalEngine(slots=1)), drafts, items, MAX_TOKENS)
        engine = LocalEngine(model=str(large), threads=os.cpu_count(), slots=1)  # nothing else runs meanwhile
        grades = await collect_drafts(Settings(local=engine), answers, items, MAX_TOKENS)
        by_item = {draft.grade.item: draft for draft in read_graded(drafts)}
    right, confidence = predict_drafts(
        build_confidence_predictor(calibrator), [by_item[item.id] for item in items]
    )
    kinds = np.array([item.kind for item in items])
    return Answers(kinds, confidence, right, np.array([float(grade.right) for grade in grades]))


def gain(answers: Answers, share: float) -> float:
    """Accuracy with the least confident `share` sent to the large model, less what random escalation of the
    same share expects. Ties share their place."""
    sent = _sent(answers.confidence, share)
    cascade = (sent * answers.large + (1 - sent) * answers.small).mean()
    chance = share * answers.large.mean() + (1 - share) * answers.small.mean()
    return float(cascade - chance)


def _sent(confidence: Array, share: float) -> Array:
    """How much of each item is escalated: 1 under the cut, 0 over it, a fraction at it."""
    cut = np.sort(confidence)[min(len(confidence) - 1, int(share * len(confidence)))]
    below, at = confidence < cut, confidence == cut
    fraction = (share * len(confidence) - below.sum()) / at.sum()
    return np.where(below, 1.0, np.where(at, fraction, 0.0))


def gains(answers: Answers) -> dict[float, list[float]]:
    """By share: [gain, low, high]."""
    rng = np.random.default_rng(SEED)
    draws = [answers.resampled(rng) for _ in range(RESAMPLES)]
    found = {}
    for share in SHARES:
        low, high = np.percentile([gain(draw, share) for draw in draws], (2.5, 97.5))
        found[share] = [round(float(value), 4) for value in (gain(answers, share), low, high)]
    return found


def measured(answers: Answers) -> dict[str, Any]:
    found: dict[str, Any] = {
        "items": len(answers.small),
        "small_right": round(float(answers.small.mean()), 4),
        "large_right": round(float(answers.large.mean()), 4),
        "auroc": round(auroc(answers.small, answers.confidence), 4),
    }
    for share, its in gains(answers).items():
        chance = share * answers.large.mean() + (1 - share) * answers.small.mean()
        found[_key(share)] = {
            "random": round(float(chance), 4),
            "cascade": round(float(chance + gain(answers, share)), 4),
            "gain": its,
        }
    return found


def shown(answers: Answers) -> dict[str, float]:
    """In which share of samples of 100 the gain's interval lies above zero: what luck with the sample does."""
    rng = np.random.default_rng(SEED)
    found = [gains(answers.sampled(rng, SAMPLE)) for _ in range(SAMPLES)]
    return {_key(share): round(statistics.fmean(its[share][1] > 0 for its in found), 4) for share in SHARES}


def _key(share: float) -> str:
    return f"share_{round(share * 100)}"


def asked(items: Sequence[Item]) -> Answers:
    calibrator = Calibrator.model_validate_json(STOCK_CALIBRATOR.read_bytes())
    return asyncio.run(ask_both(items, large_weights(), calibrator))


def document(items: Sequence[Item], answers: Answers) -> dict[str, Any]:
    """All held-out items, of them the 100 that `make heavy` asks, and how other samples of 100 would have done."""
    drawn = {item.id for item in held_out(SAMPLE)}
    at = np.array([index for index, item in enumerate(items) if item.id in drawn])
    return {"all": measured(answers), "sample": measured(answers.drawn(at)), "samples": shown(answers)}


def main() -> None:
    items = held_out(ALL)
    found = document(items, asked(items))
    print(json.dumps(found, indent=1))
    print(results.write("pair", found))


if __name__ == "__main__":
    main()
