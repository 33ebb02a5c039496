"""Measures a calibrator or a scorer on unseen drafts: discrimination and calibration, with intervals."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import brier_score_loss

from .collection.graded_drafts import GradedDraft, Predictor

Array = NDArray[np.float64]
Learn = Callable[[Sequence[GradedDraft]], Predictor]
RESAMPLES = 1000
BINS = 10


def auroc(right: Array, confidence: Array) -> float:
    """Return P(a right draft has more confidence than a wrong one), or NaN if either kind is missing.

    It is the statistic of Mann and Whitney, by ranks: a bootstrap takes it thousands of times."""
    rights = right.sum()
    wrongs = len(right) - rights
    if not rights or not wrongs:
        return float("nan")
    ranks = rankdata(confidence)[right == 1].sum()
    return float((ranks - rights * (rights + 1) / 2) / (rights * wrongs))


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
    return score(*predict_drafts(predict, drafts))


def score(right: Array, confidence: Array) -> dict[str, Any]:
    return {
        "drafts": len(right),
        "right": round(float(right.mean()), 4),
        "auroc": bootstrap_interval(auroc, right, confidence),
        "calibration_error": bootstrap_interval(calibration_error, right, confidence),
        "brier": round(float(brier_score_loss(right, confidence)), 4),
    }


class HeldOut(NamedTuple):
    """Held-out drafts as arrays of shape (drafts,): their kinds, whether each was right (0 or 1), and confidences."""

    kinds: NDArray[np.str_]
    right: Array
    confidence: Array
    unseen: Array | None
    """Confidences by predictors that were trained without the draft's kind; None if there is only one kind."""
    base_rate: float
    """The share of right drafts in the training split."""

    def select_kind(self, kind: str) -> "HeldOut":
        at = self.kinds == kind
        unseen = None if self.unseen is None else self.unseen[at]
        return HeldOut(self.kinds[at], self.right[at], self.confidence[at], unseen, self.base_rate)


def predict_held_out(drafts: Sequence[GradedDraft], predictor: Predictor, learn: Learn) -> HeldOut:
    """Return the confidences of the held-out drafts by `predictor`, which was trained on the training split, and by
    what `learn` makes of that split without their kind. Raises ValueError if no draft is held out."""
    train = [draft for draft in drafts if draft.grade.split == "train"]
    held_out = [draft for draft in drafts if draft.grade.split == "held_out"]
    if not train or not held_out:
        raise ValueError(
            f"no draft is {'held out' if train else 'for training'}: a split of the items is missing"
        )
    right, confidence = predict_drafts(predictor, held_out)
    kinds = np.array([draft.grade.kind for draft in held_out])
    unseen = np.empty(len(held_out))
    for kind in np.unique(kinds):
        others = [draft for draft in train if draft.grade.kind != kind]
        if not others:
            return HeldOut(kinds, right, confidence, None, float(np.mean([d.grade.right for d in train])))
        predict = learn(others)
        for at in np.flatnonzero(kinds == kind):
            unseen[at] = predict(held_out[at])
    return HeldOut(kinds, right, confidence, unseen, float(np.mean([d.grade.right for d in train])))


def measure_held_out(drafts: Sequence[GradedDraft], learn: Learn) -> dict[str, Any]:
    """Return the scores, on held-out templates, of what `learn` makes of the training drafts."""
    predictor = learn([draft for draft in drafts if draft.grade.split == "train"])
    return summarise(predict_held_out(drafts, predictor, learn))


def summarise(held_out: HeldOut) -> dict[str, Any]:
    """Return the scores overall, per kind, and of predictors that were trained without each draft's kind."""
    by_kind = {str(kind): held_out.select_kind(kind) for kind in np.unique(held_out.kinds)}
    report = {
        "all": score(held_out.right, held_out.confidence),
        "kinds": {kind: score(some.right, some.confidence) for kind, some in by_kind.items()},
        "leaving_kind_out": {
            kind: score(some.right, some.unseen) for kind, some in by_kind.items() if some.unseen is not None
        },
        "base_rate": score_base_rate(held_out),
    }
    if held_out.unseen is not None:
        report["unseen_kinds"] = score(held_out.right, held_out.unseen)
    return report


def score_base_rate(held_out: HeldOut) -> dict[str, float]:
    """Return the base rate, and the Brier score of a confidence that always is the base rate."""
    brier = float(np.mean((held_out.right - held_out.base_rate) ** 2))
    return {"right": round(held_out.base_rate, 4), "brier": round(brier, 4)}


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
