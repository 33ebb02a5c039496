"""The schema of a policy file, and the plan of a request under the policy."""

import hashlib
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from routers.fragments.fallback import ask_llm, refuse_downgrades
from routers.fragments.passage_filter import PassageFilter, filter_passages
from routers.judges.guard import Guard, guard_plan
from routers.plan import Plan, Reason
from routers.router import Request

from .ceilings import Ceilings as Ceilings
from .compress import Compress
from .evaluate import Evaluate
from .private import PrivateSetting
from .strategies import AnyRouter

PROTECTED_FIELDS = frozenset(("kind", "calibrator", "constrained_calibrator", "otherwise"))
"""Router fields that no request may override: the strategy, trained files, and nested strategies."""


class Shadow(BaseModel):
    """Runs another policy on a share of the traffic. Its answers go to the records only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    policy: str
    """Name of the other policy, which must be a served one."""
    share: Annotated[float, Field(gt=0, le=1)]
    """Share of the answered exchanges that are also run under the other policy."""
    ceilings: Ceilings = Ceilings()
    """Limits on one shadow exchange."""
    usd_per_hour: Annotated[float, Field(gt=0)] | None = None
    """Dollars an hour; once they are spent, no shadow begins until the hour is over. null: no limit."""


class Affinity(BaseModel):
    """Keeps a conversation with the large model after an escalation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    turns: Annotated[int, Field(ge=1, le=1000)]
    """How many further turns stay with the large model."""


class Policy(BaseModel):
    """Decides when the small model's answer is good enough, and when the large model takes over."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[!-~]+$")]
    """What a request's `model` calls this policy: the file's name without `.yaml`, never a key of it."""
    description: Annotated[str, Field(min_length=1)]
    """A text for people: what the policy does, and who should use it. Never inherited."""
    router: AnyRouter
    """The strategy and its fields."""
    length_ratio: Annotated[float, Field(gt=0)] = 1.0
    """Tokens that the LLM would write per token of the small model's served answer. Used to estimate what the
    LLM alone would have cost; 1.0 until measured."""
    overrides: tuple[str, ...] = ()
    """Router fields that a request may override in `smallfirst.override`."""
    ceilings: Ceilings = Ceilings()
    """Limits on one exchange."""
    private: PrivateSetting = False
    """true: no cloud may see a request under this policy, whatever its router asks for. A section: which
    private data to look for in requests, and what happens to a request that holds some."""
    fallback_if_misconfigured: bool = False
    """Whether the small model answers if the large model's provider refuses the gateway (401, 403, 404, 405 or a
    redirect), since its key, URL or model is wrong. false: that is an error, `upstream_refused`. If the large model is
    down, busy or failing, the small one answers in any case, as far as the strategy allows it."""
    affinity: Affinity | None = None
    """How long an escalated conversation stays with the large model; null: each turn is decided anew."""
    shadow: Shadow | None = None
    """Another policy to run beside this one; null: none."""
    guard: Guard | None = None
    """How requests and answers are judged before they are passed on; null: they are not judged."""

    compress: Compress | None = None
    """How the prompt is [compressed](skills/compress.md) before the large model reads it; null: it is not."""
    filter: PassageFilter | None = None
    """Which [retrieved passages](skills/filter.md) of a request the answering model sees; null: all of them."""
    evaluate: Evaluate | None = None
    """How a share of the answers is judged after they were served; null: none is judged."""

    @field_validator("overrides")
    @classmethod
    def _check_overrides(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        router = info.data.get("router")
        known = (
            []
            if router is None
            else [name for name in type(router).model_fields if name not in PROTECTED_FIELDS]
        )
        for name in names:
            if router is not None and name not in known:
                raise ValueError(f"expected fields of the router ({', '.join(known)}), found {name!r}")
        return names

    @property
    def kind(self) -> str:
        """The kind of the router, as in its YAML."""
        return self.router.kind

    @property
    def max_calls(self) -> int:
        """Maximum upstream calls of one exchange."""
        if self.ceilings.calls is not None:
            return self.ceilings.calls
        return self.router.max_calls + (self.guard.max_calls if self.guard is not None else 0)

    def is_uncalibrated(self, request: Request) -> bool:
        """True if the confidences of a request are a generic calibrator's, and not one's of the small model."""
        router = self.router
        return router.is_uncalibrated and router.adapt_to(request).is_uncalibrated

    def replace(self, **fields: Any) -> "Policy":
        """Return this policy with other values and a new digest. `model_copy` would keep the old digest."""
        return Policy(**{name: getattr(self, name) for name in type(self).model_fields} | fields)

    def __hash__(self) -> int:
        return hash(self.digest)

    def plan(self, request: Request) -> Plan:
        plan = self._plan_guarded_route(request)
        can_downgrade = "slm" in request.tiers and not self.fallback_if_misconfigured
        return refuse_downgrades(plan) if can_downgrade else plan

    def _plan_guarded_route(self, request: Request) -> Plan:
        if self.guard is not None:
            return guard_plan(self._plan_filtered_route, self.guard, request)
        return self._plan_filtered_route(request)

    def _plan_filtered_route(self, request: Request) -> Plan:
        plan = self._plan_route(request)
        if self.filter is not None and request.passages:
            plan = filter_passages(plan, self.filter, request)
        return plan

    def _plan_route(self, request: Request) -> Plan:
        if request.stays and "llm" in request.tiers & request.able:
            return ask_llm(Reason.AFFINITY)
        return self.router.adapt_to(request).plan(request)

    @cached_property
    def digest(self) -> str:
        """Identifies this exact policy, calibrator included, in records: 16 hex digits of a SHA-256."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]
