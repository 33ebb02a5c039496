"""The base class of strategies, and the facts about a request that a strategy may read.

These facts never include the request's text, so that a record can hold all of them.
"""

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from .confidence.calibration import LogprobSource
from .plan import BOTH_TIERS, NO_FEATURES, Capability, Plan, Tier


class Request(NamedTuple):
    """The facts about a request that a router may read. The record holds all of them."""

    stream: bool = False
    judgeable: bool = True
    """False if a draft is not one text with meaningful log-probabilities (n > 1, audio)."""
    whole: bool = False
    """True if only a complete answer can be checked (tools, a response schema). No part of a draft is then
    committed before its end."""
    tiers: frozenset[Tier] = BOTH_TIERS
    """Tiers that are configured and not known to be down when the exchange begins."""
    able: frozenset[Tier] = BOTH_TIERS
    """Configured tiers that are not known to lack a capability that the request needs. Whether the prompt fits
    their context is not checked here."""
    stays: int = 0
    """Number of turns, this one included, for which the conversation stays with the large model: see a
    policy's `affinity`."""
    features: Mapping[str, float] = NO_FEATURES
    """The prompt's features (see `measure_features` in `difficulty`), if the router reads them."""
    verifies: frozenset[Capability] = frozenset()
    """Which of `scoring` and `prediction` an upstream of the large model offers for this request, if the
    router speculates."""
    greedy: bool = False
    """True if the request asks for temperature 0."""
    most: int | None = None
    """Maximum completion tokens, or None if the request sets no limit."""
    passages: int = 0
    """Number of retrieved passages in the request."""
    renormalised: bool = False
    """True if a constraint on the answer (a schema, choices, a forced call) makes the server renormalise the
    small model's log-probabilities. Only a calibrator for constrained decoding reads these."""
    configured: frozenset[Tier] = BOTH_TIERS
    """Tiers that have an upstream."""

    @property
    def incapable(self) -> frozenset[Tier]:
        """Configured tiers that lack a capability that the request needs."""
        return self.configured - self.able


class Router(BaseModel):
    """A strategy. Its fields are its YAML keys; `plan` makes its decisions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    """Names the strategy."""

    def plan(self, request: Request) -> Plan:
        raise NotImplementedError

    def adapt_to(self, request: Request) -> "Router":
        """Return this router, or a copy with other parameters for this request."""
        return self

    @property
    def needs(self) -> Mapping[Tier, Mapping[Capability, str]]:
        """The capabilities that the strategy itself needs of each tier, each with the field that needs it."""
        return {}

    @property
    def reads_features(self) -> bool:
        """True if the plan reads the request's `features`; otherwise they are not measured."""
        return False

    @property
    def made_for(self) -> LogprobSource | None:
        """What its calibrator is made for; None if it has no calibrator."""
        return None

    @property
    def is_uncalibrated(self) -> bool:
        """True if its confidences are a generic calibrator's, and not one's of the small model."""
        made_for = self.made_for
        return made_for is not None and made_for.is_generic

    @property
    def speculates(self) -> bool:
        """True if the plan reads the request's `verifies`, `greedy` and `most`, which are set only then."""
        return False

    @property
    def max_calls(self) -> int:
        """Maximum upstream calls of one exchange, if the policy sets no ceiling."""
        return 8
