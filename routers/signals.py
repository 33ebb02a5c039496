"""Token log-probabilities -> named signals.

A signal is a raw statistic of a draft, never a confidence: `calibration` maps signals to one. Quantiles of
token log-probabilities follow Gupta et al., "Language Model Cascades: Token-level uncertainty and beyond"
(arXiv 2404.10136), which shows why plain sums and means are biased by length.
"""

from collections.abc import Sequence
from math import exp, log, log1p
from typing import Literal, get_args

from .plan import Token

SignalName = Literal[
    "mean",
    "q10",
    "q25",
    "median",
    "min",
    "window_min",
    "entropy_mean",
    "entropy_max",
    "margin_mean",
    "margin_min",
    "first",
    "first_margin",
    "log_length",
    "repetition",
    "truncated",
]
SIGNALS: tuple[SignalName, ...] = get_args(SignalName)

WINDOW = 5
FLOOR = -20.0  # servers report an impossible token as -inf, -1e9 or -3e38; all mean "never"
GRAM = 4


class MissingLogprobs(ValueError):
    """A token came without the log-probabilities that a signal needs."""


def signals(tokens: Sequence[Token], finish: str | None = None) -> dict[SignalName, float]:
    """All signals of a draft or of a draft's beginning.

    `first`, `mean`, `q*`, `median`, `min`: chosen tokens' log-probabilities, in nats, in [-20, 0].
    `window_min`: the lowest mean over 5 tokens in a row. `entropy_*`: over the top k and the rest as one
    more outcome, in nats. `margin_*`: best minus second best, in nats. `log_length`: ln(1 + tokens).
    `repetition`: the share of 4-grams seen before, in [0, 1]. `truncated`: 1 where `finish` is "length".

    Raises MissingLogprobs where a token has none, or fewer than two alternatives, or there is no token.
    """
    if not tokens:
        raise MissingLogprobs("a draft without tokens has no signals")
    chosen = [_floored(token.logprob) for token in tokens]
    entropies, margins = _spread(tokens)
    ordered = sorted(chosen)
    n = len(chosen)
    return {
        "mean": sum(chosen) / n,
        "q10": _quantile(ordered, 0.10),
        "q25": _quantile(ordered, 0.25),
        "median": _quantile(ordered, 0.50),
        "min": ordered[0],
        "window_min": _lowest_window(chosen),
        "entropy_mean": sum(entropies) / n,
        "entropy_max": max(entropies),
        "margin_mean": sum(margins) / n,
        "margin_min": min(margins),
        "first": chosen[0],
        "first_margin": margins[0],
        "log_length": log1p(n),
        "repetition": _repetition(tokens),
        "truncated": float(finish == "length"),
    }


def _floored(logprob: float | None) -> float:
    if logprob is None:
        raise MissingLogprobs("a token came without its log-probability")
    return max(logprob, FLOOR)


def _spread(tokens: Sequence[Token]) -> tuple[list[float], list[float]]:
    entropies, margins = [], []
    for token in tokens:
        top = token.top
        if len(top) < 2:
            raise MissingLogprobs("a token came with fewer than two alternatives")
        margins.append(max(top[0], FLOOR) - max(top[1], FLOOR))
        entropy, rest = 0.0, 1.0
        for logprob in top:
            p = exp(logprob)
            rest -= p
            entropy -= p * max(logprob, FLOOR)
        entropies.append(entropy - rest * log(rest) if rest > 1e-9 else entropy)
    return entropies, margins


def _quantile(ordered: Sequence[float], q: float) -> float:
    """Linear interpolation between order statistics (numpy's default)."""
    at = q * (len(ordered) - 1)
    low = int(at)
    if low + 1 == len(ordered):
        return ordered[low]
    return ordered[low] + (at - low) * (ordered[low + 1] - ordered[low])


def _lowest_window(chosen: Sequence[float]) -> float:
    if len(chosen) <= WINDOW:
        return sum(chosen) / len(chosen)
    total = lowest = sum(chosen[:WINDOW])
    for i in range(WINDOW, len(chosen)):
        total += chosen[i] - chosen[i - WINDOW]
        lowest = min(lowest, total)
    return lowest / WINDOW


def _repetition(tokens: Sequence[Token]) -> float:
    texts = [token.text for token in tokens]
    grams = list(zip(*(texts[i:] for i in range(GRAM)), strict=False))
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0
