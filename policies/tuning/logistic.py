"""Rows of numbers -> a logistic rule, its strength of regularisation chosen by cross-validation over templates."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import GroupKFold

from routers.confidence.calibration import Logistic

Array = NDArray[np.float64]
STRENGTHS = 10.0 ** np.arange(-3, 2)
FOLDS = 5
DIGITS = 6


@dataclass(frozen=True)
class Rows:
    """`x` has a row for each example, `y` whether it was right, `groups` its template; weights are relative."""

    x: Array
    y: NDArray[np.int64]
    groups: NDArray[np.str_]
    weights: Array

    def of(self, columns: Sequence[int]) -> "Rows":
        """These rows with some columns only."""
        return replace(self, x=self.x[:, columns])

    def scaled(self, center: Array, scale: Array) -> "Rows":
        return replace(self, x=(self.x - center) / scale)


def teaching(rows: Rows, what: str) -> Rows:
    """The rows, where something can be learned from them. Raises ValueError."""
    if len(templates := set(rows.groups)) < FOLDS:
        raise ValueError(f"training needs {what} from at least {FOLDS} templates, found {len(templates)}")
    if len(set(rows.y)) < 2:
        raise ValueError(
            f"training needs right and wrong {what}, all are {'right' if rows.y[0] else 'wrong'}"
        )
    return rows


def scaling(rows: Rows) -> tuple[Array, Array]:
    """Each column's mean, and its standard deviation, 1 where that is nothing; rounded as they are kept."""
    spread = rows.x.std(axis=0).round(DIGITS)
    return rows.x.mean(axis=0).round(DIGITS), np.where(spread > 0.0, spread, 1.0)


def model(rows: Rows) -> LogisticRegressionCV:
    folds = list(GroupKFold(FOLDS).split(rows.x, rows.y, rows.groups))
    found = LogisticRegressionCV(
        Cs=STRENGTHS,
        cv=folds,
        scoring="neg_log_loss",
        max_iter=2000,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )
    return found.fit(rows.x, rows.y, sample_weight=rows.weights)


def agreement(found: LogisticRegressionCV) -> float:
    """Mean log-likelihood of the folds left out, at the best strength."""
    return float(found.scores_.mean(axis=0).max())


def rule(rows: Rows) -> Logistic:
    found = model(rows)
    return Logistic(intercept=round(float(found.intercept_[0]), DIGITS), weights=rounded(found.coef_[0]))


def rounded(values: Array) -> tuple[float, ...]:
    return tuple(round(float(value), DIGITS) for value in values)
