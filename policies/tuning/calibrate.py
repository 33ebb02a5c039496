"""Graded drafts -> a calibrator: logistic regression on standardised signals, with scikit-learn.

`final` learns from finished drafts. `running` learns from their beginnings, cut where the watch looks (it counts
the answer's tokens, not those of reasoning before it), each labelled by whether the whole draft was right; the
beginnings of one draft share the weight of one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import GroupKFold

from routers.calibration import Calibrator, Logistic, Source, Training
from routers.signals import SIGNALS, SignalName, signals
from routers.watch import FIRST_LOOK, looks

from .graded import GradedDraft

Array = NDArray[np.float64]
STRENGTHS = 10.0 ** np.arange(-3, 2)
FOLDS = 5
DIGITS = 6
CHOICES: tuple[tuple[SignalName, ...], ...] = (
    SIGNALS,
    ("answer", "answer_margin", "answer_entropy", "stop", "sentence_margin", "opening", "distinct"),
)
"""Sets of signals to learn from: all, and those that look at the answer rather than at the whole draft, which for
short answers say more with less to fit."""


@dataclass(frozen=True)
class _Rows:
    x: Array
    y: NDArray[np.int64]
    groups: NDArray[np.str_]
    weights: Array

    def of(self, names: Sequence[SignalName]) -> "_Rows":
        """These rows with the columns of `names` only."""
        return replace(self, x=self.x[:, _columns(names)])


def _columns(names: Sequence[SignalName]) -> list[int]:
    return [SIGNALS.index(name) for name in names]


def fit(drafts: Sequence[GradedDraft], made_for: Source, trained_on: Training) -> Calibrator:
    """Trains on all of `drafts`; the set of signals, by finished drafts, and the strength of regularisation are
    those of the least log loss in cross-validation over templates.

    Raises ValueError where the drafts, or those long enough to be looked at while they run, are all right or
    all wrong, or stem from under five templates.
    """
    finished = _teaching(_finished(drafts), "drafts")
    begun = _teaching(_begun(drafts), f"drafts of {FIRST_LOOK} tokens or more")
    center = finished.x.mean(axis=0).round(DIGITS)
    spread = finished.x.std(axis=0).round(DIGITS)
    scale = np.where(spread > 0.0, spread, 1.0)
    finished, begun = (replace(rows, x=(rows.x - center) / scale) for rows in (finished, begun))
    names = max(CHOICES, key=lambda names: _agreement(_model(finished.of(names))))
    at = _columns(names)
    return Calibrator(
        made_for=made_for,
        trained_on=trained_on,
        signals=names,
        center=_rounded(center[at]),
        scale=_rounded(scale[at]),
        final=_logistic(finished.of(names)),
        running=_logistic(begun.of(names)),
    )


def _finished(drafts: Sequence[GradedDraft]) -> _Rows:
    return _rows((draft, len(draft.tokens), draft.finish, 1.0) for draft in drafts)


def _begun(drafts: Sequence[GradedDraft]) -> _Rows:
    def cuts() -> Iterator[tuple[GradedDraft, int, str | None, float]]:
        for draft in drafts:
            answer = [place for place, token in enumerate(draft.tokens, 1) if not token.reasoning]
            at = [answer[count - 1] for count in looks(len(answer))]
            yield from ((draft, count, None, 1.0 / len(at)) for count in at)

    return _rows(cuts())


def _rows(cuts: Any) -> _Rows:
    x, y, groups, weights = [], [], [], []
    for draft, count, finish, weight in cuts:
        named = signals(draft.tokens[:count], finish)
        x.append([named[name] for name in SIGNALS])
        y.append(int(draft.grade.right))
        groups.append(draft.grade.template)
        weights.append(weight)
    return _Rows(np.array(x), np.array(y), np.array(groups), np.array(weights))


def _teaching(rows: _Rows, what: str) -> _Rows:
    """The rows, where something can be learned from them. Raises ValueError."""
    if len(templates := set(rows.groups)) < FOLDS:
        raise ValueError(f"training needs {what} from at least {FOLDS} templates, found {len(templates)}")
    if len(set(rows.y)) < 2:
        raise ValueError(
            f"training needs right and wrong {what}, all are {'right' if rows.y[0] else 'wrong'}"
        )
    return rows


def _logistic(rows: _Rows) -> Logistic:
    model = _model(rows)
    return Logistic(intercept=round(float(model.intercept_[0]), DIGITS), weights=_rounded(model.coef_[0]))


def _agreement(model: LogisticRegressionCV) -> float:
    """Mean log-likelihood of the folds left out, at the best strength."""
    return float(model.scores_.mean(axis=0).max())


def _model(rows: _Rows) -> LogisticRegressionCV:
    folds = list(GroupKFold(FOLDS).split(rows.x, rows.y, rows.groups))
    model = LogisticRegressionCV(
        Cs=STRENGTHS,
        cv=folds,
        scoring="neg_log_loss",
        max_iter=2000,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )
    return model.fit(rows.x, rows.y, sample_weight=rows.weights)


def _rounded(values: Array) -> tuple[float, ...]:
    return tuple(round(float(value), DIGITS) for value in values)
