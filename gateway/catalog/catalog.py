"""What a request's `model` may name: a policy, or the model of some upstreams."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from gateway.errors import ApiError
from gateway.skills.privacy.detection import undetectable
from gateway.upstreams.pool import Pool
from policies.schema.policy import Policy
from policies.schema.private import Private
from policies.schema.split import AnyPolicy, Split
from routers.confidence.calibration import Source
from routers.judges.guard import Guard
from routers.plan import Capability, Tier
from routers.router import Router
from routers.strategies.cascade import Cascade, Judging
from routers.strategies.difficulty import Difficulty, Gate
from routers.strategies.direct import Direct
from routers.strategies.speculative import Speculative

Asking = Mapping[Tier, Mapping[Capability, str]]
"""What a policy asks of a tier, beside what requests do, by the field of its that asks for it."""


@dataclass(frozen=True)
class Catalogue:
    """`unavailable` holds the policies that this set of upstreams can't serve, and why; `splits` those that stand for
    several of `policies`."""

    policies: Mapping[str, Policy]
    models: Mapping[str, Policy]
    splits: Mapping[str, Split] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    shortest_context: float = inf
    """Tokens of the shortest context that is known of an upstream."""

    def resolve(self, name: str, param: str = "model") -> AnyPolicy:
        """Raises ApiError, naming what exists; `param` is the field that named it."""
        policy = self.policies.get(name) or self.models.get(name) or self.splits.get(name)
        if policy is not None:
            return policy
        if name in self.unavailable:
            raise ApiError(
                400,
                "policy_unavailable",
                f"policy {name} can't be used: {self.unavailable[name]}",
                param=param,
            )
        known = ", ".join(self.names())
        raise ApiError(
            404, "model_not_found", f"the model {name!r} does not exist; there are: {known}", param=param
        )

    def names(self) -> list[str]:
        return [*self.policies, *self.splits, *self.models]


def catalogue(policies: Iterable[AnyPolicy], pools: Mapping[Tier, Pool]) -> Catalogue:
    """A model that several upstreams serve is one name; in both tiers, it is the first one's."""
    served: dict[str, Policy] = {}
    unavailable: dict[str, str] = {}
    found = {policy.name: policy for policy in policies}
    for policy in found.values():
        if isinstance(policy, Split):
            continue
        if problem := lacking(policy, pools):
            unavailable[policy.name] = problem
        else:
            served[policy.name] = policy
    shadows = {policy.name: policy.shadow.policy for policy in served.values() if policy.shadow is not None}
    for name in [name for name, target in shadows.items() if target not in served]:
        unavailable[name] = f"its shadow.policy {shadows[name]} is not a policy that is served"
        del served[name]
    splits = {}
    for split in [policy for policy in found.values() if isinstance(policy, Split)]:
        if lacks := [name for name in split.split.between if name not in served]:
            unavailable[split.name] = (
                f"it divides requests among policies that are not served: {', '.join(lacks)}"
            )
        else:
            splits[split.name] = split
    models: dict[str, Policy] = {}
    for upstream in [upstream for pool in pools.values() for upstream in pool.writers]:
        for model in [model for model in upstream.models if model not in served and model not in splits]:
            alone = Policy(
                name=model,
                description=f"{upstream.name}, asked by name",
                router=Direct(tier=upstream.tier, fallback=False),
            )
            models.setdefault(model, alone)
    contexts = [one.context for pool in pools.values() for one in pool.upstreams if one.context]
    return Catalogue(served, models, splits, unavailable, min(contexts, default=inf))


def lacking(policy: Policy, pools: Mapping[Tier, Pool]) -> str | None:
    """What the upstreams, or what is installed, lack for a policy; None where it can be served."""
    if isinstance(policy.private, Private) and (problem := undetectable(policy.private)):
        return f"private {problem}"
    found = lacking_to_route(policy.router, pools) or _lacking_to_guard(policy.guard, pools)
    if found is None and policy.filter is not None:
        needed: Asking = {policy.filter.tier: {"logprobs": "filter"}}
        found = next(_lacking_to_serve(needed, pools), None)
    return found


