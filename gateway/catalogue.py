"""What a request's `model` may name: a policy, or the model of one upstream."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.http.errors import ApiError
from gateway.upstreams.upstream import Upstream
from policies.schema import Policy
from routers.cascade import Judging
from routers.direct import Direct
from routers.plan import Tier


@dataclass(frozen=True)
class Catalogue:
    """`unavailable` holds the policies that this set of upstreams can't serve, and why."""

    policies: Mapping[str, Policy]
    models: Mapping[str, Policy]
    unavailable: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, name: str, param: str = "model") -> Policy:
        """Raises ApiError, naming what exists; `param` is the field that named it."""
        policy = self.policies.get(name) or self.models.get(name)
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
        return [*self.policies, *self.models]


def catalogue(policies: Iterable[Policy], upstreams: Mapping[Tier, Upstream]) -> Catalogue:
    served: dict[str, Policy] = {}
    unavailable: dict[str, str] = {}
    for policy in policies:
        if problem := lacking(policy, upstreams):
            unavailable[policy.name] = problem
        else:
            served[policy.name] = policy
    models = {
        upstream.model: Policy(
            name=upstream.model,
            description=f"{upstream.name}, asked by name",
            router=Direct(tier=tier, fallback=False),
        )
        for tier, upstream in upstreams.items()
        if upstream.model not in served
    }
    return Catalogue(served, models, unavailable)


def lacking(policy: Policy, upstreams: Mapping[Tier, Upstream]) -> str | None:
    """What the upstreams lack for a policy; None where they can serve it."""
    router = policy.router
    if isinstance(router, Direct) and router.tier not in upstreams and not router.fallback:
        return f"it needs an upstream of tier {router.tier}, and none is configured"
    return _lacking_to_judge(router, upstreams.get("slm")) if isinstance(router, Judging) else None


def _lacking_to_judge(router: Judging, slm: Upstream | None) -> str | None:
    if slm is None:
        return None  # its plan goes to the large model and says so
    if not slm.logprobs:
        return f"it judges by log-probabilities, which {slm.name} does not give (logprobs: false)"
    if not router.calibrator.made_for.matches(slm.source):
        return (
            f"its calibrator is made for {router.calibrator.made_for}, and the small model is {slm.source}: "
            "make one with `smallfirst collect` and `smallfirst tune`, and name it under router.calibrator"
        )
    return None
