"""Trains a calibrator or a scorer of prompts from a folder of graded records, and measures it."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from policies.records.reader import LeftOut, read_records
from routers.confidence.calibration import Calibrator, LogprobSource, TrainingSet
from routers.strategies.difficulty import Scorer

from .calibrate import build_confidence_predictor, fit_calibrator
from .collection.graded_drafts import GradedDraft, MeasurePrompt, Predictor, Read, read_graded
from .difficulty import build_difficulty_predictor, fit_scorer
from .report import HeldOut, predict_held_out, summarise

Model = TypeVar("Model", bound=Calibrator | Scorer)
Fit = Callable[[Sequence[GradedDraft], LogprobSource, TrainingSet], tuple[Model, Predictor]]
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


def fit_with_prior(prior: Calibrator) -> Fit[Calibrator]:
    """Return a function that trains a calibrator, and shifts `prior` to the base rate where nothing can be learned."""

    def fit(
        drafts: Sequence[GradedDraft], made_for: LogprobSource, trained_on: TrainingSet
    ) -> tuple[Calibrator, Predictor]:
        calibrator = fit_calibrator(drafts, made_for, trained_on, prior)
        return calibrator, build_confidence_predictor(calibrator)

    return fit


def fit_scorer_and_predictor(
    drafts: Sequence[GradedDraft], made_for: LogprobSource, trained_on: TrainingSet
) -> tuple[Scorer, Predictor]:
    scorer = fit_scorer(drafts, made_for, trained_on)
    return scorer, build_difficulty_predictor(scorer)


def train(
    folder: Path,
    made_for: LogprobSource,
    fit: Fit[Any],
    measure: MeasurePrompt,
    read: Read = read_records,
    left_out: LeftOut | None = None,
) -> Training:
    """Train with `fit` on a folder that `smallfirst collect` wrote, from the drafts of the decoding mode in
    `made_for`. Lines of grades that cannot be read are added to `left_out`. Raises RecordError if the folder cannot be
    read, ValueError if its drafts do not suffice."""
    is_constrained = made_for.mode == "constrained"
    graded = read_graded(folder, measure, read, left_out)
    drafts = [draft for draft in graded if draft.renormalised == is_constrained]
    model, held_out = train_on(drafts, folder, made_for, fit)
    return Training(model, summarise(held_out))


def train_on(
    drafts: Sequence[GradedDraft], folder: Path, made_for: LogprobSource, fit: Fit[Model]
) -> tuple[Model, HeldOut]:
    """Return what `fit` trains on the training split of a folder's drafts, and its confidences of the held-out split.
    Raises ValueError if the drafts do not suffice."""
    train_split = [draft for draft in drafts if draft.grade.split == "train"]
    trained_on = TrainingSet(
        records=folder.name,
        sha256=hash_records(folder),
        drafts=len(train_split),
        date=time.strftime("%Y-%m-%d"),
    )
    with threadpool_limits(1):  # threads wait for each other longer than such small matrices take
        model, predictor = fit(train_split, made_for, trained_on)
        held_out = predict_held_out(drafts, predictor, lambda some: fit(some, made_for, trained_on)[1])
    return model, held_out


def hash_records(folder: Path) -> str:
    """Return the SHA-256 of the folder's records and grades, in hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