def lacking_to_route(router: Router, pools: Mapping[Tier, Pool]) -> str | None:
    """Likewise, for a strategy."""
    if isinstance(router, Speculative):
        return lacking_to_route(router.otherwise, pools)
    problem: str | None = None
    if isinstance(router, Direct):
        if (router.tier not in pools or not pools[router.tier].writers) and not router.fallback:
            return f"it needs an upstream of tier {router.tier}, and none is configured"
        problem = _lacking_to_follow(pools.get(router.tier)) if router.follow else None
    elif isinstance(router, Judging):
        problem = _lacking_to_judge(router, pools.get("slm"))
    if isinstance(router, Cascade | Difficulty):
        problem = problem or _lacking_to_score(router.gate, pools.get("slm"))
    return problem or next(_lacking_to_serve(_of_router(router), pools), None)


def _lacking_to_guard(guard: Guard | None, pools: Mapping[Tier, Pool]) -> str | None:
    """A guard without its judge would block, or let pass, whatever there is."""
    if guard is None or not guard.judges:
        return None
    pool = pools.get(guard.tier)
    judges = [] if pool is None else pool.judges(guard.model)
    if not judges:
        named = f"the model {guard.model} among the upstreams" if guard.model else "an upstream"
        return f"its guard needs {named} of tier {guard.tier}, and none is configured"
    if any("logprobs" in upstream.can for upstream in judges):
        return None
    names = ", ".join(upstream.name for upstream in judges)
    return f"its guard reads log-probabilities, which {names} does not offer (capabilities.logprobs)"


def _of_router(router: Router) -> Asking:
    return {
        tier: {capability: f"router.{field}" for capability, field in asked.items()}
        for tier, asked in router.needs.items()
    }


def _lacking_to_serve(needs: Asking, pools: Mapping[Tier, Pool]) -> Iterator[str]:
    """One upstream of a tier is enough, since the pool puts to each what it can do. A tier that is not there lacks
    nothing: plans do without it, and say so."""
    for tier, asked in needs.items():
        upstreams = pools[tier].writers if tier in pools else ()
        for capability, asking in asked.items():
            if upstreams and not any(capability in upstream.can for upstream in upstreams):
                names = ", ".join(upstream.name for upstream in upstreams)
                told = f"{asking} needs {capability} of tier {tier}, which is not offered by {names}"
                yield f"{told} (capabilities.{capability})"


def _lacking_to_follow(pool: Pool | None) -> str | None:
    """Drafts of several models in one set of records would train a calibrator for none of them."""
    if pool is None or not pool.writers:
        return None
    first, *others = pool.writers
    for upstream in others:
        if not first.source.matches(upstream.source):
            sources = f"{first.name} is {first.source}, {upstream.name} is {upstream.source}"
            return f"it follows one model's drafts, and {sources}"
    return _without_logprobs(pool, "it reads log-probabilities")


def _lacking_to_judge(router: Judging, slm: Pool | None) -> str | None:
    if slm is None:
        return None  # its plan goes to the large model and says so
    if other := _made_for_another("calibrator", router.calibrator.made_for, slm):
        return other
    constrained = router.constrained_calibrator
    if constrained and (other := _made_for_another("constrained_calibrator", constrained.made_for, slm)):
        return other
    return _without_logprobs(slm, "it judges by log-probabilities")


def _lacking_to_score(gate: Gate | None, slm: Pool | None) -> str | None:
    """What is easy for one model is not for another."""
    if gate is None or gate.scorer is None or slm is None:
        return None
    return _made_for_another("gate.scorer", gate.scorer.made_for, slm)


def _made_for_another(trained: str, made_for: Source, slm: Pool) -> str | None:
    for upstream in slm.writers:
        source = upstream.source.model_copy(update={"mode": made_for.mode})
        if not made_for.matches(source):
            return (
                f"its {trained} is made for {made_for}, and the small model {upstream.name} is {source}: "
                f"make one with `smallfirst collect` and `smallfirst tune`, and name it under router.{trained}"
            )
    return None


def _without_logprobs(pool: Pool, reason: str) -> str | None:
    for upstream in pool.writers:
        if "logprobs" not in upstream.can:
            return f"{reason}, which {upstream.name} does not offer (capabilities.logprobs)"
    return None
