"""Watches that follow a draft token by token: hold it, commit it early, or give it up early."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from .confidence.answer_words import SENTENCE_END, token_shape
from .confidence.calibration import Calibrator
from .confidence.signals import MissingLogprobs, Signals, compute_signals
from .plan import Reason, TokenLike, Verdict
from .structure.loops import MAX_TAIL, is_looping, is_stuck

FIRST_CHECK = 6
"""Answer tokens before the first check. Fewer tokens are weak evidence."""

LOOP_CHECK_INTERVAL = 64
"""Tokens between two loop checks of a draft that `ObservingWatch` commits in any case."""

Release = Literal["hold", "commit", "splice"]
"""When a stream's draft is released: `hold` at its end; `commit` every token once the running confidence
reaches the threshold; `splice` sentence by sentence while the running confidence reaches it."""


def checkpoints(max_tokens: int) -> Iterator[int]:
    """Yield the token counts, up to `max_tokens`, at which a running draft is checked.

    The intervals grow: each check is one more chance of a wrong decision, and a check after every token would
    cost quadratic time.
    """
    at = FIRST_CHECK
    while at <= max_tokens:
        yield at
        at += at // 2


@dataclass(slots=True)
class ConfidenceWatch:
    """Holds a draft until its calibrated confidence decides.

    A running draft is checked at `checkpoints` and, under `splice`, at sentence ends, the only places where
    that release commits. A check gives up if the draft loops or its running confidence is below `give_up`. It
    commits if the confidence reaches `commit`. None disables either threshold.
    Under `commit`, every token flows after the first COMMIT and no check follows. Under `splice`, a later
    check may still give up the text that was not committed.
    At its end, the draft is accepted if it has no structural flaw and its final confidence reaches `accept`.
    An accepted draft with a confidence below `hold_below` stays held, for its plan to judge.
    """

    calibrator: Calibrator
    accept: float
    commit: float | None = None
    give_up: float | None = None
    release: Release = "commit"
    hold_below: float = 0.0
    reason: Reason | None = None
    confidence: float | None = None
    is_flowing: bool = False
    _signals: Signals = field(default_factory=Signals)
    _count: int = 0
    _next_check: int = FIRST_CHECK

    def token(self, token: TokenLike) -> Verdict:
        if self.is_flowing:
            return Verdict.COMMIT
        self._signals.add(token)
        if token.reasoning:
            return Verdict.CONTINUE
        if token.logprob is None:
            return self._give_up(Reason.NO_LOGPROBS)
        self._count += 1
        due = self._count >= self._next_check
        if due:
            self._next_check += self._next_check // 2
        at_end = (
            self.release == "splice"
            and token_shape(token.text) == SENTENCE_END
            and self._count >= FIRST_CHECK
        )
        return (
            self._check(may_commit=at_end or self.release == "commit") if due or at_end else Verdict.CONTINUE
        )

    def _check(self, *, may_commit: bool) -> Verdict:
        if is_looping(self._signals.texts):
            return self._give_up(Reason.LOOP)
        if self.commit is None and self.give_up is None:
            return Verdict.CONTINUE
        confidence = self._update_confidence(None, finished=False)
        if confidence is None:
            return self._give_up(Reason.NO_LOGPROBS)
        if self.give_up is not None and confidence < self.give_up:
            return self._give_up(Reason.GAVE_UP)
        if may_commit and self.commit is not None and confidence >= self.commit:
            self.is_flowing, self.reason = self.release == "commit", Reason.COMMITTED
            return Verdict.COMMIT
        return Verdict.CONTINUE

    def _update_confidence(self, finish: str | None, *, finished: bool) -> float | None:
        """Return the current confidence, or None if log-probabilities are missing."""
        try:
            signals = self._signals.compute(finish, self.calibrator.signals)
        except MissingLogprobs:
            return None
        self.confidence = self.calibrator.confidence(signals, finished=finished)
        return self.confidence

    def _give_up(self, reason: Reason) -> Verdict:
        self.reason = reason
        return Verdict.GIVE_UP

    def end(self, finish: str | None, flaw: Reason | None = None) -> Verdict:
        if self.is_flowing:
            return Verdict.COMMIT
        if flaw is not None or not self._count:
            return self._give_up(flaw or Reason.EMPTY)
        confidence = self._update_confidence(finish, finished=True)
        if confidence is None:
            return self._give_up(Reason.NO_LOGPROBS)
        if confidence < self.accept:
            return self._give_up(Reason.LOW_CONFIDENCE)
        self.reason = Reason.COMMITTED if self.reason is Reason.COMMITTED else Reason.CONFIDENT
        return Verdict.CONTINUE if confidence < self.hold_below else Verdict.COMMIT


@dataclass(slots=True)
class ObservingWatch:
    """Commits every token of a draft that is served whatever its quality.

    With a calibrator, it computes the draft's confidence at the end. With `ends_loops`, it checks every
    `LOOP_CHECK_INTERVAL` tokens and gives up a draft that `is_stuck`, since a small model would otherwise
    repeat itself until its context is full. The text so far stays committed.
    """

    calibrator: Calibrator | None = None
    ends_loops: bool = False
    reason: Reason | None = None
    confidence: float | None = None
    _tokens: list[TokenLike] = field(default_factory=list)

    def token(self, token: TokenLike) -> Verdict:
        self._tokens.append(token)
        if self.ends_loops and len(self._tokens) % LOOP_CHECK_INTERVAL == 0 and self._is_stuck():
            self.reason = Reason.LOOP
            self._update_confidence("length")
            return Verdict.GIVE_UP
        return Verdict.COMMIT

    def _is_stuck(self) -> bool:
        return is_stuck([token.text for token in self._tokens[-MAX_TAIL:]])

    def end(self, finish: str | None, flaw: Reason | None = None) -> Verdict:
        self._update_confidence(finish)
        return Verdict.COMMIT

    def _update_confidence(self, finish: str | None) -> None:
        if self.calibrator is None:
            return
        try:
            self.confidence = self.calibrator.confidence(compute_signals(self._tokens, finish), finished=True)
        except MissingLogprobs:
            self.confidence = None


@dataclass(slots=True)
class HeldWatch:
    """Holds a draft to its end, for its plan to judge. `reason` is the draft's structural flaw, or None."""

    reason: Reason | None = None
    confidence: float | None = None
    _texts: list[str] = field(default_factory=list)

    def token(self, token: TokenLike) -> Verdict:
        self._texts.append(token.text)
        return Verdict.CONTINUE

    def end(self, finish: str | None, flaw: Reason | None = None) -> Verdict:
        self.reason = Reason.LOOP if is_looping(self._texts) else flaw
        return Verdict.CONTINUE
