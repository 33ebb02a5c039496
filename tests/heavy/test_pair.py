"""The real pair: SmolLM2-135M drafts, the 1.5B model takes over."""

import pytest

from benchmarks import large, pair

pytestmark = [pytest.mark.heavy, pytest.mark.engine]


@pytest.fixture(scope="module")
def found(weights: object) -> dict:
    if not large.path().is_file():
        pytest.skip("the 1.5B model is not here: make weights")
    return pair.run(100)


@pytest.mark.parametrize("share", ["share_30", "share_50"])
def test_the_cascade_beats_random_escalation_by_more_than_its_interval(found: dict, share: str):
    assert found["items"] == 100
    gain, low, _ = found[share]["gain"]
    assert gain > 0
    assert low > 0, found


def test_the_large_model_is_worth_asking(found: dict):
    assert found["large_right"] > found["small_right"] + 0.1
