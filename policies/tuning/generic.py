"""Trains the generic calibrator, for small models that have no calibrator of their own.

Log-probabilities of different models are on different scales, so each model's signals are standardised on their own
before the drafts of all models are pooled. An unknown model has no scale yet. It is served with the pooled one, whose
spread includes the distance between the models: an unknown model that lies elsewhere is moved less by it.

What is learned of one model says too much of another. So the weights are shrunk, and with them every confidence
towards the base rate. How much is chosen by leaving each model out in turn: the shrinkage with the lowest log loss on
the drafts of the model that was left out.

The base rate is that of the model with the fewest right drafts. An unknown model is not taken to be better than any
that is known, since a wrong answer that is served costs more than a call of the large model.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from routers.confidence.calibration import Calibrator, Logistic, LogprobSource, TrainingSet
from routers.confidence.signals import SIGNALS, SignalName

from .acceptance import count_accepted, list_builtin_thresholds
from .calibrate import SIGNAL_SETS, build_finished_rows, build_prefix_rows
from .collection.graded_drafts import GradedDraft
from .logistic import DIGITS, Array, Rows, compute_scaling, fit_rule, round_values
from .report import auroc, calibration_error

GENERIC_SIGNALS = SIGNAL_SETS[1]
"""The signals of the answer. With few models, a choice between the sets changes with a few drafts. Fewer weights can be
wrong for an unknown model."""
SHRINKAGES = tuple(round(0.1 * step, 1) for step in range(11))
"""Factors of the weights; 0 is the base rate alone."""


BuildRows = Callable[[Sequence[GradedDraft]], Rows]
"""Returns the examples of drafts, with a column for each of `SIGNALS`."""


class ModelDrafts(NamedTuple):
    """Drafts of one model on one engine. Sets of the same model on several engines share its name."""

    model: str
    drafts: Sequence[GradedDraft]


class PooledRule(NamedTuple):
    """Weights over the signals of several models, before they are shrunk."""

    center: Array
    scale: Array
    weights: Array
    base_rate: float
    """The lowest share of right drafts of any model."""

    def shrink(self, shrinkage: float) -> Logistic:
        """Return the rule whose confidences are spread about the base rate by `shrinkage` times the weights."""
        base = float(np.log(self.base_rate / (1.0 - self.base_rate)))
        return Logistic(intercept=round(base, DIGITS), weights=round_values(shrinkage * self.weights))

    def compute_logits(self, x: Array, shrinkage: float) -> Array:
        """Return the log-odds that each row of signals is right."""
        rule = self.shrink(shrinkage)
        logits: Array = rule.intercept + ((x - self.center) / self.scale) @ np.array(rule.weights)
        return logits


class GenericTraining(NamedTuple):
    """The generic calibrator, and how well rules did on models that they had not seen."""

    calibrator: Calibrator
    measurements: dict[str, Any]


def train_generic(
    sets: Sequence[ModelDrafts], trained_on: TrainingSet, made_for: LogprobSource
) -> GenericTraining:
    """Train on the drafts of several models. Raises ValueError if there are fewer than two models."""
    models = sorted({one.model for one in sets})
    if len(models) < 2:
        raise ValueError("a generic calibrator needs the drafts of at least two models")
    names = GENERIC_SIGNALS
    shrinkage, losses = _choose_shrinkage(sets, build_finished_rows, names)
    running_shrinkage, running_losses = _choose_shrinkage(sets, build_prefix_rows, names)
    final = pool_sets(sets, build_finished_rows, names)
    running = pool_sets(sets, build_prefix_rows, names)
    calibrator = Calibrator(
        made_for=made_for,
        trained_on=trained_on,
        signals=names,
        center=round_values(final.center),
        scale=round_values(final.scale),
        final=final.shrink(shrinkage),
        running=running.shrink(running_shrinkage),
    )
    measurements = {
        "models": models,
        "base_rate": round(final.base_rate, 4),
        "shrinkage": {"final": shrinkage, "running": running_shrinkage},
        "log_loss": {"final": losses, "running": running_losses},
        "leaving_model_out": {model: _measure_left_out(sets, model, names, shrinkage) for model in models},
    }
    return GenericTraining(calibrator, measurements)


def pool_sets(sets: Sequence[ModelDrafts], build_rows: BuildRows, names: Sequence[SignalName]) -> PooledRule:
    """Fit a rule to the drafts of several models, each standardised on its own; each model weighs the same."""
    columns = [SIGNALS.index(name) for name in names]
    scalings = [compute_scaling(build_finished_rows(one.drafts).select_columns(columns)) for one in sets]
    rows = [
        build_rows(one.drafts).select_columns(columns).standardise(*scaling)
        for one, scaling in zip(sets, scalings, strict=True)
    ]
    shares = np.array([1.0 / sum(other.model == one.model for other in sets) for one in sets])
    shares /= shares.sum()
    examples = sum(len(one.drafts) for one in sets)
    weights = [
        some.weights / some.weights.sum() * share * examples for some, share in zip(rows, shares, strict=True)
    ]
    pooled = Rows(
        np.concatenate([some.x for some in rows]),
        np.concatenate([some.y for some in rows]),
        np.concatenate([some.groups for some in rows]),
        np.concatenate(weights),
    )
    centers, scales = (np.array(values) for values in zip(*scalings, strict=True))
    center = shares @ centers
    return PooledRule(
        center=center,
        scale=np.sqrt(shares @ (scales**2 + (centers - center) ** 2)),
        weights=np.array(fit_rule(pooled).weights),
        base_rate=_find_lowest_share(sets, rows),
    )


def _find_lowest_share(sets: Sequence[ModelDrafts], rows: Sequence[Rows]) -> float:
    """Return the lowest share of right drafts of any model, by Laplace's rule, so that it is neither 0 nor 1."""
    shares = []
    for model in {one.model for one in sets}:
        of_model = [some for one, some in zip(sets, rows, strict=True) if one.model == model]
        right = sum(float(some.weights @ some.y) for some in of_model)
        shares.append((right + 1.0) / (sum(float(some.weights.sum()) for some in of_model) + 2.0))
    return min(shares)


