"""Direct: one tier always; the other as fallback."""

from typing import Literal

from .plan import Answer, Generate, Plan, Reason, Request, Router, Tier, Unavailable
from .watch import ObservingWatch

FALLBACK_REASON: dict[Tier, Reason] = {"slm": Reason.NO_SLM, "llm": Reason.NO_LLM}


class Direct(Router):
    """No deferral rule: one tier answers; where it can't be had and `fallback` allows, the other does."""

    kind: Literal["direct"] = "direct"
    """Names the strategy."""
    tier: Tier
    """Who answers."""
    fallback: bool = True
    """Whether the other tier answers where this one can't be had."""
    follow: bool = False
    """Reads the tokens' log-probabilities into the record, as a calibrator's training needs them."""

    def plan(self, request: Request) -> Plan:
        other: Tier = "llm" if self.tier == "slm" else "slm"
        alone = not self.fallback or other not in request.tiers
        watch = ObservingWatch if self.follow and request.judgeable else None
        try:
            draft = yield Generate(self.tier, watch=watch, patience=RESTART_PATIENCE if alone else 0.0)
            return Answer((draft,), Reason.POLICY)
        except Unavailable as lost:
            if alone or lost.partial or lost.why == "rejected":
                raise
            too_long = lost.why == "context"
        reason = Reason.CONTEXT_TOO_LONG if too_long else FALLBACK_REASON[self.tier]
        draft = yield Generate(other, patience=RESTART_PATIENCE, because=reason)
        return Answer((draft,), reason)


RESTART_PATIENCE = 15.0
"""Seconds a plan without another tier waits for a small model that is restarting."""
