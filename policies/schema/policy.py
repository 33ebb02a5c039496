"""What a policy file holds."""

import hashlib
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from routers.fragments.fallback import large
from routers.fragments.passage_filter import Filter, filtered
from routers.judges.guard import Guard, guarded
from routers.plan import Plan, Reason
from routers.router import Request

from .ceilings import Ceilings as Ceilings
from .compress import Compress
from .evaluate import Evaluate
from .private import Privately
from .strategies import AnyRouter

OWN = frozenset(("kind", "calibrator", "constrained_calibrator", "otherwise"))
"""Fields of routers that no request may override: the strategy, what is trained, and strategies within."""


class Shadow(BaseModel):
    """Another policy that is tried on a share of the traffic, for the records only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    policy: str
    """The other policy's name: one that is served."""
    share: Annotated[float, Field(gt=0, le=1)]
    """Of the exchanges that were answered."""
    ceilings: Ceilings = Ceilings()
    """What one shadow may take."""
    usd_per_hour: Annotated[float, Field(gt=0)] | None = None
    """Dollars after which no more shadows begin within the hour; null: no such limit."""


class Affinity(BaseModel):
    """Once escalated, a conversation stays with the large model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    turns: Annotated[int, Field(ge=1, le=1000)]
    """For how many further turns."""


class Policy(BaseModel):
    """When the small model's answer is good enough, and when the large one takes over."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[!-~]+$")]
    """What a request's `model` names it by: the file's name without `.yaml`, never a key of the file."""
    description: Annotated[str, Field(min_length=1)]
    """For people: what it does, and who should use it. Never inherited."""
    router: AnyRouter
    """The strategy and its fields."""
    length_ratio: Annotated[float, Field(gt=0)] = 1.0
    """Tokens the LLM writes per token of the small model's served answer, for the estimate of what the LLM
    alone would have cost: 1.0 until measured."""
    overrides: tuple[str, ...] = ()
    """Fields of the router that a request may override, in `smallfirst.override`."""
    ceilings: Ceilings = Ceilings()
    """What one exchange may take."""
    private: Privately = False
    """Whether no cloud may see a request under this policy, whatever its router asks for; or what is looked for in
    requests, and what becomes of those in which it is found."""
    affinity: Affinity | None = None
    """Whether an escalated conversation stays with the large model; null: each turn is decided anew."""
    shadow: Shadow | None = None
    """Another policy to try beside this one; null: none."""
    guard: Guard | None = None
    """Whether requests and answers are judged before they go on; null: they are not."""

    compress: Compress | None = None
    """How the prompt is [compressed](skills/compress.md) before the large model reads it; null: not at all."""
    filter: Filter | None = None
    """Which of a request's [retrieved passages](skills/filter.md) are shown to whoever answers; null: all, as given."""
    evaluate: Evaluate | None = None
    """Judgements of a share of its answers, once they are given; null: none."""

    @field_validator("overrides")
    @classmethod
    def _are_fields(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        router = info.data.get("router")
        known = [] if router is None else [name for name in type(router).model_fields if name not in OWN]
        for name in names:
            if router is not None and name not in known:
                raise ValueError(f"expected fields of the router ({', '.join(known)}), found {name!r}")
        return names

    @property
    def kind(self) -> str:
        """Its strategy."""
        return self.router.kind

    @property
    def most_calls(self) -> int:
        """Upstream calls that one exchange may take."""
        if self.ceilings.calls is not None:
            return self.ceilings.calls
        return self.router.calls + (self.guard.calls if self.guard is not None else 0)

    def changed(self, **fields: Any) -> "Policy":
        """This policy with other values, and so with another digest, which `model_copy` would keep."""
        return Policy(**{name: getattr(self, name) for name in type(self).model_fields} | fields)

    def __hash__(self) -> int:
        return hash(self.digest)

    def plan(self, request: Request) -> Plan:
        if self.guard is not None:
            return guarded(self._filtered, self.guard, request)
        return self._filtered(request)

    def _filtered(self, request: Request) -> Plan:
        plan = self._routed(request)
        if self.filter is not None and request.passages:
            plan = filtered(plan, self.filter, request)
        return plan

    def _routed(self, request: Request) -> Plan:
        if request.stays and "llm" in request.tiers & request.able:
            return large(Reason.AFFINITY)
        return self.router.fitted(request).plan(request)

    @cached_property
    def digest(self) -> str:
        """Names this exact policy, its calibrator included, in records: 16 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]
