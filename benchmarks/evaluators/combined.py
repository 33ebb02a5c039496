"""Whether the small model's agreement with itself tells more than its calibrated confidence does."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.evaluators.kept import Kept
from benchmarks.evaluators.labelled import Draft
from benchmarks.evaluators.report import Array, good, scored
from policies.loading.trained_files import STOCK_CALIBRATOR
from policies.tuning.calibrate import build_confidence_predictor
from policies.tuning.logistic import Rows, compute_scaling, fit_model
from policies.tuning.report import auroc
from routers.confidence.calibration import Calibrator
from routers.judges.agreement import last_number, mean_agreement


def combined(train: Sequence[Draft], held: Sequence[Draft]) -> dict[str, Any]:
    """Both, fitted on training items, on held-out ones: together, and the confidence alone."""
    x, right = _features(train), good([draft.answered for draft in train])
    groups = np.array([draft.item.template for draft in train])
    rows = Rows(x, right.astype(int), groups, np.ones(len(right)))
    center, scale = compute_scaling(rows)
    fitted = fit_model(rows.standardise(center, scale))
    x_held, right_held = _features(held), good([draft.answered for draft in held])
    both = fitted.predict_proba((x_held - center) / scale)[:, 1]
    alone = 1.0 / (1.0 + np.exp(-x_held[:, 0]))
    numbers = np.array([draft.answered.numeric for draft in held])
    return {
        "trained_on": len(train),
        "confidence": scored(right_held, alone),
        "confidence_in_numbers": scored(right_held[numbers], alone[numbers]),
        "confidence_and_agreement": scored(right_held, both),
        "gain": _gain(right_held, both, alone),
    }


def _features(drafted: Sequence[Draft]) -> Array:
    """A row a draft: the log-odds of its confidence, and how far samples agree in their words, and in their number
    where the answer has one."""
    confidence_in = build_confidence_predictor(Calibrator.model_validate_json(STOCK_CALIBRATOR.read_bytes()))
    samples = Kept("small", "samples")

    def row(draft: Draft) -> tuple[float, float, float]:
        confidence, answered = confidence_in(draft.draft), draft.answered
        written = samples[answered]["samples"]
        text = mean_agreement("text", answered.answer, written)
        number = mean_agreement("number", answered.answer, written)
        odds = float(np.log(confidence / (1.0 - confidence)))
        return odds, text, text if last_number(answered.answer) is None else number

    return np.array([row(draft) for draft in drafted])


def _gain(right: Array, both: Array, alone: Array) -> list[float]:
    """What the agreement adds to the AUROC: paired percentile bootstrap over items."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(right), len(right)) for _ in range(1000)]
    gains = [auroc(right[draw], both[draw]) - auroc(right[draw], alone[draw]) for draw in draws]
    low, high = np.nanpercentile(gains, (2.5, 97.5))
    value = auroc(right, both) - auroc(right, alone)
    return [round(float(v), 4) for v in (value, low, high)]
