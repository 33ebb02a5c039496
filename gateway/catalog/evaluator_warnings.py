"""Warnings about evaluators that were measured at chance level on the models that would judge."""

from collections.abc import Iterator, Mapping

from gateway.upstreams.pool import Pool
from policies.loading.evaluator_results import measured
from policies.schema.policy import Policy
from routers.judges.evaluators import Agreeing, Rating, Structure, Verification
from routers.plan import Tier
from routers.router import Router
from routers.strategies.cascade import Cascade
from routers.strategies.speculative import Speculative

Judge = Verification | Rating | Agreeing


def doubts(policy: Policy, pools: Mapping[Tier, Pool]) -> Iterator[str]:
    """Yield one warning for each evaluator of a policy that was measured at chance level on a model that
    would judge."""
    for where, evaluator in _evaluators(policy):
        upstreams = pools[evaluator.tier].upstreams if evaluator.tier in pools else ()
        for upstream in upstreams:
            found = measured(evaluator.name, upstream.source)
            if found is not None and found.chance:
                value, low, high = found.auroc
                yield (
                    f"{where}: {evaluator.name} was no better than chance on {upstream.model} "
                    f"(AUROC {value:.2f}, {low:.2f} to {high:.2f}, {found.answers} answers of {found.data})"
                )


def _evaluators(policy: Policy) -> Iterator[tuple[str, Judge]]:
    """Yield each evaluator that asks a model, with its path in the policy."""
    yield from _judges(policy.router, "router")
    for place, evaluator in enumerate(policy.evaluate.evaluators if policy.evaluate else ()):
        if not isinstance(evaluator, Structure):
            yield f"evaluate.evaluators.{place}", evaluator


def _judges(router: Router, where: str) -> Iterator[tuple[str, Judge]]:
    if isinstance(router, Speculative):
        yield from _judges(router.otherwise, f"{where}.otherwise")
    if isinstance(router, Cascade) and router.judge is not None:
        yield f"{where}.judge", router.judge
