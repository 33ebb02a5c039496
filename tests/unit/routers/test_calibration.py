"""A calibrator's confidence, by hand, and what is no calibrator."""

from math import exp
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.router_builders import calibrator

from routers.confidence.calibration import Calibrator, Fingerprint, Logistic, LogprobSource

TWO = calibrator(
    signals=("mean", "log_length"),
    center=(-1.0, 2.0),
    scale=(0.5, 4.0),
    final=Logistic(intercept=0.25, weights=(2.0, -1.0)),
    running=Logistic(intercept=0.0, weights=(1.0, 0.0)),
)
FINITE = st.floats(-1e6, 1e6)


def test_a_finished_drafts_confidence_is_the_logistic_of_its_standardised_signals() -> None:
    z = 0.25 + 2.0 * (-0.5 + 1.0) / 0.5 - 1.0 * (4.0 - 2.0) / 4.0
    found = TWO.confidence({"mean": -0.5, "log_length": 4.0}, finished=True)
    assert found == pytest.approx(1.0 / (1.0 + exp(-z)))


def test_a_beginning_has_weights_of_its_own() -> None:
    found = TWO.confidence({"mean": -0.5, "log_length": 4.0}, finished=False)
    assert found == pytest.approx(1.0 / (1.0 + exp(-1.0)))


def test_other_signals_do_not_matter() -> None:
    assert calibrator().confidence({"mean": -1.0, "min": -9.0}, finished=True) == 0.5


@given(FINITE, FINITE)
def test_a_confidence_lies_between_never_and_always(mean: float, length: float) -> None:
    assert 0.0 < TWO.confidence({"mean": mean, "log_length": length}, finished=True) < 1.0


@given(FINITE, FINITE)
def test_more_of_a_signal_with_positive_weight_is_never_less_confidence(one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert calibrator().confidence({"mean": low}, finished=True) <= calibrator().confidence(
        {"mean": high}, finished=True
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"center": (0.0, 0.0)}, "center has 2 values for 1 signals"),
        ({"scale": ()}, "scale has 0 values for 1 signals"),
        ({"final": Logistic(intercept=0.0, weights=())}, "final.weights has 0 values"),
        ({"running": Logistic(intercept=0.0, weights=(1.0, 1.0))}, "running.weights has 2 values"),
        ({"signals": ()}, "at least 1 item"),
        ({"signals": ("vibes",)}, "Input should be 'mean'"),
        ({"scale": (0.0,)}, "greater than 0"),
        ({"center": (float("nan"),)}, "finite number"),
        ({"scale": (float("inf"),)}, "finite number"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        calibrator(**changes)


def test_a_calibrator_survives_its_file() -> None:
    assert Calibrator.model_validate_json(TWO.model_dump_json()) == TWO


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (LogprobSource(model="org/Small", engine="vllm"), True),
        (LogprobSource(model="SMALL", engine="vllm"), True),
        (LogprobSource(model="a/b/small", engine="vllm"), True),
        (LogprobSource(model="small-2", engine="vllm"), False),
        (LogprobSource(model="small/", engine="vllm"), False),
        (LogprobSource(model="small", engine="llamacpp"), False),
        (LogprobSource(model="small", engine="vllm", mode="constrained"), False),
    ],
)
def test_sources_match_by_model_engine_and_mode(other: LogprobSource, same: bool) -> None:
    source = LogprobSource(model="small", engine="vllm")
    assert source.matches(other) is other.matches(source) is same


def test_a_source_says_what_it_is() -> None:
    assert str(LogprobSource(model="small", engine="vllm")) == "small on vllm (free decoding)"


FILES = Fingerprint(weights="a1", quantisation="Q4_K_M", chat_template="c1", parameters=100)


def source(model: str = "small", known: Fingerprint | None = FILES, **more: Any) -> LogprobSource:
    return LogprobSource(model=model, engine="llamacpp", fingerprint=known, **more)


@pytest.mark.parametrize(
    ("made_for", "served", "same"),
    [
        (source(), source(), True),
        (source(), source("renamed"), True),
        (source(), source(known=FILES.model_copy(update={"weights": "b2"})), False),
        (source(), source(known=FILES.model_copy(update={"chat_template": "c2"})), False),
        (source(), source(known=FILES.model_copy(update={"quantisation": "Q8_0"})), False),
        (source(), LogprobSource(model="small", engine="vllm", fingerprint=FILES), False),
        (source(known=None), source(), True),
        (source(known=None), source("renamed"), False),
        (source(), source("org/SMALL", known=None), True),
        (source(), source("renamed", known=None), False),
        (source(known=Fingerprint(parameters=100)), source(), True),
        (source(known=Fingerprint(parameters=200)), source(), False),
        (source(known=Fingerprint(parameters=100)), source("renamed"), False),
    ],
)
def test_known_files_decide_and_else_the_name(made_for: LogprobSource, served: LogprobSource, same: bool):
    assert made_for.matches(served) is served.matches(made_for) is same


@pytest.mark.parametrize(
    ("known", "same"),
    [
        (FILES, True),
        (FILES.model_copy(update={"parameters": 200}), False),
        (Fingerprint(), False),
        (None, False),
    ],
)
def test_an_alias_counts_only_for_a_model_of_the_same_size(known: Fingerprint | None, same: bool):
    made_for = source(known=Fingerprint(chat_template="c1", parameters=100), aliases=("nick",))
    assert made_for.matches(source("org/Nick", known)) is same


def test_a_generic_calibrator_is_for_every_model_of_its_mode():
    generic = LogprobSource(model="any", engine="any")
    assert generic.is_generic
    assert generic.matches(source())
    assert not generic.matches(source(mode="constrained"))
    assert not LogprobSource(model="any", engine="vllm").is_generic


def test_a_fingerprint_has_a_digest_if_it_knows_the_weights():
    assert Fingerprint(quantisation="Q4_1").digest is None
    digests = {
        FILES.model_copy(update=change).digest
        for change in ({}, {"weights": "b2"}, {"quantisation": "Q8_0"}, {"chat_template": "c2"})
    }
    assert len(digests) == 4


def test_a_source_without_files_and_aliases_is_written_as_it_always_was():
    written = source(known=None).model_dump()
    assert written == {"model": "small", "engine": "llamacpp", "mode": "free"}
    known = source(aliases=("nick",))
    assert LogprobSource.model_validate_json(known.model_dump_json()) == known
