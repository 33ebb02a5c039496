"""Fits a logistic rule to rows of numbers; cross-validation over templates chooses the regularisation."""

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
MAX_SHIFT = 30.0
"""Maximum absolute intercept of a shifted rule."""


@dataclass(frozen=True)
class Rows:
    """Training data: `x` has a row for each example, `y` is 1 if it was right, `groups` has its template.

    Shapes: `x` is (examples, columns); `y`, `groups` and `weights` are (examples,). Weights are relative."""

    x: Array
    y: NDArray[np.int64]
    groups: NDArray[np.str_]
    weights: Array

    def select_columns(self, columns: Sequence[int]) -> "Rows":
        """Return these rows with only the given columns."""
        return replace(self, x=self.x[:, columns])

    def standardise(self, center: Array, scale: Array) -> "Rows":
        return replace(self, x=(self.x - center) / scale)


def check_trainable(rows: Rows, what: str) -> Rows:
    """Return the rows. Raises ValueError if they have under `FOLDS` templates or only one kind of label."""
    if len(templates := set(rows.groups)) < FOLDS:
        raise ValueError(f"training needs {what} from at least {FOLDS} templates, found {len(templates)}")
    if len(set(rows.y)) < 2:
        raise ValueError(
            f"training needs right and wrong {what}, all are {'right' if rows.y[0] else 'wrong'}"
        )
    return rows


def is_trainable(rows: Rows) -> bool:
    return len(set(rows.groups)) >= FOLDS and len(set(rows.y)) == 2


def shift_rule(rule: Logistic, rows: Rows) -> Logistic:
    """Return the rule with the intercept at which its mean over `rows` is their share of right ones.

    The share is (right + 1) / (rows + 2), since few drafts that are all right do not make all others right
    (Laplace's rule of succession). Without rows, the rule is returned as it is."""
    if not len(rows.y):
        return rule
    total = rows.weights.sum()
    share = (rows.weights @ rows.y + 1.0) / (total + 2.0)
    z = rows.x @ np.array(rule.weights)
    low, high = -MAX_SHIFT, MAX_SHIFT
    while high - low > 10.0**-DIGITS:
        middle = (low + high) / 2.0
        mean = rows.weights @ (1.0 / (1.0 + np.exp(-np.clip(z + middle, -30.0, 30.0)))) / total
        low, high = (middle, high) if mean < share else (low, middle)
    return Logistic(intercept=round(low, DIGITS), weights=rule.weights)


def compute_scaling(rows: Rows) -> tuple[Array, Array]:
    """Return the mean and the standard deviation of each column (1 if it is 0), rounded for storage."""
    spread = rows.x.std(axis=0).round(DIGITS)
    return rows.x.mean(axis=0).round(DIGITS), np.where(spread > 0.0, spread, 1.0)


def fit_model(rows: Rows) -> LogisticRegressionCV:
    folds = list(GroupKFold(FOLDS).split(rows.x, rows.y, rows.groups))
    estimator = LogisticRegressionCV(
        Cs=STRENGTHS,
        cv=folds,
        scoring="neg_log_loss",
        max_iter=2000,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )
    return estimator.fit(rows.x, rows.y, sample_weight=rows.weights)


def mean_log_likelihood(fitted: LogisticRegressionCV) -> float:
    """Return the mean log-likelihood on the held-out folds at the best strength of regularisation."""
    return float(fitted.scores_.mean(axis=0).max())


def fit_rule(rows: Rows) -> Logistic:
    fitted = fit_model(rows)
    return Logistic(
        intercept=round(float(fitted.intercept_[0]), DIGITS), weights=round_values(fitted.coef_[0])
    )


def round_values(values: Array) -> tuple[float, ...]:
    return tuple(round(float(value), DIGITS) for value in values)
