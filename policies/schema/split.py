"""A policy file that divides requests among several policies, for A/B tests and canaries."""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .policy import Policy

Share = Annotated[float, Field(gt=0)]


class Division(BaseModel):
    """Says how requests are divided among policies."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    by: Literal["key", "conversation", "request"] = "key"
    """What decides the policy, so that equal values get the same policy every time. `key`: the body's
    `smallfirst.key`, else its `safety_identifier` or `user`; `conversation`: the conversation's first
    message. `request`, and any request that lacks a key: each request is decided by itself."""
    between: Annotated[dict[str, Share], Field(min_length=2)]
    """Shares by policy name. They are relative and need not sum to 1."""


class Split(BaseModel):
    """Stands for several policies. It resolves to one of them before a plan is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[!-~]+$")]
    """What a request's `model` calls this split: the file's name without `.yaml`, never a key of it."""
    description: Annotated[str, Field(min_length=1)]
    """A text for people."""
    split: Division
    """How requests are divided, and between which policies."""

    @property
    def kind(self) -> str:
        """The kind shown in lists, where a policy shows its strategy."""
        return "split"

    def choose(self, key: str) -> str:
        """Return the name of the policy for `key`: always the same; in proportion to the shares over many keys.

        If the first policy's share grows, no key moves away from it."""
        digest = hashlib.blake2b(f"{self.name}\0{key}".encode(), digest_size=8).digest()
        remaining = int.from_bytes(digest, "big") / 2**64 * sum(self.split.between.values())
        for name, share in self.split.between.items():
            remaining -= share
            if remaining < 0:
                return name
        return name


AnyPolicy = Policy | Split
"""The two things that a policy file may hold."""
