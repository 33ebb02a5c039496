"""Measures a calibrator or a scorer on unseen drafts: discrimination and calibration, with intervals."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, roc_auc_score

from .graded_drafts import GradedDraft, Predictor

Array = NDArray[np.float64]
RESAMPLES = 1000
BINS = 10


def auroc(right: Array, confidence: Array) -> float:
    """Return P(a right draft has more confidence than a wrong one), or NaN if either kind is missing."""
    return float(roc_auc_score(right, confidence)) if 0 < right.sum() < len(right) else float("nan")


def calibration_error(right: Array, confidence: Array) -> float:
    """Return the expected calibration error over 10 bins of equal size, in [0, 1].

    It is the mean distance, weighted by size, between a bin's mean confidence and its share of right drafts
    (Naeini et al. 2015; equal-size bins after Nixon et al., arXiv 1904.01685)."""
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(BINS, len(order)))
    return float(sum(len(b) * abs(confidence[b].mean() - right[b].mean()) for b in bins) / len(order))


def bootstrap_interval(
    statistic: Callable[[Array, Array], float], right: Array, confidence: Array
) -> list[float]:
    """Return [value, low, high] by a 95 % percentile bootstrap over drafts; NaN if the statistic is."""
    value = statistic(right, confidence)
    if np.isnan(value):
        return [value, value, value]
    rng = np.random.default_rng(0)
    draws = (rng.integers(0, len(right), len(right)) for _ in range(RESAMPLES))
    values = [statistic(right[draw], confidence[draw]) for draw in draws]
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return [round(float(v), 4) for v in (value, low, high)]


def predict_drafts(predict: Predictor, drafts: Sequence[GradedDraft]) -> tuple[Array, Array]:
    """Return two arrays of shape (drafts,): whether each draft was right (0 or 1), and its confidence."""
    right = np.array([float(draft.grade.right) for draft in drafts])
    return right, np.array([predict(draft) for draft in drafts])


def score_drafts(predict: Predictor, drafts: Sequence[GradedDraft]) -> dict[str, Any]:
    right, confidence = predict_drafts(predict, drafts)
    return {
        "drafts": len(drafts),
        "right": round(float(right.mean()), 4),
        "auroc": bootstrap_interval(auroc, right, confidence),
        "calibration_error": bootstrap_interval(calibration_error, right, confidence),
        "brier": round(float(brier_score_loss(right, confidence)), 4),
    }


def measure_held_out(
    drafts: Sequence[GradedDraft], learn: Callable[[Sequence[GradedDraft]], Predictor]
) -> dict[str, Any]:
    """Return the scores, on held-out templates, of what `learn` makes of the training drafts.

    The scores are overall, per kind, and per kind of a predictor that was trained without that kind."""
    train = [draft for draft in drafts if draft.grade.split == "train"]
    held_out = [draft for draft in drafts if draft.grade.split == "held_out"]
    predictor = learn(train)
    kinds = sorted({draft.grade.kind for draft in drafts})
    report: dict[str, Any] = {"all": score_drafts(predictor, held_out), "kinds": {}, "leaving_kind_out": {}}
    for kind in kinds:
        of_kind = [draft for draft in held_out if draft.grade.kind == kind]
        predictor_without = learn([draft for draft in train if draft.grade.kind != kind])
        report["kinds"][kind] = score_drafts(predictor, of_kind)
        report["leaving_kind_out"][kind] = score_drafts(predictor_without, of_kind)
    return report


def to_table(report: dict[str, Any]) -> str:
    """Return the report as a Markdown table."""
    rows = [
        "| held-out drafts | n | right | AUROC | calibration error | Brier |",
        "|---|---|---|---|---|---|",
        _format_row("all", report["all"]),
    ]
    rows += [_format_row(kind, figures) for kind, figures in report["kinds"].items()]
    rows += [
        _format_row(f"{kind}, trained without it", figures)
        for kind, figures in report["leaving_kind_out"].items()
    ]
    return "\n".join(rows)


def _format_row(name: str, figures: dict[str, Any]) -> str:
    def format_interval(key: str) -> str:
        value, low, high = figures[key]
        return f"{value:.2f} ({low:.2f} to {high:.2f})"

    cells = [
        name,
        figures["drafts"],
        f"{figures['right']:.0%}",
        format_interval("auroc"),
        format_interval("calibration_error"),
    ]
    return "| " + " | ".join(map(str, [*cells, f"{figures['brier']:.2f}"])) + " |"
