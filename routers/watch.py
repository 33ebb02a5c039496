"""Follows a draft token by token: hold it, commit it early, or give it up early."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from .confidence.answer_words import END, shape
from .confidence.calibration import Calibrator
from .confidence.signals import MissingLogprobs, Signals, signals
from .plan import Reason, TokenLike, Verdict
from .structure.loops import TAIL, looping, stuck

FIRST_LOOK = 6
"""Tokens before the first look: fewer say little."""

LOOP_LOOK = 64
"""Tokens between two looks at a draft that stands in any case, whether it can leave its loop."""

Release = Literal["hold", "commit", "splice"]
"""When a stream's draft flows: at its end; every token from the moment its running confidence clears; or sentence
by sentence, as long as it does."""


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

    While the draft runs it looks at `looks`, and under `splice` at the ends of sentences too, the only places where
    that release commits. A look gives up when the running confidence is under `give_up`, or when the draft loops;
    it commits when the confidence reaches `commit`. None switches either threshold off. Under `commit` every token
    flows after the first COMMIT and nothing is looked at any more; under `splice` a later look may still give up what
    was not committed. At the end the draft is accepted when its structure is sound and its final confidence
    reaches `accept`; an accepted one under `judged_below` stays held, for its plan to judge.
    """

    calibrator: Calibrator
    accept: float
    commit: float | None = None
    give_up: float | None = None
    release: Release = "commit"
    judged_below: float = 0.0
    reason: Reason | None = None
    confidence: float | None = None
    flows: bool = False
    _signals: Signals = field(default_factory=Signals)
    _count: int = 0
    _next_look: int = FIRST_LOOK

    def token(self, token: TokenLike) -> Verdict:
        if self.flows:
            return Verdict.COMMIT
        self._signals.add(token)
        if token.reasoning:
            return Verdict.CONTINUE
        if token.logprob is None:
            return self._give_up(Reason.NO_LOGPROBS)
        self._count += 1
        due = self._count >= self._next_look
        if due:
            self._next_look += self._next_look // 2
        at_end = self.release == "splice" and shape(token.text) == END and self._count >= FIRST_LOOK
        return (
            self._look(may_commit=at_end or self.release == "commit") if due or at_end else Verdict.CONTINUE
        )

    def _look(self, *, may_commit: bool) -> Verdict:
        if looping(self._signals.texts):
            return self._give_up(Reason.LOOP)
        if self.commit is None and self.give_up is None:
            return Verdict.CONTINUE
        confidence = self._judge(None, finished=False)
        if confidence is None:
            return self._give_up(Reason.NO_LOGPROBS)
        if self.give_up is not None and confidence < self.give_up:
            return self._give_up(Reason.GAVE_UP)
        if may_commit and self.commit is not None and confidence >= self.commit:
            self.flows, self.reason = self.release == "commit", Reason.COMMITTED
            return Verdict.COMMIT
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

    def end(self, finish: str | None, flaw: Reason | None = None) -> Verdict:
        if self.flows:
            return Verdict.COMMIT
        if flaw is not None or not self._count:
            return self._give_up(flaw or Reason.EMPTY)
        confidence = self._judge(finish, finished=True)
        if confidence is None:
            return self._give_up(Reason.NO_LOGPROBS)
        if confidence < self.accept:
            return self._give_up(Reason.LOW_CONFIDENCE)
        self.reason = Reason.COMMITTED if self.reason is Reason.COMMITTED else Reason.CONFIDENT
        return Verdict.CONTINUE if confidence < self.judged_below else Verdict.COMMIT


@dataclass(slots=True)
class ObservingWatch:
    """Commits every token: for a draft that stands whatever it is worth. With a calibrator it still says at
    the end how confident the draft was. With `ends_loops` it gives up a draft that is `stuck`, looking every
    `LOOP_LOOK` tokens: all of it stands, but a small model would go on until its context is full."""

    calibrator: Calibrator | None = None
    ends_loops: bool = False
    reason: Reason | None = None
    confidence: float | None = None
    _tokens: list[TokenLike] = field(default_factory=list)

    def token(self, token: TokenLike) -> Verdict:
        self._tokens.append(token)
        if self.ends_loops and len(self._tokens) % LOOP_LOOK == 0 and self._is_stuck():
            self.reason = Reason.LOOP
            self._judge("length")
            return Verdict.GIVE_UP
        return Verdict.COMMIT

    def _is_stuck(self) -> bool:
        return stuck([token.text for token in self._tokens[-TAIL:]])

    def end(self, finish: str | None, flaw: Reason | None = None) -> Verdict:
        self._judge(finish)
        return Verdict.COMMIT

    def _judge(self, finish: str | None) -> None:
        if self.calibrator is None:
            return
        try:
            self.confidence = self.calibrator.confidence(signals(self._tokens, finish), finished=True)
        except MissingLogprobs:
            self.confidence = None


@dataclass(slots=True)
class HeldWatch:
    """Holds a draft to its end, for its plan to judge; what its structure lacks is the reason."""

    reason: Reason | None = None
    confidence: float | None = None
    _texts: list[str] = field(default_factory=list)

    def token(self, token: TokenLike) -> Verdict:
        self._texts.append(token.text)
        return Verdict.CONTINUE

    def end(self, finish: str | None, flaw: Reason | None = None) -> Verdict:
        self.reason = Reason.LOOP if looping(self._texts) else flaw
        return Verdict.CONTINUE
