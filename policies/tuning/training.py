"""Trains a calibrator or a scorer of prompts from a folder of graded records, and measures it."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.records.reader import read_records
from routers.confidence.calibration import Calibrator, LogprobSource, TrainingSet
from routers.strategies.difficulty import Scorer

from .calibrate import build_confidence_predictor, fit_calibrator
from .difficulty import build_difficulty_predictor, fit_scorer
from .graded_drafts import GradedDraft, MeasurePrompt, Predictor, Read, read_graded
from .report import measure_held_out

Fit = Callable[[Sequence[GradedDraft], LogprobSource, TrainingSet], tuple[Calibrator | Scorer, Predictor]]
"""Trains on drafts, and returns what was trained with its predictor. Raises ValueError if that is not possible."""


@dataclass(frozen=True, slots=True)
class Training:
    """A calibrator or a scorer trained on the training split, and its measurements on the held-out split."""

    model: Calibrator | Scorer
    measurements: dict[str, Any]

    def write_model(self, path: Path) -> None:
        """Write the JSON file that a policy names. Raises OSError."""
        path.write_text(self.model.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def write_report(self, path: Path) -> None:
        """Write the measurements as JSON. Raises OSError."""
        path.write_text(json.dumps(self.measurements, indent=1) + "\n", encoding="utf-8")


def fit_calibrator_and_predictor(
    drafts: Sequence[GradedDraft], made_for: LogprobSource, trained_on: TrainingSet
) -> tuple[Calibrator, Predictor]:
    calibrator = fit_calibrator(drafts, made_for, trained_on)
    return calibrator, build_confidence_predictor(calibrator)


def fit_scorer_and_predictor(
    drafts: Sequence[GradedDraft], made_for: LogprobSource, trained_on: TrainingSet
) -> tuple[Scorer, Predictor]:
    scorer = fit_scorer(drafts, made_for, trained_on)
    return scorer, build_difficulty_predictor(scorer)


def train(
    folder: Path, made_for: LogprobSource, fit: Fit, measure: MeasurePrompt, read: Read = read_records
) -> Training:
    """Train with `fit` on a folder that `smallfirst collect` wrote, from the drafts of the decoding mode in
    `made_for`. Raises RecordError if the folder cannot be read, ValueError if its drafts do not suffice."""
    is_constrained = made_for.mode == "constrained"
    drafts = [draft for draft in read_graded(folder, measure, read) if draft.renormalised == is_constrained]
    train_split = [draft for draft in drafts if draft.grade.split == "train"]
    trained_on = TrainingSet(
        records=folder.name,
        sha256=_hash_records(folder),
        drafts=len(train_split),
        date=time.strftime("%Y-%m-%d"),
    )
    model, _ = fit(train_split, made_for, trained_on)
    return Training(model, measure_held_out(drafts, lambda some: fit(some, made_for, trained_on)[1]))


def _hash_records(folder: Path) -> str:
    """Return the SHA-256 of the folder's records and grades, in hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
