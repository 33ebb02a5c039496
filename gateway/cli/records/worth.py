"""Says what a calibrator is worth on held-out drafts, and which `accept` they suggest."""

from collections.abc import Iterator

from policies.tuning.acceptance import (
    MIN_ACCEPTED,
    Acceptance,
    count_accepted,
    find_best_share,
    list_builtin_thresholds,
    suggest_accept,
)
from policies.tuning.report import HeldOut, score, score_base_rate


def describe_worth(held_out: HeldOut, min_right: float) -> Iterator[str]:
    """Yield lines about the confidences of held-out drafts: their quality, what the built-in thresholds would accept,
    and the suggested threshold.

    The confidences are those of predictors that were trained without each draft's kind, since a user's requests are of
    other kinds too. If there is only one kind, they are the calibrator's own."""
    confidence = held_out.confidence if held_out.unseen is None else held_out.unseen
    unseen = "its templates" if held_out.unseen is None else "its kind"
    yield f"{len(held_out.right)} held-out drafts, each judged by a calibrator that was trained without {unseen}:"
    figures, base = score(held_out.right, confidence), score_base_rate(held_out)
    yield f"  AUROC              {_format_interval(figures['auroc'])}"
    yield f"  calibration error  {_format_interval(figures['calibration_error'])}"
    yield f"  Brier score        {figures['brier']:.3f}; of the base rate alone {base['brier']:.3f}"
    yield "accepted at the thresholds of the built-in policies:"
    thresholds = list_builtin_thresholds()
    for threshold in sorted(set(thresholds.values())):
        names = ", ".join(name for name, accept in thresholds.items() if accept == threshold)
        accepted = count_accepted(held_out.right, confidence, threshold)
        yield f"  {threshold:.2f}  {describe_acceptance(accepted)} ({names})"
    suggested = suggest_accept(held_out.right, confidence, min_right)
    if suggested is not None:
        yield f"suggested accept: {suggested.threshold:.2f}, the smallest at which at least {min_right:.0%} are right:"
        yield f"  {describe_acceptance(suggested)}"
        return
    yield f"suggested accept: none. No threshold that accepts {MIN_ACCEPTED} drafts has {min_right:.0%} of them right."
    if best := find_best_share(held_out.right, confidence):
        yield f"  the best is {best.threshold:.2f}: {describe_acceptance(best)}"


def describe_acceptance(acceptance: Acceptance) -> str:
    """Return how many drafts are accepted and how many of these are right, with the interval of that share."""
    text = f"{acceptance.accepted} of {acceptance.drafts} accepted"
    if not acceptance.accepted:
        return text
    low, high = acceptance.interval
    share = f"{acceptance.share_right:.0%}, 95 % interval {low:.0%} to {high:.0%}"
    return f"{text}, {acceptance.right} of these right ({share})"


def _format_interval(values: list[float]) -> str:
    value, low, high = values
    if value != value:  # NaN: all are right, or all are wrong
        return "unknown, since all drafts are right or all are wrong"
    return f"{value:.2f} ({low:.2f} to {high:.2f})"
