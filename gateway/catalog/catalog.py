"""The catalog: the policies and upstream models that a request's `model` may name."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from gateway.errors import ApiError
from gateway.skills.privacy.detection import find_detection_problem
from gateway.upstreams.pool import Pool
from policies.schema.policy import Policy
from policies.schema.private import Private
from policies.schema.split import AnyPolicy, Split
from routers.confidence.calibration import UNKNOWN, LogprobSource
from routers.judges.guard import Guard
from routers.plan import Capability, Tier
from routers.router import Router
from routers.strategies.cascade import Cascade, ConfidenceRouter
from routers.strategies.difficulty import Difficulty, Gate
from routers.strategies.direct import Direct
from routers.strategies.speculative import Speculative

from .judge_quality import find_useless_guards

PolicyRequirements = Mapping[Tier, Mapping[Capability, str]]
"""Capabilities that a policy requires of each tier beyond what its requests require, each with the policy
field that requires it."""

HINT_OF_MODELS = "a request can name an upstream's model only if the settings have expose_models: true"


@dataclass(frozen=True)
class Catalog:
    """The names that can be served. `unavailable` maps each policy that these upstreams cannot serve to the
    reason. A split of `splits` divides its requests among several of `policies`. `models` is empty unless the settings
    expose them."""

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
        # The same is said of models that exist and of names made up, so that names cannot be tried out.
        hint = "" if self.models else f"; {HINT_OF_MODELS}"
        known = ", ".join(self.names())
        raise ApiError(
            404,
            "model_not_found",
            f"the model {name!r} does not exist; there are: {known}{hint}",
            param=param,
        )

    @property
    def uncalibrated(self) -> list[str]:
        """The served policies whose calibrator is the generic one."""
        return [name for name, policy in self.policies.items() if policy.router.is_uncalibrated]

    def names(self) -> list[str]:
        return [*self.policies, *self.splits, *self.models]


def group_by_reason(unavailable: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names of the policies that cannot be served, by the reason, which many may have in common."""
    names: dict[str, list[str]] = {}
    for name, why in unavailable.items():
        names.setdefault(why, []).append(name)
    return names


def build_catalog(
    policies: Iterable[AnyPolicy], pools: Mapping[Tier, Pool], *, expose_models: bool = False
) -> Catalog:
    """Build the catalog of policies and splits, and of models if they are exposed."""
    served: dict[str, Policy] = {}
    unavailable: dict[str, str] = {}
    by_name = {policy.name: policy for policy in policies}
    for policy in by_name.values():
        if isinstance(policy, Split):
            continue
        if problem := find_missing(policy, pools):
            unavailable[policy.name] = problem
        else:
            served[policy.name] = policy
    shadows = {policy.name: policy.shadow.policy for policy in served.values() if policy.shadow is not None}
    for name in [name for name, target in shadows.items() if target not in served]:
        unavailable[name] = f"its shadow.policy {shadows[name]} is not a policy that is served"
        del served[name]
    splits = {}
    for split in [policy for policy in by_name.values() if isinstance(policy, Split)]:
        if missing := [name for name in split.split.between if name not in served]:
            unavailable[split.name] = (
                f"it divides requests among policies that are not served: {', '.join(missing)}"
            )
        else:
            splits[split.name] = split
    models = _build_direct_policies(pools, {*served, *splits}) if expose_models else {}
    contexts = [one.context_length for pool in pools.values() for one in pool.upstreams if one.context_length]
    return Catalog(served, models, splits, unavailable, min(contexts, default=inf))


def _build_direct_policies(pools: Mapping[Tier, Pool], policies: Container[str]) -> dict[str, Policy]:
    """Return a policy per model that asks only that model. A model that several upstreams serve is listed once.
    If both tiers serve it, the first tier in `pools` gets it. A name in `policies` stays the policy's."""
    models: dict[str, Policy] = {}
    for upstream in [upstream for pool in pools.values() for upstream in pool.writers]:
        for model in [model for model in upstream.models if model not in policies]:
            direct_policy = Policy(
                name=model,
                description=f"{upstream.name}, asked by name",
                router=Direct(tier=upstream.tier, fallback=False),
            )
            models.setdefault(model, direct_policy)
    return models


def find_missing(policy: Policy, pools: Mapping[Tier, Pool]) -> str | None:
    """Return what the upstreams or the installation lack to serve a policy, as a sentence. None if it can be
    served."""
    if isinstance(policy.private, Private) and (problem := find_detection_problem(policy.private)):
        return f"private {problem}"
    problem_found = find_missing_for_router(policy.router, pools) or _find_missing_for_guard(
        policy.guard, pools
    )
    if problem_found is None and policy.filter is not None:
        needed: PolicyRequirements = {policy.filter.tier: {"logprobs": "filter"}}
        problem_found = next(_find_missing_capabilities(needed, pools), None)
    return problem_found


