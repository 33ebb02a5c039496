"""Graded drafts -> a scorer of prompts: logistic regression on what is measured of each prompt."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from routers.confidence.calibration import Source, Training
from routers.strategies.difficulty import FEATURES, FeatureName, Scorer

from .graded_drafts import GradedDraft, Judge
from .logistic import Rows, rounded, rule, scaling, teaching

SAME = 0.9
"""Share of the prompts that may have one value of a measure. Of one that hardly varies little is learned, and a prompt
that does differ in it would be judged by nothing else."""


def fit(drafts: Sequence[GradedDraft], made_for: Source, trained_on: Training) -> Scorer:
    """Trains on all of `drafts`; the strength of regularisation is that of the least log loss in cross-validation
    over templates.

    Raises ValueError where a prompt was not measured, where the drafts are all right or all wrong or stem from under
    five templates, and where their prompts are all alike.
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
