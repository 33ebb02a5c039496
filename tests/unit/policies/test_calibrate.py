"""A calibrator learns what there is to learn, and its measurements are right."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.router_builders import MADE_FOR, TRAINED_ON, token, tokens, worth
from threadpoolctl import threadpool_limits

import policies.tuning.report
from policies.tuning.calibrate import SIGNAL_SETS, build_confidence_predictor, fit_calibrator
from policies.tuning.collection.graded_drafts import GradedDraft
from policies.tuning.collection.grades import Grade
from policies.tuning.report import (
    auroc,
    bootstrap_interval,
    calibration_error,
    measure_held_out,
    predict_drafts,
    score_drafts,
    to_table,
)
from routers.confidence.calibration import Calibrator
from routers.confidence.signals import compute_signals
from routers.plan import Token

KINDS = ("sums", "facts")
SLOW_TRACED = pytest.mark.untraced  # a tracer sees every step of the solver


def graded(draft: Sequence[Token], right: bool, **changes: str) -> GradedDraft:
    fields = {"id": "sf-1", "item": "i", "kind": "sums", "template": "a", "split": "train", **changes}
    return GradedDraft(Grade.model_validate({**fields, "right": right}), draft, "stop", 1.0)


def related(count: int, seed: int, split: str = "train") -> list[GradedDraft]:
    """Drafts that are right the more often the likelier their tokens are: two kinds of six templates each."""
    rng = np.random.default_rng(seed)
    drafts = []
    for number in range(count):
        level = rng.uniform(-3.0, -0.05)
        draft = tokens(*(min(level + rng.normal(0.0, 0.3), -0.001) for _ in range(rng.integers(6, 20))))
        right = bool(rng.random() < 1.0 / (1.0 + np.exp(-4.0 * (level + 1.5))))
        template = f"{split}/{number % 12}"
        drafts.append(graded(draft, right, kind=KINDS[number % 2], template=template, split=split))
    return drafts


@pytest.fixture(scope="module", autouse=True)
def fast() -> Iterator[None]:
    """A tenth of the resamples, and one thread: small matrices on a busy machine wait for each other."""
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(1):
        patch.setattr(policies.tuning.report, "RESAMPLES", 100)
        yield


@pytest.fixture(scope="module")
def fitted(fast: None) -> Calibrator:
    return fit_calibrator(related(180, seed=1), MADE_FOR, TRAINED_ON)


def test_a_fitted_calibrator_tells_right_from_wrong_on_fresh_drafts(fitted: Calibrator) -> None:
    right, confidence = predict_drafts(build_confidence_predictor(fitted), related(300, seed=2))
    assert auroc(right, confidence) > 0.85
    assert calibration_error(right, confidence) < 0.15


def test_it_tells_so_of_beginnings_too(fitted: Calibrator) -> None:
    drafts = related(300, seed=3)
    right = np.array([float(draft.grade.right) for draft in drafts])
    found = [fitted.confidence(compute_signals(draft.tokens[:6]), finished=False) for draft in drafts]
    assert auroc(right, np.array(found)) > 0.8


@SLOW_TRACED
def test_beginnings_are_cut_where_the_watch_looks_whatever_was_thought_before(fitted: Calibrator) -> None:
    """Reasoning alone says nothing of an answer; what all drafts have of it says nothing of any."""
    thought = [token(-0.5, "hm")._replace(reasoning=True)] * 40
    drafts = [replace(draft, tokens=[*thought, *draft.tokens]) for draft in related(180, seed=1)]
    found = fit_calibrator(drafts, MADE_FOR, TRAINED_ON)
    assert (found.running, found.final) == (fitted.running, fitted.final)


def worded(count: int, decisive: int) -> list[GradedDraft]:
    """Drafts of one sentence, right where the word at `decisive` is sure; how sure of the others is noise."""
    rng = np.random.default_rng(4)
    drafts = []
    for number in range(count):
        sure = rng.uniform(-3.0, -0.05, 12)
        texts = [f" w{at}" for at in range(11)] + ["."]
        draft = [token(each, text) for each, text in zip(sure, texts, strict=True)]
        drafts.append(graded(draft, bool(sure[decisive] > -1.5), template=f"train/{number % 12}"))
    return drafts


@pytest.mark.parametrize(("decisive", "choice"), [(10, 1), (0, 0)], ids=["the answer", "the first"])
def test_the_set_of_signals_that_predicts_better_is_learned_from(decisive: int, choice: int) -> None:
    assert fit_calibrator(worded(240, decisive), MADE_FOR, TRAINED_ON).signals == SIGNAL_SETS[choice]


@SLOW_TRACED
def test_training_is_deterministic(fitted: Calibrator) -> None:
    assert fit_calibrator(related(180, seed=1), MADE_FOR, TRAINED_ON) == fitted


def test_what_was_fitted_survives_its_file(fitted: Calibrator) -> None:
    assert Calibrator.model_validate_json(fitted.model_dump_json()) == fitted


def test_a_signal_that_hardly_varies_does_no_harm(fitted: Calibrator) -> None:
    """All have no repetition and end well; a spread that rounds to nothing is one, too."""
    at = {name: fitted.scale[number] for number, name in enumerate(fitted.signals)}
    assert (at["repetition"], at["truncated"]) == (1.0, 1.0)
    same = [graded(worth(0.7 + 1e-8 * (n % 3), 6), n % 2 == 0, template=f"{n % 6}") for n in range(60)]
    assert set(fit_calibrator(same, MADE_FOR, TRAINED_ON).scale) == {1.0}


@pytest.mark.parametrize(
    ("drafts", "message"),
    [
        ([graded(worth(0.7, 6), True, template=f"{n}") for n in range(6)], "right and wrong drafts, all are right"),
        ([graded(worth(0.7, 6), False, template=f"{n}") for n in range(6)], "right and wrong drafts, all are wrong"),
        ([graded(worth(0.7, 6), n > 3, template=f"{n % 4}") for n in range(8)], "at least 5 templates, found 4"),
        ([], "drafts from at least 5 templates, found 0"),
        (
            [graded(worth(0.7, 5), n > 3, template=f"{n}") for n in range(8)],
            "drafts of 6 tokens or more from at least 5 templates, found 0",
        ),
        (
            [graded(worth(0.7, 6 if n > 3 else 5), n > 3, template=f"{n}") for n in range(10)],
            "right and wrong drafts of 6 tokens or more, all are right",
        ),
    ],
    ids=["all right", "all wrong", "few templates", "none", "all short", "the long ones all right"],
)  # fmt: skip
def test_what_nothing_can_be_learned_from_is_refused(drafts: list[GradedDraft], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_calibrator(drafts, MADE_FOR, TRAINED_ON)


def of(count: int, right: Callable[[int], bool], length: int = 12) -> list[GradedDraft]:
    return [
        graded(worth(0.3 + n % 5 / 10, length), right(n), template=f"train/{n % 12}", kind=KINDS[n % 2])
        for n in range(count)
    ]


def mean_confidence(calibrator: Calibrator, drafts: Sequence[GradedDraft]) -> float:
    return float(predict_drafts(build_confidence_predictor(calibrator), drafts)[1].mean())


@pytest.mark.parametrize(
    ("right", "share"), [(lambda n: True, 61 / 62), (lambda n: False, 1 / 62)], ids=["all right", "all wrong"]
)
def test_a_prior_is_shifted_to_the_base_rate_where_nothing_can_be_learned(
    fitted: Calibrator, right: Callable[[int], bool], share: float
) -> None:
    drafts = of(60, right)
    found = fit_calibrator(drafts, MADE_FOR, TRAINED_ON, prior=fitted)
    assert (found.signals, found.final.weights) == (fitted.signals, fitted.final.weights)
    assert mean_confidence(found, drafts) == pytest.approx(share, abs=1e-3)


def test_few_templates_shift_a_prior_and_no_drafts_are_refused(fitted: Calibrator) -> None:
    few = [graded(worth(0.3 + n / 30, 4), n < 6, template="one") for n in range(12)]
    found = fit_calibrator(few, MADE_FOR, TRAINED_ON, prior=fitted)
    assert mean_confidence(found, few) == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(ValueError, match="found none"):
        fit_calibrator([], MADE_FOR, TRAINED_ON, prior=fitted)


@SLOW_TRACED
def test_prefixes_that_cannot_be_told_apart_get_the_finished_rule(fitted: Calibrator) -> None:
    """The short ones are right or wrong; there is none of six tokens, or all of these are right."""
    short = of(60, lambda n: n % 5 > 1, length=4)
    found = fit_calibrator(short, MADE_FOR, TRAINED_ON, prior=fitted)
    assert found.running == found.final
    long = of(24, lambda n: True)
    found = fit_calibrator([*short, *long], MADE_FOR, TRAINED_ON, prior=fitted)
    assert found.running.weights == found.final.weights
    running = [found.confidence(draft.prefix_signals[0], finished=False) for draft in long]
    assert np.mean(running) > 0.9


# --- measurements

Array = NDArray[np.float64]


def floats(*values: float) -> Array:
    return np.array(values, dtype=np.float64)


@pytest.mark.parametrize(
    ("right", "confidence", "value"),
    [
        (floats(0, 0, 1, 1), floats(0.1, 0.2, 0.8, 0.9), 1.0),
        (floats(1, 1, 0, 0), floats(0.1, 0.2, 0.8, 0.9), 0.0),
        (floats(0, 1, 0, 1), floats(0.5, 0.5, 0.5, 0.5), 0.5),
        (floats(0, 1, 0, 1), floats(0.1, 0.2, 0.3, 0.4), 0.75),
    ],
)
def test_auroc_is_the_share_of_pairs_in_order(right: Array, confidence: Array, value: float) -> None:
    assert auroc(right, confidence) == pytest.approx(value)


@pytest.mark.parametrize("right", [floats(1, 1), floats(0, 0)])
def test_auroc_of_one_sort_is_not_a_number(right: Array) -> None:
    assert np.isnan(auroc(right, floats(0.1, 0.9)))


@pytest.mark.parametrize(
    ("right", "confidence", "value"),
    [
        (floats(1), floats(0.75), 0.25),
        (floats(1, 0), floats(1.0, 0.0), 0.0),
        (floats(0, 1), floats(1.0, 0.0), 1.0),
        (floats(*[1, 0] * 10), floats(*np.repeat(np.arange(10) / 10, 2)), 0.25),
        (floats(1, 1, 0), floats(0.9, 0.6, 0.3), (0.1 + 0.4 + 0.3) / 3),
    ],
    ids=["one draft", "perfect", "as wrong as can be", "ten bins of two", "a bin each"],
)
def test_calibration_error_is_the_mean_distance_over_bins(
    right: Array, confidence: Array, value: float
) -> None:
    assert calibration_error(right, confidence) == pytest.approx(value)


def test_calibration_error_does_not_depend_on_the_drafts_order() -> None:
    rng = np.random.default_rng(0)
    right, confidence = rng.integers(0, 2, 57).astype(float), rng.random(57)
    order = rng.permutation(57)
    assert calibration_error(right[order], confidence[order]) == pytest.approx(
        calibration_error(right, confidence)
    )


@pytest.mark.parametrize("statistic", [auroc, lambda right, _: float(right.mean())], ids=["auroc", "mean"])
def test_an_interval_contains_its_value_and_repeats(statistic: Callable[[Array, Array], float]) -> None:
    rng = np.random.default_rng(4)
    confidence = rng.random(80)
    right = (rng.random(80) < confidence).astype(float)
    value, low, high = bootstrap_interval(statistic, right, confidence)
    assert value == round(statistic(right, confidence), 4)
    assert low < value < high
    assert bootstrap_interval(statistic, right, confidence) == [value, low, high]


def test_an_interval_of_what_cannot_be_told_is_not_a_number() -> None:
    assert np.isnan(bootstrap_interval(auroc, floats(1, 1, 1), floats(0.1, 0.5, 0.9))).all()


def test_scores_count_and_grade(fitted: Calibrator) -> None:
    drafts = related(40, seed=5)
    right, confidence = predict_drafts(build_confidence_predictor(fitted), drafts)
    found = score_drafts(build_confidence_predictor(fitted), drafts)
    assert found["drafts"] == 40
    assert found["right"] == round(float(right.mean()), 4)
    assert found["brier"] == round(float(((confidence - right) ** 2).mean()), 4)
    assert found["auroc"][0] == round(auroc(right, confidence), 4)
    assert found["calibration_error"][0] == round(calibration_error(right, confidence), 4)


@pytest.fixture(scope="module")
def report(fast: None) -> dict[str, Any]:
    drafts = [*related(120, seed=6), *related(40, seed=7, split="held_out")]
    return measure_held_out(
        drafts, lambda train: build_confidence_predictor(fit_calibrator(train, MADE_FOR, TRAINED_ON))
    )


@SLOW_TRACED
def test_a_report_measures_held_out_drafts_over_all_and_by_kind(report: dict[str, Any]) -> None:
    assert report["all"]["drafts"] == 40
    assert {kind: found["drafts"] for kind, found in report["kinds"].items()} == {"facts": 20, "sums": 20}
    assert set(report["leaving_kind_out"]) == set(KINDS)


@SLOW_TRACED
def test_a_table_has_a_row_for_each_measurement(report: dict[str, Any]) -> None:
    lines = to_table(report).splitlines()
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]]
    assert names == ["all", "facts", "sums", "facts, trained without it", "sums, trained without it"]
    assert {line.count("|") for line in lines} == {7}
