"""Tokens, calibrators and plans' runs, made by hand: for the tests of routers and policies."""

from collections.abc import Sequence
from math import log
from typing import Any

from routers.confidence.calibration import Calibrator, Logistic, LogprobSource, TrainingSet
from routers.plan import Answer, Generate, Plan, Token, Unavailable
from routers.strategies.difficulty import Scorer

MADE_FOR = LogprobSource(model="small", engine="openai")
TRAINED_ON = TrainingSet(records="made by hand", sha256="0", drafts=1, date="2026-01-01")


def token(logprob: float | None = -0.5, text: str = "a", top: Sequence[float] | None = None) -> Token:
    """`top` is the token itself and one unlikely alternative where it is not given."""
    if top is None:
        top = () if logprob is None else (logprob, logprob - 2.0)
    return Token(text, logprob, top)


def tokens(*logprobs: float | None) -> list[Token]:
    return [token(logprob, f"t{number}") for number, logprob in enumerate(logprobs)]


def calibrator(**changes: Any) -> Calibrator:
    """confidence = sigmoid(4 + 4 * mean log-probability), finished or not."""
    rule = Logistic(intercept=4.0, weights=(4.0,))
    fields = {"signals": ("mean",), "center": (0.0,), "scale": (1.0,), "final": rule, "running": rule}
    return Calibrator(**{"made_for": MADE_FOR, "trained_on": TRAINED_ON, **fields, **changes})


def constrained_calibrator() -> Calibrator:
    """The other mode's, which doubts the same drafts: confidence = sigmoid(4 * mean log-probability)."""
    rule = Logistic(intercept=0.0, weights=(4.0,))
    made_for = MADE_FOR.model_copy(update={"mode": "constrained"})
    return calibrator(made_for=made_for, final=rule, running=rule)


def scorer(**changes: Any) -> Scorer:
    """score = sigmoid(2 - (turns - 1) / 2)."""
    fields = {"features": ("turns",), "center": (1.0,), "scale": (2.0,)}
    rule = Logistic(intercept=2.0, weights=(-1.0,))
    return Scorer(**{"made_for": MADE_FOR, "trained_on": TRAINED_ON, "rule": rule, **fields, **changes})


def worth(confidence: float, count: int = 3) -> list[Token]:
    """Tokens to which `calibrator` gives this confidence (0.98 at most), but for rounding."""
    return tokens(*[(log(confidence / (1.0 - confidence)) - 4.0) / 4.0] * count)


def settled(plan: Plan, *outcomes: Any) -> tuple[list[Generate], Answer | Unavailable]:
    """What the plan asked, and what it came to, when its asks end like this. All outcomes must be used."""
    asks = [next(plan)]
    left = list(outcomes)
    try:
        while True:
            outcome = left.pop(0)
            asks.append(plan.throw(outcome) if isinstance(outcome, Unavailable) else plan.send(outcome))
    except StopIteration as end:
        assert not left
        answer: Answer = end.value
        return asks, answer
    except Unavailable as error:
        assert not left
        return asks, error
