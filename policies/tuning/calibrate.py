"""Trains a calibrator from graded drafts: logistic regression on standardised signals, with scikit-learn.

`final` learns from finished drafts. `running` learns from prefixes of drafts, cut at the token counts at
which a watch computes the confidence (reasoning tokens are not counted). A prefix has the label of its whole
draft, and the prefixes of one draft together weigh as much as one draft.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from routers.confidence.calibration import Calibrator, Source, Training
from routers.confidence.signals import SIGNALS, SignalName, signals
from routers.watch import FIRST_LOOK, looks

from .graded_drafts import GradedDraft, Judge
from .logistic import Rows, agreement, model, rounded, rule, scaling, teaching

CHOICES: tuple[tuple[SignalName, ...], ...] = (
    SIGNALS,
    ("answer", "answer_margin", "answer_entropy", "stop", "sentence_margin", "opening", "distinct"),
)
"""Candidate sets of signals: all of them, and those about the answer rather than the whole draft. The second
set has fewer weights to fit and says more about short answers."""

Cut = tuple[GradedDraft, int, str | None, float]
"""A draft, how many of its first tokens to use, its finish reason (None if unfinished), and its weight."""


def _columns(names: Sequence[SignalName]) -> list[int]:
    return [SIGNALS.index(name) for name in names]


def fit(drafts: Sequence[GradedDraft], made_for: Source, trained_on: Training) -> Calibrator:
    """Return a calibrator trained on all of `drafts`.

    Cross-validation over templates chooses the set of signals (on finished drafts) and the strength of
    regularisation, both by log loss. Raises ValueError if the drafts, or those long enough to have prefixes,
    are all right or all wrong or come from fewer than five templates.
    """
    finished = teaching(_rows(_finished(drafts)), "drafts")
    begun = teaching(_rows(_begun(drafts)), f"drafts of {FIRST_LOOK} tokens or more")
    center, scale = scaling(finished)
    finished, begun = (rows.scaled(center, scale) for rows in (finished, begun))
    names = max(CHOICES, key=lambda names: agreement(model(finished.of(_columns(names)))))
    at = _columns(names)
    return Calibrator(
        made_for=made_for,
        trained_on=trained_on,
        signals=names,
        center=rounded(center[at]),
        scale=rounded(scale[at]),
        final=rule(finished.of(at)),
        running=rule(begun.of(at)),
    )


def confidence_of(calibrator: Calibrator) -> Judge:
    """Return the function from a finished draft to its confidence by `calibrator`."""
    return lambda draft: calibrator.confidence(signals(draft.tokens, draft.finish), finished=True)


def _finished(drafts: Sequence[GradedDraft]) -> Iterator[Cut]:
    return ((draft, len(draft.tokens), draft.finish, 1.0) for draft in drafts)


def _begun(drafts: Sequence[GradedDraft]) -> Iterator[Cut]:
    for draft in drafts:
        answer = [place for place, token in enumerate(draft.tokens, 1) if not token.reasoning]
        at = [answer[count - 1] for count in looks(len(answer))]
        yield from ((draft, count, None, 1.0 / len(at)) for count in at)


def _rows(cuts: Iterable[Cut]) -> Rows:
    x, y, groups, weights = [], [], [], []
    for draft, count, finish, weight in cuts:
        named = signals(draft.tokens[:count], finish)
        x.append([named[name] for name in SIGNALS])
        y.append(int(draft.grade.right))
        groups.append(draft.grade.template)
        weights.append(weight)
    return Rows(np.array(x), np.array(y), np.array(groups), np.array(weights))
