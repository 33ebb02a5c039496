"""What a threshold would accept of held-out drafts, and the threshold whose accepted drafts are right often enough."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from policies.loading.layers import BUILT_IN, list_policy_files, resolve_layers

Array = NDArray[np.float64]
MIN_ACCEPTED = 20
"""Minimum accepted drafts from which a threshold is suggested. The share of fewer says little."""
LEVEL = 0.95
"""Confidence level of intervals."""
STEP = 0.01
"""Distance between the thresholds that are tried."""


class Acceptance(NamedTuple):
    """How many of `drafts` have a confidence of at least `threshold`, and how many of these are right."""

    threshold: float
    drafts: int
    accepted: int
    right: int

    @property
    def share_right(self) -> float:
        """The share of the accepted drafts that are right; NaN if none is accepted."""
        return self.right / self.accepted if self.accepted else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The exact interval of that share at level 0.95 (Clopper and Pearson, Biometrika 1934)."""
        wrong, tail = self.accepted - self.right, (1.0 - LEVEL) / 2.0
        low = float(betaincinv(self.right, wrong + 1, tail)) if self.right else 0.0
        high = float(betaincinv(self.right + 1, wrong, 1.0 - tail)) if wrong else 1.0
        return low, high


def count_accepted(right: Array, confidence: Array, threshold: float) -> Acceptance:
    accepted = confidence >= threshold
    return Acceptance(threshold, len(right), int(accepted.sum()), int(right[accepted].sum()))


def suggest_accept(right: Array, confidence: Array, min_share: float) -> Acceptance | None:
    """Return the smallest threshold whose accepted drafts are right at least at `min_share`, or None if there is none
    that accepts `MIN_ACCEPTED` drafts."""
    candidates = _try_thresholds(right, confidence)
    return next((one for one in candidates if one.share_right >= min_share), None)


def find_best_share(right: Array, confidence: Array) -> Acceptance | None:
    """Return the threshold with the highest share of right drafts, or None if none accepts `MIN_ACCEPTED` drafts."""
    return max(_try_thresholds(right, confidence), key=lambda one: one.share_right, default=None)


def _try_thresholds(right: Array, confidence: Array) -> list[Acceptance]:
    thresholds = (round(number * STEP, 2) for number in range(1, round(1.0 / STEP)))
    counted = [count_accepted(right, confidence, threshold) for threshold in thresholds]
    return [one for one in counted if one.accepted >= MIN_ACCEPTED]


def list_builtin_thresholds() -> dict[str, float]:
    """Return `router.accept` of the built-in policies that have it, by the policy's name."""
    routers = {path.stem: resolve_layers(path).data["router"] for path in list_policy_files(BUILT_IN)}
    return {name: router["accept"] for name, router in routers.items() if "accept" in router}
