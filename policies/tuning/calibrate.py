"""Trains a calibrator from graded drafts: logistic regression on standardised signals, with scikit-learn.

`final` learns from finished drafts. `running` learns from prefixes of drafts, cut at the token counts at
which a watch computes the confidence (reasoning tokens are not counted). A prefix has the label of its whole
draft, and the prefixes of one draft together weigh as much as one draft.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from routers.confidence.calibration import Calibrator, Logistic, LogprobSource, TrainingSet
from routers.confidence.signals import SIGNALS, SignalName
from routers.watch import FIRST_CHECK

from .collection.graded_drafts import GradedDraft, Predictor
from .logistic import (
    Array,
    Rows,
    check_trainable,
    compute_scaling,
    fit_model,
    fit_rule,
    is_trainable,
    mean_log_likelihood,
    round_values,
    shift_rule,
)

SIGNAL_SETS: tuple[tuple[SignalName, ...], ...] = (
    SIGNALS,
    ("answer", "answer_margin", "answer_entropy", "stop", "sentence_margin", "opening", "distinct"),
)
"""Candidate sets of signals: all of them, and those about the answer rather than the whole draft. The second
set has fewer weights to fit and says more about short answers."""

Example = tuple[GradedDraft, Mapping[SignalName, float], float]
"""A draft, the signals of it or of a prefix, and the example's weight."""


def _find_columns(names: Sequence[SignalName]) -> list[int]:
    return [SIGNALS.index(name) for name in names]


def fit_calibrator(
    drafts: Sequence[GradedDraft],
    made_for: LogprobSource,
    trained_on: TrainingSet,
    prior: Calibrator | None = None,
) -> Calibrator:
    """Return a calibrator trained on all of `drafts`.

    Cross-validation over templates chooses the set of signals (on finished drafts) and the strength of
    regularisation, both by log loss. If the drafts, or those long enough to have prefixes, are all right or all wrong
    or come from fewer than five templates, nothing tells them apart: `prior`, or the rule for finished drafts, is then
    shifted to their base rate. Raises ValueError in that case if there is no `prior`, and if there are no drafts.
    """
    finished, prefixes = build_finished_rows(drafts), build_prefix_rows(drafts)
    if prior is None:
        check_trainable(finished, "drafts")
        check_trainable(prefixes, f"drafts of {FIRST_CHECK} tokens or more")
    elif not is_trainable(finished):
        return _shift_prior(prior, finished, prefixes, made_for, trained_on)
    center, scale = compute_scaling(finished)
    finished = finished.standardise(center, scale)
    names = max(
        SIGNAL_SETS,
        key=lambda names: mean_log_likelihood(fit_model(finished.select_columns(_find_columns(names)))),
    )
    columns = _find_columns(names)
    final = fit_rule(finished.select_columns(columns))
    return Calibrator(
        made_for=made_for,
        trained_on=trained_on,
        signals=names,
        center=round_values(center[columns]),
        scale=round_values(scale[columns]),
        final=final,
        running=_fit_running(final, prefixes.select_columns(columns), center[columns], scale[columns]),
    )


def _fit_running(final: Logistic, prefixes: Rows, center: Array, scale: Array) -> Logistic:
    """Fit the rule for prefixes; if they cannot be told apart, return `final` shifted to their base rate."""
    rows = prefixes.standardise(center, scale)
    return fit_rule(rows) if is_trainable(rows) else shift_rule(final, rows)


def _shift_prior(
    prior: Calibrator, finished: Rows, prefixes: Rows, made_for: LogprobSource, trained_on: TrainingSet
) -> Calibrator:
    """Return `prior` with its confidences shifted to the base rate of these drafts."""
    if not len(finished.y):
        raise ValueError("training needs drafts, found none")
    columns = _find_columns(prior.signals)
    scaling = np.array(prior.center), np.array(prior.scale)
    finished, prefixes = (rows.select_columns(columns).standardise(*scaling) for rows in (finished, prefixes))
    return prior.model_copy(
        update={
            "made_for": made_for,
            "trained_on": trained_on,
            "final": shift_rule(prior.final, finished),
            "running": shift_rule(prior.running, prefixes if len(prefixes.y) else finished),
        }
    )


def build_confidence_predictor(calibrator: Calibrator) -> Predictor:
    """Return the function from a finished draft to its confidence by `calibrator`."""
    return lambda draft: calibrator.confidence(draft.signals, finished=True)


def build_finished_rows(drafts: Sequence[GradedDraft]) -> Rows:
    """Return a row for each draft, with a column for each of `SIGNALS`."""
    return _build_rows((draft, draft.signals, 1.0) for draft in drafts)


def build_prefix_rows(drafts: Sequence[GradedDraft]) -> Rows:
    """Return a row for each prefix of each draft, with a column for each of `SIGNALS`."""
    return _build_rows(
        (draft, signals, 1.0 / len(draft.prefix_signals))
        for draft in drafts
        for signals in draft.prefix_signals
    )


def _build_rows(examples: Iterable[Example]) -> Rows:
    x, y, groups, weights = [], [], [], []
    for draft, signals, weight in examples:
        x.append([signals[name] for name in SIGNALS])
        y.append(int(draft.grade.right))
        groups.append(draft.grade.template)
        weights.append(weight)
    shape = (len(x), len(SIGNALS))  # of no rows too
    return Rows(np.array(x).reshape(shape), np.array(y, dtype=np.int64), np.array(groups), np.array(weights))
