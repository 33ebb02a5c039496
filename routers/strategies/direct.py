"""Direct: one tier answers every request; the other is its fallback."""

from collections.abc import Mapping
from typing import Literal

from routers.fragments.fallback import RESTART_PATIENCE, answer_with, ask_capable_tier, fallback_reason, write
from routers.plan import Capability, Generate, Plan, Reason, Tier, Unavailable
from routers.router import Request, Router
from routers.watch import ObservingWatch


class Direct(Router):
    """One tier answers, without a deferral rule. The other is its fallback if `fallback` is set."""

    kind: Literal["direct"] = "direct"
    """Names the strategy."""
    tier: Tier
    """The tier that answers."""
    fallback: bool = True
    """Whether the other tier answers if this one is unavailable."""
    follow: bool = False
    """Whether the record keeps the tokens' log-probabilities, which a calibrator's training needs."""

    @property
    def needs(self) -> Mapping[Tier, Mapping[Capability, str]]:
        return {self.tier: {"logprobs": "follow"}} if self.follow else {}

    def plan(self, request: Request) -> Plan:
        other: Tier = "llm" if self.tier == "slm" else "slm"
        is_only_tier = not self.fallback or other not in request.tiers or other not in request.able
        if not is_only_tier and self.tier in request.incapable:
            return (yield from ask_capable_tier(other))
        watch = ObservingWatch if self.follow and request.judgeable else None
        patience = RESTART_PATIENCE if is_only_tier else 0.0
        try:
            draft = yield from write(Generate(self.tier, watch, patience=patience))
            return answer_with(draft, Reason.POLICY)
        except Unavailable as failure:
            if is_only_tier or failure.partial or failure.why == "rejected":
                raise
            reason = fallback_reason(failure)
        return answer_with(
            (yield from write(Generate(other, patience=RESTART_PATIENCE, because=reason))), reason
        )