def find_missing_for_router(router: Router, pools: Mapping[Tier, Pool]) -> str | None:
    """Return what the upstreams lack for a strategy, as a sentence. None if nothing."""
    if isinstance(router, Speculative):
        return find_missing_for_router(router.otherwise, pools)
    problem: str | None = None
    if isinstance(router, Direct):
        if (router.tier not in pools or not pools[router.tier].writers) and not router.fallback:
            return f"it needs an upstream of tier {router.tier}, and none is configured"
        problem = _find_missing_for_follow(pools.get(router.tier)) if router.follow else None
    elif isinstance(router, ConfidenceRouter):
        problem = _find_missing_for_judge(router, pools.get("slm"))
    if isinstance(router, Cascade | Difficulty):
        problem = problem or _find_missing_for_gate(router.gate, pools.get("slm"))
    return problem or next(_find_missing_capabilities(_router_requirements(router), pools), None)


def _find_missing_for_guard(guard: Guard | None, pools: Mapping[Tier, Pool]) -> str | None:
    """Check the guard's judge. Without one, the guard would block everything or let everything pass."""
    if guard is None or not guard.asks_model:
        return None
    pool = pools.get(guard.tier)
    judges = [] if pool is None else pool.find_judges(guard.model)
    if not judges:
        missing = f"the model {guard.model} among the upstreams" if guard.model else "an upstream"
        return f"its guard needs {missing} of tier {guard.tier}, and none is configured"
    if any("logprobs" in upstream.capability_names for upstream in judges):
        useless = None if guard.judge_anyway else next(find_useless_guards(guard, pools), None)
        return useless and f"{useless}; name a better judge, or set guard.judge_anyway: true"
    names = ", ".join(upstream.name for upstream in judges)
    return f"its guard reads log-probabilities, which {names} does not offer (capabilities.logprobs)"


def _router_requirements(router: Router) -> PolicyRequirements:
    return {
        tier: {capability: f"router.{field}" for capability, field in field_of.items()}
        for tier, field_of in router.needs.items()
    }


def _find_missing_capabilities(requirements: PolicyRequirements, pools: Mapping[Tier, Pool]) -> Iterator[str]:
    """Yield a sentence per missing capability. One capable upstream of the tier suffices, since the pool
    selects upstreams by capability. An absent tier lacks nothing: plans do without it and give a reason."""
    for tier, field_of in requirements.items():
        upstreams = pools[tier].writers if tier in pools else ()
        for capability, field_name in field_of.items():
            if upstreams and not any(capability in upstream.capability_names for upstream in upstreams):
                names = ", ".join(upstream.name for upstream in upstreams)
                problem = f"{field_name} needs {capability} of tier {tier}, which is not offered by {names}"
                yield f"{problem} (capabilities.{capability})"


def _find_missing_for_follow(pool: Pool | None) -> str | None:
    """Check that all upstreams run one model. Records with drafts of several models would train a calibrator
    that suits none of them."""
    if pool is None or not pool.writers:
        return None
    first, *others = pool.writers
    for upstream in others:
        if not first.source.matches(upstream.source):
            sources = f"{first.name} is {first.source}, {upstream.name} is {upstream.source}"
            return f"it follows one model's drafts, and {sources}"
    return _find_missing_logprobs(pool, "it reads log-probabilities")


def _find_missing_for_judge(router: ConfidenceRouter, slm: Pool | None) -> str | None:
    if slm is None:
        return None  # the plan then uses the LLM and gives that as its reason
    if mismatch := _find_model_mismatch("calibrator", router.calibrator.made_for, slm):
        return mismatch
    constrained = router.constrained_calibrator
    if constrained and (
        mismatch := _find_model_mismatch("constrained_calibrator", constrained.made_for, slm)
    ):
        return mismatch
    return _find_missing_logprobs(slm, "it judges by log-probabilities")


def _find_missing_for_gate(gate: Gate | None, slm: Pool | None) -> str | None:
    """Check that the gate's scorer was trained for this model. A prompt that is easy for one model may be
    hard for another."""
    if gate is None or gate.scorer is None or slm is None:
        return None
    return _find_model_mismatch("gate.scorer", gate.scorer.made_for, slm)


def _find_model_mismatch(key: str, made_for: LogprobSource, slm: Pool) -> str | None:
    for upstream in slm.writers:
        source = upstream.source.model_copy(update={"mode": made_for.mode})
        if not made_for.matches(source):
            remedy = (
                "`smallfirst calibrate` makes one, which `stock` means unless the settings name another"
                if key == "calibrator"
                else f"make one with `smallfirst collect` and `smallfirst tune`, and name it under router.{key}"
            )
            mine, theirs = made_for.fingerprint or UNKNOWN, source.fingerprint or UNKNOWN
            differing = mine.list_differences(theirs)
            files = f", of other files ({', '.join(differing)})" if differing else ""
            return f"its {key} is made for {made_for}, and the small model {upstream.name} is {source}{files}: {remedy}"
    return None


def _find_missing_logprobs(pool: Pool, reason: str) -> str | None:
    for upstream in pool.writers:
        if "logprobs" not in upstream.capability_names:
            return f"{reason}, which {upstream.name} does not offer (capabilities.logprobs)"
    return None
