"""Trains a calibrator from graded drafts: logistic regression on standardised signals, with scikit-learn.

`final` learns from finished drafts. `running` learns from prefixes of drafts, cut at the token counts at
which a watch computes the confidence (reasoning tokens are not counted). A prefix has the label of its whole
draft, and the prefixes of one draft together weigh as much as one draft.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from routers.confidence.calibration import Calibrator, LogprobSource, TrainingSet
from routers.confidence.signals import SIGNALS, SignalName, compute_signals
from routers.watch import FIRST_CHECK, checkpoints

from .graded_drafts import GradedDraft, Predictor
from .logistic import (
    Rows,
    check_trainable,
    compute_scaling,
    fit_model,
    fit_rule,
    mean_log_likelihood,
    round_values,
)

SIGNAL_SETS: tuple[tuple[SignalName, ...], ...] = (
    SIGNALS,
    ("answer", "answer_margin", "answer_entropy", "stop", "sentence_margin", "opening", "distinct"),
)
"""Candidate sets of signals: all of them, and those about the answer rather than the whole draft. The second
set has fewer weights to fit and says more about short answers."""

DraftPrefix = tuple[GradedDraft, int, str | None, float]
"""A draft, how many of its first tokens to use, its finish reason (None if unfinished), and its weight."""


def _find_columns(names: Sequence[SignalName]) -> list[int]:
    return [SIGNALS.index(name) for name in names]


def fit_calibrator(
    drafts: Sequence[GradedDraft], made_for: LogprobSource, trained_on: TrainingSet
) -> Calibrator:
    """Return a calibrator trained on all of `drafts`.

    Cross-validation over templates chooses the set of signals (on finished drafts) and the strength of
    regularisation, both by log loss. Raises ValueError if the drafts, or those long enough to have prefixes,
    are all right or all wrong or come from fewer than five templates.
    """
    finished = check_trainable(_build_rows(_list_finished(drafts)), "drafts")
    prefixes = check_trainable(_build_rows(_list_prefixes(drafts)), f"drafts of {FIRST_CHECK} tokens or more")
    center, scale = compute_scaling(finished)
    finished, prefixes = (rows.standardise(center, scale) for rows in (finished, prefixes))
    names = max(
        SIGNAL_SETS,
        key=lambda names: mean_log_likelihood(fit_model(finished.select_columns(_find_columns(names)))),
    )
    columns = _find_columns(names)
    return Calibrator(
        made_for=made_for,
        trained_on=trained_on,
        signals=names,
        center=round_values(center[columns]),
        scale=round_values(scale[columns]),
        final=fit_rule(finished.select_columns(columns)),
        running=fit_rule(prefixes.select_columns(columns)),
    )


def build_confidence_predictor(calibrator: Calibrator) -> Predictor:
    """Return the function from a finished draft to its confidence by `calibrator`."""
    return lambda draft: calibrator.confidence(compute_signals(draft.tokens, draft.finish), finished=True)


def _list_finished(drafts: Sequence[GradedDraft]) -> Iterator[DraftPrefix]:
    return ((draft, len(draft.tokens), draft.finish, 1.0) for draft in drafts)


def _list_prefixes(drafts: Sequence[GradedDraft]) -> Iterator[DraftPrefix]:
    for draft in drafts:
        answer = [place for place, token in enumerate(draft.tokens, 1) if not token.reasoning]
        counts = [answer[count - 1] for count in checkpoints(len(answer))]
        yield from ((draft, count, None, 1.0 / len(counts)) for count in counts)


def _build_rows(cuts: Iterable[DraftPrefix]) -> Rows:
    x, y, groups, weights = [], [], [], []
    for draft, count, finish, weight in cuts:
        named = compute_signals(draft.tokens[:count], finish)
        x.append([named[name] for name in SIGNALS])
        y.append(int(draft.grade.right))
        groups.append(draft.grade.template)
        weights.append(weight)
    return Rows(np.array(x), np.array(y), np.array(groups), np.array(weights))
