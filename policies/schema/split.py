"""A policy file that stands for several: requests are divided among them, for A/B tests and canaries."""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .policy import Policy

Share = Annotated[float, Field(gt=0)]


class Division(BaseModel):
    """How requests are divided."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    by: Literal["key", "conversation", "request"] = "key"
    """What is sent the same way every time: the body's `smallfirst.key` (else its `safety_identifier` or `user`), or
    the conversation's first message. `request`, and whatever lacks a key: each request by itself."""
    between: Annotated[dict[str, Share], Field(min_length=2)]
    """Policies by name, each with its share; shares need not sum to anything."""


class Split(BaseModel):
    """Resolves to one of its policies before a plan is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[!-~]+$")]
    """What a request's `model` names it by: the file's name without `.yaml`, never a key of the file."""
    description: Annotated[str, Field(min_length=1)]
    """For people."""
    split: Division
    """How requests are divided, and between which policies."""

    @property
    def kind(self) -> str:
        """What it is, beside the strategies of policies."""
        return "split"

    def choose(self, key: str) -> str:
        """The name of the policy that `key` is sent to: always the same, and over many keys in proportion to the
        shares. Growing one policy's share moves no key away from it where it stands first."""
        digest = hashlib.blake2b(f"{self.name}\0{key}".encode(), digest_size=8).digest()
        left = int.from_bytes(digest, "big") / 2**64 * sum(self.split.between.values())
        for name, share in self.split.between.items():
            left -= share
            if left < 0:
                return name
        return name


AnyPolicy = Policy | Split
"""What a policy file holds."""
