"""The generic calibrator learns from several models what holds for one that it has not seen."""

from collections.abc import Iterator

import numpy as np
import pytest
from support.router_builders import TRAINED_ON, tokens
from threadpoolctl import threadpool_limits

from policies.tuning.collection.graded_drafts import GradedDraft
from policies.tuning.collection.grades import Grade
from policies.tuning.generic import GenericTraining, ModelDrafts, PooledRule, train_generic
from policies.tuning.report import auroc
from routers.confidence.calibration import Logistic, LogprobSource

GENERIC = LogprobSource(model="any", engine="any")
pytestmark = pytest.mark.untraced  # a tracer sees every step of the solver


def drafts_of(level: float, share: float, seed: int, count: int = 40) -> list[GradedDraft]:
    """Drafts whose log-probabilities are about `level`; the likelier `share` of them are right."""
    rng = np.random.default_rng(seed)
    means = level * rng.uniform(0.2, 2.0, count)
    bar = np.quantile(means, 1.0 - share)
    return [
        GradedDraft(
            Grade(
                id=f"sf-{n}",
                item=f"i{n}",
                kind="sums",
                template=f"t{n % 10}",
                split="train",
                right=bool(mean >= bar),
            ),
            tokens(*np.minimum(mean + rng.normal(0.0, 0.05, 8), -0.001)),
            "stop",
            1.0,
        )
        for n, mean in enumerate(means)
    ]


@pytest.fixture(scope="module")
def trained() -> Iterator[GenericTraining]:
    sets = [
        ModelDrafts("small", drafts_of(-1.0, 0.4, 1)),
        ModelDrafts("small", drafts_of(-1.1, 0.4, 2)),
        ModelDrafts("large", drafts_of(-0.5, 0.8, 3)),
    ]
    with threadpool_limits(1):
        yield train_generic(sets, TRAINED_ON, GENERIC)


def test_it_tells_right_from_wrong_drafts_of_another_model(trained: GenericTraining) -> None:
    drafts = drafts_of(-0.8, 0.6, 4)
    right = np.array([float(draft.grade.right) for draft in drafts])
    confidence = np.array([trained.calibrator.confidence(draft.signals, finished=True) for draft in drafts])
    assert auroc(right, confidence) > 0.9
    running = [trained.calibrator.confidence(draft.prefix_signals[0], finished=False) for draft in drafts]
    assert auroc(right, np.array(running)) > 0.9


def test_an_unknown_model_is_not_taken_to_be_better_than_any_known_one(trained: GenericTraining) -> None:
    assert trained.measurements["base_rate"] == pytest.approx(0.4, abs=0.02)


def test_the_shrinkage_has_the_lowest_loss_on_models_left_out(trained: GenericTraining) -> None:
    for rule, shrinkage in trained.measurements["shrinkage"].items():
        losses = trained.measurements["log_loss"][rule]
        assert losses[str(shrinkage)] == min(losses.values())
    assert trained.measurements["models"] == ["large", "small"]
    assert [len(sets) for sets in trained.measurements["leaving_model_out"].values()] == [1, 2]


def test_confidences_shrink_towards_the_base_rate() -> None:
    one = np.ones(1)
    pooled = PooledRule(0 * one, one, 2 * one, 0.8)
    base = round(float(np.log(4.0)), 6)
    assert pooled.shrink(1.0) == Logistic(intercept=base, weights=(2.0,))
    assert pooled.shrink(0.0) == Logistic(intercept=base, weights=(0.0,))
    assert pooled.compute_logits(np.array([[3.0]]), 0.5)[0] == pytest.approx(base + 3.0)


def test_one_model_is_not_enough() -> None:
    with pytest.raises(ValueError, match="at least two models"):
        train_generic([ModelDrafts("small", []), ModelDrafts("small", [])], TRAINED_ON, GENERIC)
