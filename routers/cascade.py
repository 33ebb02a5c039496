"""Cascade: the small model drafts, its calibrated confidence accepts or defers to the large one.

Deferral rule: defer when P(the draft is good enough | token-level signals) < accept. Chen et al., FrugalGPT
(arXiv 2305.05176) for the cascade; Gupta et al. (arXiv 2404.10136) for learned rules over token uncertainty.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .calibration import Calibrator
from .direct import RESTART_PATIENCE
from .plan import Answer, Draft, Generate, Plan, Reason, Request, Router, Unavailable, Verdict
from .watch import ConfidenceWatch, ObservingWatch

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class Cascade(Router):
    """The small model drafts; its calibrated confidence accepts the draft or defers to the large one."""

    kind: Literal["cascade"] = "cascade"
    """Names the strategy."""
    accept: Probability
    """Lowest confidence of a finished draft that is served."""
    commit: Probability | None = None
    """Running confidence at which a stream stops holding its draft back; null: held to the end."""
    give_up: Probability | None = None
    """Running confidence under which a draft is stopped; null: drafted to the end."""
    calibrator: Calibrator
    """Signals -> confidence: `stock`, or a calibrator's JSON file, its path relative to the policy's."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.commit is not None and self.commit < self.accept:
            raise ValueError("commit must be at least accept: a beginning says less than a finished draft")
        if self.give_up is not None and self.give_up > self.accept:
            raise ValueError("give_up must be at most accept: a draft that would be accepted is not hopeless")
        return self

    def plan(self, request: Request) -> Plan:
        if not request.judgeable:
            return (yield from self._unjudged())
        if "llm" not in request.tiers:
            return (yield from self._alone())
        try:
            draft = yield Generate("slm", watch=lambda: self._watch(request.stream))
        except Unavailable as lost:
            return (yield from self._after_loss(lost))
        if draft.verdict is Verdict.COMMIT:
            return _served(draft, draft.reason or Reason.CONFIDENT)
        return (yield from self._escalate(draft))

    def _watch(self, stream: bool) -> ConfidenceWatch:
        # A plain reply leaves whole: committing its beginning early would only forgo the better judgement.
        commit = self.commit if stream else None
        return ConfidenceWatch(self.calibrator, self.accept, commit, self.give_up)

    def _observe(self) -> ObservingWatch:
        return ObservingWatch(self.calibrator)

    def _alone(self) -> Plan:
        try:
            draft = yield self._redraft()
        except Unavailable as lost:
            if not lost.partial:
                raise
            return (yield from self._resume(lost.partial, Reason.NO_LLM))
        return _served(draft, Reason.NO_LLM)

    def _redraft(self) -> Generate:
        return Generate("slm", watch=self._observe, patience=RESTART_PATIENCE, because=Reason.NO_LLM)

    def _resume(self, begun: Draft, reason: Reason) -> Plan:
        """The client has the answer's beginning: only its writer can go on."""
        rest = yield Generate("slm", self._observe, begun.text, RESTART_PATIENCE, reason)
        return Answer((begun, rest), reason, begun.confidence)

    def _unjudged(self) -> Plan:
        try:
            return Answer(((yield Generate("llm", because=Reason.NOT_JUDGED)),), Reason.NOT_JUDGED)
        except Unavailable as gone:
            if gone.partial or gone.why == "rejected":
                raise
        draft = yield Generate("slm", patience=RESTART_PATIENCE, because=Reason.NO_LLM)
        return Answer((draft,), Reason.NO_LLM)

    def _escalate(self, draft: Draft) -> Plan:
        because = draft.reason or Reason.LOW_CONFIDENCE
        try:
            better = yield Generate("llm", because=because)
            return Answer((better,), because, draft.confidence)
        except Unavailable as gone:
            if gone.partial:
                raise
        if draft.finish is None:  # stopped early: there is no whole draft to fall back on
            return (yield from self._alone())
        return _served(draft, Reason.NO_LLM)

    def _after_loss(self, lost: Unavailable) -> Plan:
        if lost.partial:
            return (yield from self._resume(lost.partial, Reason.COMMITTED))
        reason = Reason.CONTEXT_TOO_LONG if lost.why == "context" else Reason.NO_SLM
        try:
            return Answer(((yield Generate("llm", because=reason)),), reason)
        except Unavailable as gone:
            if gone.partial:
                raise
            if lost.why in ("context", "rejected"):
                raise lost from gone
        return (yield from self._alone())


def _served(draft: Draft, reason: Reason) -> Answer:
    return Answer((draft,), reason, draft.confidence)