def _choose_shrinkage(
    sets: Sequence[ModelDrafts], build_rows: BuildRows, names: Sequence[SignalName]
) -> tuple[float, dict[str, float]]:
    """Return the shrinkage with the lowest log loss, and the mean log loss over the models left out, by shrinkage."""
    columns = [SIGNALS.index(name) for name in names]
    losses: dict[float, list[float]] = {shrinkage: [] for shrinkage in SHRINKAGES}
    for model in sorted({one.model for one in sets}):
        pooled = pool_sets([one for one in sets if one.model != model], build_rows, names)
        for one in [one for one in sets if one.model == model]:
            rows = build_rows(one.drafts).select_columns(columns)
            for shrinkage in SHRINKAGES:
                losses[shrinkage].append(_log_loss(rows, pooled.compute_logits(rows.x, shrinkage)))
    means = {shrinkage: round(float(np.mean(values)), 4) for shrinkage, values in losses.items()}
    return min(means, key=lambda shrinkage: means[shrinkage]), {str(key): loss for key, loss in means.items()}


def _log_loss(rows: Rows, logits: Array) -> float:
    signs = np.where(rows.y == 1, 1.0, -1.0)
    return float(np.average(np.log1p(np.exp(-np.clip(signs * logits, -30.0, 30.0))), weights=rows.weights))


def _measure_left_out(
    sets: Sequence[ModelDrafts], model: str, names: Sequence[SignalName], shrinkage: float
) -> list[dict[str, Any]]:
    """Return what a rule of the other models is worth on each set of the model that was left out."""
    columns = [SIGNALS.index(name) for name in names]
    pooled = pool_sets([one for one in sets if one.model != model], build_finished_rows, names)
    measured = []
    for one in [one for one in sets if one.model == model]:
        rows = build_finished_rows(one.drafts).select_columns(columns)
        right = rows.y.astype(np.float64)
        confidence = 1.0 / (1.0 + np.exp(-pooled.compute_logits(rows.x, shrinkage)))
        figures = {
            "drafts": float(len(right)),
            "right": float(right.mean()),
            "auroc": auroc(right, confidence),
            "calibration_error": calibration_error(right, confidence),
            "brier": float(np.mean((confidence - right) ** 2)),
            "brier_of_base_rate": float(np.mean((right.mean() - right) ** 2)),
        }
        accepted = {
            name: count_accepted(right, confidence, threshold)._asdict()
            for name, threshold in list_builtin_thresholds().items()
        }
        measured.append({**{name: round(value, 4) for name, value in figures.items()}, "accepted": accepted})
    return measured
