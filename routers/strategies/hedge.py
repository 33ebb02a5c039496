"""Hedge: both tiers start together; the small model wins if it commits before the large one writes.

Deferral rule: the cascade's, but the large model starts at once, which lowers latency at the price of one
more call. Dean and Barroso, "The Tail at Scale" (CACM 2013), for hedged requests; Gupta et al. (arXiv
2404.10136) for the confidence.
"""

from typing import Literal

from routers.fragments.fallback import alone, go_on, instead, served
from routers.plan import Answer, Both, Draft, Generate, Plan, Raced, Reason, Unavailable, Verdict
from routers.router import Request

from .cascade import Judging


class Hedge(Judging):
    """Both tiers are asked at once. The first to commit answers, and the other is cancelled."""

    kind: Literal["hedge"] = "hedge"
    """Names the strategy."""

    def plan(self, request: Request) -> Plan:
        if (other := self._without_draft(request)) is not None:
            return (yield from other)
        raced = yield Both(self._draft(request), Generate("llm", because=Reason.OUTRAN))
        assert isinstance(raced, Raced)  # noqa: S101  every driver answers an ask in kind
        if isinstance(raced.b, Draft) and raced.b.verdict is Verdict.COMMIT:
            return self._large_won(raced.a, raced.b)
        if isinstance(raced.a, Unavailable):
            return (yield from self._without_small(raced.a, raced.b))
        return (yield from self._small_ended(raced.a, raced.b))

    def _large_won(self, small: Draft | Unavailable, large: Draft) -> Answer:
        if isinstance(small, Unavailable):
            return served(large, instead(small))
        gave_up = small.verdict is Verdict.GIVE_UP and small.reason is not None
        return Answer((large,), small.reason if gave_up and small.reason else Reason.OUTRAN, small.confidence)

    def _without_small(self, lost: Unavailable, large: Draft | Unavailable) -> Plan:
        """The small model failed: continue its committed text, if any, else use the large model."""
        if lost.partial:
            return (yield from go_on(lost, lost.partial, self._observe))
        if isinstance(large, Unavailable):
            return (yield from self._without_both(lost, large))
        return (yield from self._after_loss(lost))

    def _small_ended(self, draft: Draft, large: Draft | Unavailable) -> Plan:
        if draft.verdict is Verdict.COMMIT:
            return served(draft, draft.reason or Reason.CONFIDENT)
        if isinstance(large, Unavailable) and not draft.kept:
            if large.partial:
                raise large
            if draft.finish is None:
                return (yield from alone(self._observe))
            return served(draft, Reason.NO_LLM)
        return (yield from self._escalate(draft, draft.reason or Reason.LOW_CONFIDENCE))
