"""What a request may have otherwise: the fields of a policy's router that the policy lets it override."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from policies.schema.policy import Policy

from .yaml_files import At, dotted

KEPT = 256
"""Overridden policies that are kept: clients repeat themselves."""


class OverrideError(ValueError):
    """An override whose value the router refuses. `at` is its path, from `override` on; the text names it too, and
    what may be overridden."""

    def __init__(self, policy: Policy, at: At, what: str) -> None:
        self.at = dotted(("override", *at))
        allowed = ", ".join(policy.overrides) or "nothing"
        super().__init__(f"{self.at}: {what}; policy {policy.name} lets a request override {allowed}")


class OverrideNotAllowed(OverrideError):
    """An override that the policy does not allow."""


def overridden(policy: Policy, override: Mapping[str, Any]) -> Policy:
    """The policy as a request would have it, under its own digest; `override` is JSON, and its types are taken
    strictly. Raises OverrideError."""
    for name in override:
        if name not in policy.overrides:
            raise OverrideNotAllowed(policy, (name,), "is not to be overridden")
    try:
        return _overridden(policy, json.dumps(override, sort_keys=True)) if override else policy
    except RecursionError as error:
        raise OverrideError(policy, (), "is nested too deeply") from error


@lru_cache(maxsize=KEPT)
def _overridden(policy: Policy, override: str) -> Policy:
    fields = policy.router.model_dump(mode="json") | json.loads(override)
    try:
        router = type(policy.router).model_validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        detail = error.errors()[0]
        raise OverrideError(policy, detail["loc"], detail["msg"].removeprefix("Value error, ")) from error
    return policy.changed(router=router)
