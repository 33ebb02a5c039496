"""Trains a scorer of prompts from graded drafts: logistic regression on the features of each prompt."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from routers.confidence.calibration import LogprobSource, TrainingSet
from routers.strategies.difficulty import FEATURES, FeatureName, Scorer

from .collection.graded_drafts import GradedDraft, Predictor
from .logistic import Rows, check_trainable, compute_scaling, fit_rule, round_values

MAX_SAME_SHARE = 0.9
"""Maximum share of the prompts with the same value of a feature. A feature that varies less teaches little,
and would dominate the score of the rare prompt that differs in it."""


def fit_scorer(drafts: Sequence[GradedDraft], made_for: LogprobSource, trained_on: TrainingSet) -> Scorer:
    """Return a scorer trained on all of `drafts`.

    Cross-validation over templates chooses the strength of regularisation by log loss. Raises ValueError if a
    prompt has no features, if the drafts are all right or all wrong or come from fewer than five templates,
    or if no feature varies.
    """
    names = [name for name in FEATURES if _is_varied(drafts, name)]
    rows = check_trainable(_build_rows(drafts, names), "drafts")
    if not names:
        raise ValueError("training needs prompts that differ, all measure the same")
    center, scale = compute_scaling(rows)
    return Scorer(
        made_for=made_for,
        trained_on=trained_on,
        features=tuple(names),
        center=round_values(center),
        scale=round_values(scale),
        rule=fit_rule(rows.standardise(center, scale)),
    )


def build_difficulty_predictor(scorer: Scorer) -> Predictor:
    return lambda draft: scorer.score(draft.features)


def _is_varied(drafts: Sequence[GradedDraft], name: FeatureName) -> bool:
    values = Counter(_check_features(draft)[name] for draft in drafts)
    return bool(values) and max(values.values()) <= MAX_SAME_SHARE * len(drafts)


def _build_rows(drafts: Sequence[GradedDraft], names: Sequence[FeatureName]) -> Rows:
    return Rows(
        x=np.array([[draft.features[name] for name in names] for draft in drafts]),
        y=np.array([int(draft.grade.right) for draft in drafts]),
        groups=np.array([draft.grade.template for draft in drafts]),
        weights=np.ones(len(drafts)),
    )


def _check_features(draft: GradedDraft) -> dict[str, float]:
    if not draft.features:
        raise ValueError(
            f"exchange {draft.grade.id}: its record holds neither measures of the prompt nor its content; "
            "collect with `records: {content: true}`"
        )
    return dict(draft.features)
