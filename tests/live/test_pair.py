"""The real pair: SmolLM2-135M drafts, the 1.5B model takes over."""

import pytest

from benchmarks import large, pair

pytestmark = [pytest.mark.engine]
SHARES = ("share_30", "share_50")


@pytest.fixture(scope="module")
def answers(weights: object, request: pytest.FixtureRequest) -> pair.Answers:
    if not large.path().is_file():
        pytest.skip("the 1.5B model is not here: make weights")
    return pair.asked(pair.held_out(request.param))


some = pytest.mark.parametrize("answers", [pytest.param(pair.SAMPLE, marks=pytest.mark.heavy)], indirect=True)
all_of_them = pytest.mark.parametrize(
    "answers", [pytest.param(pair.ALL, marks=pytest.mark.proof)], indirect=True
)


@some
def test_confidence_tells_right_drafts_from_wrong_ones(answers: pair.Answers):
    found = pair.measured(answers)
    assert found["items"] == pair.SAMPLE
    assert found["auroc"] > 0.6


@some
@pytest.mark.parametrize("share", SHARES)
def test_the_cascade_is_better_than_random_escalation(answers: pair.Answers, share: str):
    found = pair.measured(answers)
    assert found[share]["gain"][0] > 0, found


@all_of_them
@pytest.mark.parametrize("share", SHARES)
def test_it_is_better_by_more_than_its_interval(answers: pair.Answers, share: str):
    """On a sample of 100 the interval begins near zero, above or below it by processor: see docs/measurements.md."""
    found = pair.measured(answers)
    assert found[share]["gain"][1] > 0, found


@some
def test_the_large_model_is_worth_asking(answers: pair.Answers):
    assert answers.large.mean() > answers.small.mean() + 0.1
