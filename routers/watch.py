"""Follows a draft token by token: hold it, commit it early, or give it up early."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from .calibration import Calibrator
from .plan import Reason, Token, Verdict
from .signals import MissingLogprobs, signals

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
    _tokens: list[Token] = field(default_factory=list)
    _next_look: int = FIRST_LOOK

    def token(self, token: Token) -> Verdict:
        self._tokens.append(token)
        if self.committed:
            return Verdict.COMMIT
        if len(self._tokens) < self._next_look:
            return Verdict.CONTINUE
        self._next_look += self._next_look // 2
        return self._look()

    def _look(self) -> Verdict:
        if self.commit is None and self.give_up is None:
            return Verdict.CONTINUE
        try:
            self.confidence = self.calibrator.confidence(signals(self._tokens), finished=False)
        except MissingLogprobs:
            self.reason = Reason.NO_LOGPROBS
            return Verdict.GIVE_UP
        if self.commit is not None and self.confidence >= self.commit:
            self.committed, self.reason = True, Reason.COMMITTED
            return Verdict.COMMIT
        if self.give_up is not None and self.confidence < self.give_up:
            self.reason = Reason.GAVE_UP
            return Verdict.GIVE_UP
        return Verdict.CONTINUE

    def end(self, finish: str | None) -> Verdict:
        if self.committed:
            return Verdict.COMMIT
        if not self._tokens:
            self.reason = Reason.EMPTY
            return Verdict.GIVE_UP
        try:
            self.confidence = self.calibrator.confidence(signals(self._tokens, finish), finished=True)
        except MissingLogprobs:
            self.reason = Reason.NO_LOGPROBS
            return Verdict.GIVE_UP
        accepted = self.confidence >= self.accept
        self.reason = Reason.CONFIDENT if accepted else Reason.LOW_CONFIDENCE
        return Verdict.COMMIT if accepted else Verdict.GIVE_UP


@dataclass(slots=True)
class ObservingWatch:
    """Commits every token: for a draft that stands whatever it is worth. With a calibrator it still says at
    the end how confident the draft was."""

    calibrator: Calibrator | None = None
    reason: Reason | None = None
    confidence: float | None = None
    _tokens: list[Token] = field(default_factory=list)

    def token(self, token: Token) -> Verdict:
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
