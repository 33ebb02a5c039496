"""Signals -> P(the draft is good enough), by a logistic rule trained elsewhere and read from a small JSON."""

from collections.abc import Mapping
from math import exp
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from routers.config_models import Finite

from .signals import SignalName

Mode = Literal["free", "constrained"]
"""Whether log-probabilities are over all tokens, or over those that a constraint on the answer allows."""


class LogprobSource(Finite):
    """The model, engine and decoding mode that log-probabilities come from.

    Log-probabilities of other sources are on another scale: vLLM renormalises them under constrained
    decoding, llama.cpp does not.
    """

    model: str
    engine: str
    mode: Mode = "free"

    def matches(self, other: "LogprobSource") -> bool:
        """True if both sources share one scale. Ignores an organisation before the model's name."""
        return self._identity() == other._identity()

    def _identity(self) -> tuple[str, str, str]:
        return self.model.rsplit("/", 1)[-1].casefold(), self.engine, self.mode

    def __str__(self) -> str:
        return f"{self.model} on {self.engine} ({self.mode} decoding)"


class Logistic(Finite):
    """A logistic rule: weights of standardised signals."""

    intercept: float
    weights: tuple[float, ...]


class TrainingSet(Finite):
    """The record set that a calibrator was trained on."""

    records: str
    sha256: str
    drafts: Annotated[int, Field(gt=0)]
    date: str


class Calibrator(Finite):
    """Maps signals to P(good enough): `final` is for finished drafts, `running` for unfinished ones."""

    made_for: LogprobSource
    trained_on: TrainingSet
    signals: Annotated[tuple[SignalName, ...], Field(min_length=1)]
    center: tuple[float, ...]
    scale: tuple[Annotated[float, Field(gt=0)], ...]
    final: Logistic
    running: Logistic

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        for name, values in (
            ("center", self.center),
            ("scale", self.scale),
            ("final.weights", self.final.weights),
            ("running.weights", self.running.weights),
        ):
            if len(values) != len(self.signals):
                raise ValueError(f"{name} has {len(values)} values for {len(self.signals)} signals")
        return self

    def confidence(self, signals: Mapping[SignalName, float], *, finished: bool) -> float:
        """Return P(the draft is good enough), in (0, 1)."""
        rule = self.final if finished else self.running
        z = rule.intercept
        for name, weight, center, scale in zip(
            self.signals, rule.weights, self.center, self.scale, strict=True
        ):
            z += weight * (signals[name] - center) / scale
        return 1.0 / (1.0 + exp(-max(min(z, 30.0), -30.0)))
