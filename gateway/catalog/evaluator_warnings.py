"""Warnings about evaluators that were measured at chance level on the models that would judge."""

from collections.abc import Iterator, Mapping

from gateway.upstreams.pool import Pool
from policies.loading.evaluator_results import find_result
from policies.schema.policy import Policy
from routers.judges.evaluators import Agreement, Rating, Structure, Verification
from routers.plan import Tier
from routers.router import Router
from routers.strategies.cascade import Cascade
from routers.strategies.speculative import Speculative

Judge = Verification | Rating | Agreement


def evaluator_warnings(policy: Policy, pools: Mapping[Tier, Pool]) -> Iterator[str]:
    """Yield one warning for each evaluator of a policy that was measured at chance level on a model that
    would judge."""
    for path, evaluator in _find_evaluators(policy):
        upstreams = pools[evaluator.tier].upstreams if evaluator.tier in pools else ()
        for upstream in upstreams:
            result = find_result(evaluator.name, upstream.source)
            if result is not None and result.is_chance_level:
                value, low, high = result.auroc
                yield (
                    f"{path}: {evaluator.name} was no better than chance on {upstream.model} "
                    f"(AUROC {value:.2f}, {low:.2f} to {high:.2f}, {result.answers} answers of {result.data})"
                )


def _find_evaluators(policy: Policy) -> Iterator[tuple[str, Judge]]:
    """Yield each evaluator that asks a model, with its path in the policy."""
    yield from _find_judges(policy.router, "router")
    for position, evaluator in enumerate(policy.evaluate.evaluators if policy.evaluate else ()):
        if not isinstance(evaluator, Structure):
            yield f"evaluate.evaluators.{position}", evaluator


def _find_judges(router: Router, path: str) -> Iterator[tuple[str, Judge]]:
    if isinstance(router, Speculative):
        yield from _find_judges(router.otherwise, f"{path}.otherwise")
    if isinstance(router, Cascade) and router.judge is not None:
        yield f"{path}.judge", router.judge
