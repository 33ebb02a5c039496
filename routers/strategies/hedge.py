"""Hedge: both tiers start together; the small model wins if it commits before the large one writes.

Deferral rule: the cascade's, but the large model starts at once, which lowers latency at the price of one
more call. Dean and Barroso, "The Tail at Scale" (CACM 2013), for hedged requests; Gupta et al. (arXiv
2404.10136) for the confidence.
"""

from typing import Literal

from routers.fragments.fallback import (
    answer_with,
    ask_slm,
    fallback_reason,
    missing_llm_reason,
    resume_after_failure,
)
from routers.plan import Answer, Both, Draft, Generate, Plan, Raced, Reason, Unavailable, Verdict
from routers.router import Request

from .cascade import ConfidenceRouter


class Hedge(ConfidenceRouter):
    """Both tiers are asked at once. The first to commit answers, and the other is cancelled."""

    kind: Literal["hedge"] = "hedge"
    """Names the strategy."""

    def plan(self, request: Request) -> Plan:
        if (other := self._plan_without_draft(request)) is not None:
            return (yield from other)
        raced = yield Both(self._build_draft_ask(request), Generate("llm", because=Reason.OUTRAN))
        assert isinstance(raced, Raced)  # noqa: S101  every driver answers an ask in kind
        if isinstance(raced.b, Draft) and raced.b.verdict is Verdict.COMMIT:
            return self._serve_llm_draft(raced.a, raced.b)
        if isinstance(raced.a, Unavailable):
            return (yield from self._handle_slm_failure(raced.a, raced.b))
        return (yield from self._settle_slm_draft(raced.a, raced.b))

    def _serve_llm_draft(self, small: Draft | Unavailable, large: Draft) -> Answer:
        if isinstance(small, Unavailable):
            return answer_with(large, fallback_reason(small))
        gave_up = small.verdict is Verdict.GIVE_UP and small.reason is not None
        return Answer((large,), small.reason if gave_up and small.reason else Reason.OUTRAN, small.confidence)

    def _handle_slm_failure(self, failure: Unavailable, large: Draft | Unavailable) -> Plan:
        """The small model failed: continue its committed text, if any, else use the large model."""
        if failure.partial:
            return (yield from resume_after_failure(failure, failure.partial, self._build_observer))
        if isinstance(large, Unavailable):
            return (yield from self._answer_without_both(failure, large))
        return (yield from self._answer_without_slm(failure))

    def _settle_slm_draft(self, draft: Draft, large: Draft | Unavailable) -> Plan:
        if draft.verdict is Verdict.COMMIT:
            return answer_with(draft, draft.reason or Reason.CONFIDENT)
        if isinstance(large, Unavailable) and not draft.kept:
            if large.partial:
                raise large
            reason = missing_llm_reason(large)
            if draft.finish is None:
                return (yield from ask_slm(self._build_observer, reason))
            return answer_with(draft, reason)
        return (yield from self._escalate(draft, draft.reason or Reason.LOW_CONFIDENCE))
