"""Follows a draft token by token: hold it, commit it early, or give it up early."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from .calibration import Calibrator
from .plan import Reason, TokenLike, Verdict
from .signals import MissingLogprobs, Signals, signals

FIRST_LOOK = 6
"""Tokens before the first look: fewer say little."""


def looks(tokens: int) -> Iterator[int]:
    """The token counts, up to `tokens`, after which a running draft is looked at: growing intervals, since
    each look is one more chance to be wrong, and looking after every token would cost quadratic time."""
    at = FIRST_LOOK
    while at <= tokens:
        yield at
        at += at // 2


@dataclass(slots=True)
class ConfidenceWatch:
    """Holds a draft until its calibrated confidence decides.

    While the draft runs it looks at `looks`. A look commits when the running confidence reaches `commit`, gives
    up when it is under `give_up`; None switches either off. After a commit every token flows. At the end the
    draft is accepted when its final confidence reaches `accept`.
    """

    calibrator: Calibrator
    accept: float
    commit: float | None = None
    give_up: float | None = None
    reason: Reason | None = None
    confidence: float | None = None
    committed: bool = False
    _signals: Signals = field(default_factory=Signals)
    _count: int = 0
    _next_look: int = FIRST_LOOK

    def token(self, token: TokenLike) -> Verdict:
        if self.committed:
            return Verdict.COMMIT
        if token.logprob is None:
            return self._give_up(Reason.NO_LOGPROBS)
        self._signals.add(token)
        self._count += 1
        if self._count < self._next_look:
            return Verdict.CONTINUE
        self._next_look += self._next_look // 2
        return self._look()

    def _look(self) -> Verdict:
        if self.commit is None and self.give_up is None:
            return Verdict.CONTINUE
        confidence = self._judge(None, finished=False)
        if confidence is None:
            return self._give_up(Reason.NO_LOGPROBS)
        if self.commit is not None and confidence >= self.commit:
            self.committed, self.reason = True, Reason.COMMITTED
            return Verdict.COMMIT
        if self.give_up is not None and confidence < self.give_up:
            return self._give_up(Reason.GAVE_UP)
        return Verdict.CONTINUE

    def _judge(self, finish: str | None, *, finished: bool) -> float | None:
        """The confidence now; None where the log-probabilities that it needs are missing."""
        try:
            signals = self._signals.named(finish)
        except MissingLogprobs:
            return None
        self.confidence = self.calibrator.confidence(signals, finished=finished)
        return self.confidence

    def _give_up(self, reason: Reason) -> Verdict:
        self.reason = reason
        return Verdict.GIVE_UP

    def end(self, finish: str | None) -> Verdict:
        if self.committed:
            return Verdict.COMMIT
        if not self._count:
            return self._give_up(Reason.EMPTY)
        confidence = self._judge(finish, finished=True)
        if confidence is None:
            return self._give_up(Reason.NO_LOGPROBS)
        if confidence < self.accept:
            return self._give_up(Reason.LOW_CONFIDENCE)
        self.reason = Reason.CONFIDENT
        return Verdict.COMMIT


@dataclass(slots=True)
class ObservingWatch:
    """Commits every token: for a draft that stands whatever it is worth. With a calibrator it still says at
    the end how confident the draft was."""

    calibrator: Calibrator | None = None
    reason: Reason | None = None
    confidence: float | None = None
    _tokens: list[TokenLike] = field(default_factory=list)

    def token(self, token: TokenLike) -> Verdict:
        self._tokens.append(token)
        return Verdict.COMMIT

    def end(self, finish: str | None) -> Verdict:
        if self.calibrator is None:
            return Verdict.COMMIT
        try:
            self.confidence = self.calibrator.confidence(signals(self._tokens, finish), finished=True)
        except MissingLogprobs:
            self.confidence = None
        return Verdict.COMMIT
