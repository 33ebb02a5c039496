"""Token log-probabilities -> named signals.

A signal is a raw statistic of a draft, never a confidence; `calibration` maps signals to a confidence.
Quantiles of token log-probabilities follow Gupta et al., "Language Model Cascades: Token-level uncertainty
and beyond" (arXiv 2404.10136), who show that plain sums and means are biased by length.
"""

from collections.abc import Collection, Iterable, Sequence
from math import exp, log, log1p
from typing import Literal, get_args

from routers.plan import TokenLike

from .answer_words import AnswerWord

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
    "answer",
    "answer_margin",
    "answer_entropy",
    "stop",
    "sentence_margin",
    "opening",
    "distinct",
    "reasoning_mean",
    "reasoning_min",
    "reasoning_log_length",
]
SIGNALS: tuple[SignalName, ...] = get_args(SignalName)
DISTRIBUTION = frozenset[SignalName](SIGNALS[: SIGNALS.index("first")])
"""Signals that read all tokens anew at each check, and so take most of its time."""

WINDOW = 5
MIN_LOGPROB = -20.0  # servers report an impossible token as -inf, -1e9 or -3e38; all mean "never"
NGRAM = 4


class MissingLogprobs(ValueError):
    """A token came without the log-probabilities that a signal needs."""


def compute_signals(tokens: Iterable[TokenLike], finish: str | None = None) -> dict[SignalName, float]:
    """Return all signals of a draft or of a draft's beginning: see `Signals.compute`."""
    collected = Signals()
    for token in tokens:
        collected.add(token)
    return collected.compute(finish)


class Signals:
    """Accumulates a draft's signals, so that each check of a running draft reads only the new tokens.

    Tokens are read in batches when `compute` is called, which costs half as much as reading them one by one.
    """

    def __init__(self) -> None:
        self._pending: list[TokenLike] = []
        self._logprobs: list[float] = []
        self._entropies: list[float] = []
        self._margins: list[float] = []
        self._texts: list[str] = []
        self._reasoning: list[float] = []
        self._grams: set[tuple[str, ...]] = set()
        self._word = AnswerWord()
        self._window = 0.0
        self._lowest_window = 0.0

    def add(self, token: TokenLike) -> None:
        self._pending.append(token)

    @property
    def texts(self) -> list[str]:
        """The answer's tokens so far."""
        return self._texts + [token.text for token in self._pending if not token.reasoning]

    def _read_pending(self) -> None:
        for token in self._pending:
            logprob, top = token.logprob, token.top
            if token.reasoning:
                self._reasoning.append(
                    MIN_LOGPROB if logprob is None else min(max(logprob, MIN_LOGPROB), 0.0)
                )
                continue
            if logprob is None:
                raise MissingLogprobs("a token came without its log-probability")
            if len(top) < 2:
                raise MissingLogprobs("a token came with fewer than two alternatives")
            if logprob > 0.0 or top[0] > 0.0:  # no log-probability is
                logprob, top = min(logprob, 0.0), [min(other, 0.0) for other in top]
            self._logprobs.append(logprob if logprob > MIN_LOGPROB else MIN_LOGPROB)
            self._margins.append(max(top[0], MIN_LOGPROB) - max(top[1], MIN_LOGPROB))
            self._entropies.append(_entropy(top))
            self._add_to_window()
            self._texts.append(token.text)
            self._word.add(token.text)
            if len(self._texts) >= NGRAM:
                self._grams.add(tuple(self._texts[-NGRAM:]))
        self._pending.clear()

    def _add_to_window(self) -> None:
        chosen = self._logprobs
        self._window += chosen[-1]
        if len(chosen) > WINDOW:
            self._window -= chosen[-1 - WINDOW]
            self._lowest_window = min(self._lowest_window, self._window)
        else:
            self._lowest_window = self._window

    def compute(
        self, finish: str | None = None, names: Collection[SignalName] = SIGNALS
    ) -> dict[SignalName, float]:
        """Return the signals so far, by name; at least those of `names`.

        `first`, `mean`, `q*`, `median`, `min`: log-probabilities of the chosen tokens, in nats, in [-20, 0].
        `window_min`: the lowest mean over 5 consecutive tokens. `entropy_*`: entropy over the top k and the
        rest as one more outcome, in nats. `margin_*`: best minus second-best log-probability, in nats.
        `log_length`: ln(1 + tokens). `repetition`: the share of repeated 4-grams, in [0, 1].
        `truncated`: 1 if `finish` is "length", else 0. `answer`: log-probability of the answer word (see
        `AnswerWord`); `answer_margin` and `answer_entropy`: of its first token.
        `stop`: log-probability of the token that ended the first sentence, or 0 before that.
        `sentence_margin`: the lowest margin before that token. `opening`: mean log-probability of the first
        two tokens. `distinct`: distinct tokens per token, in (0, 1].
        All of these read the answer's tokens. `reasoning_*` read the tokens of the reasoning before the
        answer, and are 0 without reasoning.

        Raises MissingLogprobs if there is no token, or if a token has no log-probability or fewer than two
        alternatives.
        """
        self._read_pending()
        n = len(self._logprobs)
        if not n:
            raise MissingLogprobs("a draft without tokens has no signals")
        grams = n - NGRAM + 1
        word = self._word
        return {
            **({} if DISTRIBUTION.isdisjoint(names) else self._compute_distribution(n)),
            "first": self._logprobs[0],
            "first_margin": self._margins[0],
            "log_length": log1p(n),
            "repetition": 1.0 - len(self._grams) / grams if grams > 0 else 0.0,
            "truncated": float(finish == "length"),
            "answer": max(MIN_LOGPROB, sum(self._logprobs[word.begin : word.end])),
            "answer_margin": self._margins[word.begin],
            "answer_entropy": self._entropies[word.begin],
            "stop": 0.0 if word.stop is None else self._logprobs[word.stop],
            "sentence_margin": min(self._margins[: word.stop]),
            "opening": sum(self._logprobs[:2]) / min(n, 2),
            "distinct": len(set(self._texts)) / n,
            "reasoning_mean": sum(self._reasoning) / max(1, len(self._reasoning)),
            "reasoning_min": min(self._reasoning, default=0.0),
            "reasoning_log_length": log1p(len(self._reasoning)),
        }

    def _compute_distribution(self, n: int) -> dict[SignalName, float]:
        ordered = sorted(self._logprobs)
        return {
            "mean": sum(ordered) / n,
            "q10": _quantile(ordered, 0.10),
            "q25": _quantile(ordered, 0.25),
            "median": _quantile(ordered, 0.50),
            "min": ordered[0],
            "window_min": self._lowest_window / min(n, WINDOW),
            "entropy_mean": sum(self._entropies) / n,
            "entropy_max": max(self._entropies),
            "margin_mean": sum(self._margins) / n,
            "margin_min": min(self._margins),
        }


def _entropy(top: Sequence[float]) -> float:
    entropy, rest = 0.0, 1.0
    for logprob in top:
        p = exp(logprob)
        rest -= p
        if p:
            entropy -= p * logprob
    return entropy - rest * log(rest) if rest > 1e-9 else entropy


def to_probability(logprob: float) -> float:
    """Return the probability. No log-probability is above 0: a server that reports one means certainty."""
    return exp(min(logprob, 0.0))


def _quantile(ordered: Sequence[float], q: float) -> float:
    """Return the `q` quantile by linear interpolation between order statistics (numpy's default)."""
    at = q * (len(ordered) - 1)
    low = int(at)
    if low + 1 == len(ordered):
        return ordered[low]
    return ordered[low] + (at - low) * (ordered[low + 1] - ordered[low])
