"""A strategy, and what it may know of a request: never its text, so that a record holds all of it."""

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from .plan import BOTH_TIERS, NO_FEATURES, Capability, Plan, Tier


class Request(NamedTuple):
    """What a router may know of a request; all of it is kept in the record."""

    stream: bool = False
    judgeable: bool = True
    """False where a draft is not one text whose log-probabilities mean something (n > 1, audio)."""
    whole: bool = False
    """The answer can be checked only once it is complete (tools, a response schema): no part of a draft is
    committed before its end."""
    tiers: frozenset[Tier] = BOTH_TIERS
    """Tiers that are configured and not known to be down as the exchange begins."""
    able: frozenset[Tier] = BOTH_TIERS
    """Tiers of which nothing is known that keeps them from doing what the request needs; whether its prompt fits their
    context is not asked here."""
    stays: int = 0
    """For how many turns, this one included, the conversation stays with the large model: see a policy's
    `affinity`."""
    features: Mapping[str, float] = NO_FEATURES
    """What is measured of the prompt, where the router reads it: see `difficulty`."""
    verifies: frozenset[Capability] = frozenset()
    """Which of `scoring` and `prediction` an upstream of the large model offers for such a request, where the router
    speculates."""
    greedy: bool = False
    """Whether it asks for temperature 0, so that there is one answer to be found."""
    most: int | None = None
    """Tokens that the answer may have, where the request limits them."""
    passages: int = 0
    """How many retrieved passages came with it."""
    renormalised: bool = False
    """A constraint on the answer (a schema, choices, a forced call) makes the small model's log-probabilities those of
    what the constraint leaves: only a calibrator made for that reads them."""


class Router(BaseModel):
    """A strategy: its fields are its YAML, `plan` is its decision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    """Names the strategy."""

    def plan(self, request: Request) -> Plan:
        raise NotImplementedError

    def fitted(self, request: Request) -> "Router":
        """Itself, or how it goes about a request of this kind."""
        return self

    @property
    def needs(self) -> Mapping[Tier, Mapping[Capability, str]]:
        """What it asks of a tier, where that is there, beside what requests do: which field of its asks for it."""
        return {}

    @property
    def reads_features(self) -> bool:
        """Whether its plan reads the request's `features`, which are measured only then."""
        return False

    @property
    def speculates(self) -> bool:
        """Whether its plan reads what the request says of verification, which is found out only then."""
        return False

    @property
    def calls(self) -> int:
        """Upstream calls that one exchange takes at most, where the policy's ceilings don't say."""
        return 8
