"""What is known of the models that would judge: which were measured to be no better than chance."""

from collections.abc import Iterable, Iterator, Mapping

from gateway.upstreams.pool import Pool
from gateway.upstreams.upstream import Upstream
from policies.loading.evaluator_results import EvaluatorResult, find_result
from policies.schema.policy import Policy
from routers.judges.evaluators import Agreement, Rating, Structure, Verification
from routers.judges.guard import Guard
from routers.plan import Tier
from routers.router import Router
from routers.strategies.cascade import Cascade
from routers.strategies.speculative import Speculative

Judge = Verification | Rating | Agreement


def judge_warnings(policy: Policy, pools: Mapping[Tier, Pool]) -> Iterator[str]:
    """Yield one warning for each evaluator or guard of a policy that was measured at chance level on a model that
    would judge."""
    for path, evaluator in _find_evaluators(policy):
        upstreams = pools[evaluator.tier].upstreams if evaluator.tier in pools else ()
        for result in _find_chance_levels(evaluator.name, upstreams):
            yield f"{path}: {result.describe()}"
    if policy.guard is not None:
        yield from find_useless_guards(policy.guard, pools)


def find_useless_guards(guard: Guard, pools: Mapping[Tier, Pool]) -> Iterator[str]:
    """Yield one sentence for each built-in question of a guard that a model would judge at chance level."""
    upstreams = pools[guard.tier].find_judges(guard.model) if guard.tier in pools else ()
    for name, threshold, own_question in (
        ("input", guard.input, guard.ask_input),
        ("output", guard.output, guard.ask_output),
    ):
        if threshold is None or own_question is not None:
            continue
        for result in _find_chance_levels(f"guard:{name}", upstreams):
            yield f"guard.{name}: {result.describe()}"


def _find_chance_levels(evaluator: str, upstreams: Iterable[Upstream]) -> Iterator[EvaluatorResult]:
    for upstream in upstreams:
        result = find_result(evaluator, upstream.source)
        if result is not None and result.is_chance_level:
            yield result


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
