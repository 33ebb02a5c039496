"""The catalog: the policies and upstream models that a request's `model` may name."""

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
"""Capabilities that a policy requires of each tier beyond what its requests require, each with the policy
field that requires it."""


@dataclass(frozen=True)
class Catalogue:
    """The names that can be served. `unavailable` maps each policy that these upstreams cannot serve to the
    reason. A split of `splits` divides its requests among several of `policies`."""

    policies: Mapping[str, Policy]
    models: Mapping[str, Policy]
    splits: Mapping[str, Split] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    shortest_context: float = inf
    """The shortest known context of all upstreams, in tokens; infinite if none is known."""

    def resolve(self, name: str, param: str = "model") -> AnyPolicy:
        """Return the policy of a name. Raises ApiError, which lists the known names. `param` is the request
        field that held the name."""
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
    """Build the catalog of policies, splits and models. A model that several upstreams serve is listed once.
    If both tiers serve it, the first tier in `pools` gets it."""
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
    """Return what the upstreams or the installation lack to serve a policy, as a sentence. None if it can be
    served."""
    if isinstance(policy.private, Private) and (problem := undetectable(policy.private)):
        return f"private {problem}"
    found = lacking_to_route(policy.router, pools) or _lacking_to_guard(policy.guard, pools)
    if found is None and policy.filter is not None:
        needed: Asking = {policy.filter.tier: {"logprobs": "filter"}}
        found = next(_lacking_to_serve(needed, pools), None)
    return found


def lacking_to_route(router: Router, pools: Mapping[Tier, Pool]) -> str | None:
    """Return what the upstreams lack for a strategy, as a sentence. None if nothing."""
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
    """Check the guard's judge. Without one, the guard would block everything or let everything pass."""
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
    """Yield a sentence per missing capability. One capable upstream of the tier suffices, since the pool
    selects upstreams by capability. An absent tier lacks nothing: plans do without it and give a reason."""
    for tier, asked in needs.items():
        upstreams = pools[tier].writers if tier in pools else ()
        for capability, asking in asked.items():
            if upstreams and not any(capability in upstream.can for upstream in upstreams):
                names = ", ".join(upstream.name for upstream in upstreams)
                told = f"{asking} needs {capability} of tier {tier}, which is not offered by {names}"
                yield f"{told} (capabilities.{capability})"


def _lacking_to_follow(pool: Pool | None) -> str | None:
    """Check that all upstreams run one model. Records with drafts of several models would train a calibrator
    that suits none of them."""
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
        return None  # the plan then uses the LLM and gives that as its reason
    if other := _made_for_another("calibrator", router.calibrator.made_for, slm):
        return other
    constrained = router.constrained_calibrator
    if constrained and (other := _made_for_another("constrained_calibrator", constrained.made_for, slm)):
        return other
    return _without_logprobs(slm, "it judges by log-probabilities")


def _lacking_to_score(gate: Gate | None, slm: Pool | None) -> str | None:
    """Check that the gate's scorer was trained for this model. A prompt that is easy for one model may be
    hard for another."""
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
