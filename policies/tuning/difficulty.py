"""Trains a scorer of prompts from graded drafts: logistic regression on the features of each prompt."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from routers.confidence.calibration import Source, Training
from routers.strategies.difficulty import FEATURES, FeatureName, Scorer

from .graded_drafts import GradedDraft, Judge
from .logistic import Rows, rounded, rule, scaling, teaching

SAME = 0.9
"""Maximum share of the prompts with the same value of a feature. A feature that varies less teaches little,
and would dominate the score of the rare prompt that differs in it."""


def fit(drafts: Sequence[GradedDraft], made_for: Source, trained_on: Training) -> Scorer:
    """Return a scorer trained on all of `drafts`.

    Cross-validation over templates chooses the strength of regularisation by log loss. Raises ValueError if a
    prompt has no features, if the drafts are all right or all wrong or come from fewer than five templates,
    or if no feature varies.
    """
    names = [name for name in FEATURES if _varies(drafts, name)]
    rows = teaching(_rows(drafts, names), "drafts")
    if not names:
        raise ValueError("training needs prompts that differ, all measure the same")
    center, scale = scaling(rows)
    return Scorer(
        made_for=made_for,
        trained_on=trained_on,
        features=tuple(names),
        center=rounded(center),
        scale=rounded(scale),
        rule=rule(rows.scaled(center, scale)),
    )


def score_of(scorer: Scorer) -> Judge:
    return lambda draft: scorer.score(draft.features)


def _varies(drafts: Sequence[GradedDraft], name: FeatureName) -> bool:
    values = Counter(_measured(draft)[name] for draft in drafts)
    return bool(values) and max(values.values()) <= SAME * len(drafts)


def _rows(drafts: Sequence[GradedDraft], names: Sequence[FeatureName]) -> Rows:
    return Rows(
        x=np.array([[draft.features[name] for name in names] for draft in drafts]),
        y=np.array([int(draft.grade.right) for draft in drafts]),
        groups=np.array([draft.grade.template for draft in drafts]),
        weights=np.ones(len(drafts)),
    )


def _measured(draft: GradedDraft) -> dict[str, float]:
    if not draft.features:
        raise ValueError(
            f"exchange {draft.grade.id}: its record holds neither measures of the prompt nor its content; "
            "collect with `records: {content: true}`"
        )
    return dict(draft.features)
