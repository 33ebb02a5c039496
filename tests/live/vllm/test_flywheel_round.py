"""Once round the flywheel with real parts, in small: minutes on a CPU."""

from pathlib import Path

import pytest

from benchmarks.flywheel import ADAPTER, BASE, run

pytestmark = [pytest.mark.vllm, pytest.mark.proof, pytest.mark.engine, pytest.mark.timeout(1800)]


def test_an_adapter_trained_on_exported_answers_is_served_by_its_name(
    vllm_models: Path, weights: Path
) -> None:
    found = run(count=40, steps=30)
    assert found["account"]["for training"] > found["account"]["for validation"] > 0
    losses = found["losses"]
    assert losses["after"]["validation"] < losses["before"]["validation"] / 2
    assert found["right"][ADAPTER] > found["right"][BASE]
