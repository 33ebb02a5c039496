"""Signals -> P(the draft is good enough), by a logistic rule trained elsewhere and read from a small JSON."""

import hashlib
from collections.abc import Mapping
from math import exp
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from routers.config_models import Finite

from .signals import SignalName

Mode = Literal["free", "constrained"]
"""Whether log-probabilities are over all tokens, or over those that a constraint on the answer allows."""


ANY = "any"
"""The model and the engine of a generic calibrator."""


class Fingerprint(Finite):
    """What tells a model's files from those of other models of its name. Facts that are not known are None."""

    weights: str | None = None
    """The SHA-256 of the weights, in hex digits."""
    quantisation: str | None = None
    chat_template: str | None = None
    """The SHA-256 of the chat template, in hex digits."""
    parameters: int | None = None

    @property
    def digest(self) -> str | None:
        """The SHA-256 of the weights, their quantisation and the chat template; None if the weights are not known."""
        if self.weights is None:
            return None
        facts = (self.weights, self.quantisation or "", self.chat_template or "")
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    def list_differences(self, other: "Fingerprint") -> list[str]:
        """Return the names of the facts that both know and that differ."""
        return [
            name
            for (name, mine), (_, theirs) in zip(self, other, strict=True)
            if mine is not None and theirs is not None and mine != theirs
        ]


UNKNOWN = Fingerprint()


class LogprobSource(Finite):
    """The model, engine and decoding mode that log-probabilities come from.

    Log-probabilities of other sources are on another scale: vLLM renormalises them under constrained
    decoding, llama.cpp does not.
    """

    model: str
    engine: str
    mode: Mode = "free"
    aliases: Annotated[tuple[str, ...], Field(exclude_if=lambda names: not names)] = ()
    """Other names of the model. They count only if both fingerprints have the same number of parameters."""
    fingerprint: Annotated[Fingerprint | None, Field(exclude_if=lambda known: known is None)] = None
    """The model's files, if they are known."""

    @property
    def is_generic(self) -> bool:
        """True for a calibrator that is for no model in particular."""
        return self.model == ANY and self.engine == ANY

    def matches(self, other: "LogprobSource") -> bool:
        """True if both sources share one scale.

        What both fingerprints know must be equal. If both know the weights, these decide, whatever the model is called.
        Otherwise the names must be equal; an organisation before the name is ignored. A generic source shares the scale
        of every source of its mode.
        """
        if self.mode != other.mode:
            return False
        if self.is_generic or other.is_generic:
            return True
        mine, theirs = self.fingerprint or UNKNOWN, other.fingerprint or UNKNOWN
        if self.engine != other.engine or mine.list_differences(theirs):
            return False
        if mine.weights is not None and theirs.weights is not None:
            return True
        has_same_size = mine.parameters is not None and mine.parameters == theirs.parameters
        return not self._list_names(has_same_size).isdisjoint(other._list_names(has_same_size))

    def has_name(self, model: str) -> bool:
        """True if `model` is this model's name. An organisation before either is ignored."""
        return _to_plain_name(model) == _to_plain_name(self.model)

    def _list_names(self, with_aliases: bool) -> set[str]:
        return {_to_plain_name(name) for name in (self.model, *(self.aliases if with_aliases else ()))}

    def __str__(self) -> str:
        return f"{self.model} on {self.engine} ({self.mode} decoding)"


def _to_plain_name(model: str) -> str:
    return model.rsplit("/", 1)[-1].casefold()


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
