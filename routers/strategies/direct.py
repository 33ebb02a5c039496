"""Direct: one tier answers every request; the other is its fallback."""

from collections.abc import Mapping
from typing import Literal

from routers.fragments.fallback import RESTART_PATIENCE, capable, instead, served, write
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
        alone = not self.fallback or other not in request.tiers or other not in request.able
        if not alone and self.tier not in request.able:
            return (yield from capable(other))
        watch = ObservingWatch if self.follow and request.judgeable else None
        patience = RESTART_PATIENCE if alone else 0.0
        try:
            draft = yield from write(Generate(self.tier, watch, patience=patience))
            return served(draft, Reason.POLICY)
        except Unavailable as lost:
            if alone or lost.partial or lost.why == "rejected":
                raise
            reason = instead(lost)
        return served((yield from write(Generate(other, patience=RESTART_PATIENCE, because=reason))), reason)
