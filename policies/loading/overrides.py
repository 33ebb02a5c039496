"""Applies a request's `override` to the router fields that its policy allows."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from policies.schema.policy import Policy

from .yaml_files import KeyPath, explain_problem, to_dotted

CACHE_SIZE = 256
"""Maximum number of overridden policies that are cached, since clients repeat overrides."""


class OverrideError(ValueError):
    """An override whose value the router refuses.

    `at` is its dotted key path, starting with `override`. The message names that path and what may be
    overridden."""

    def __init__(self, policy: Policy, at: KeyPath, what: str) -> None:
        self.at = to_dotted(("override", *at))
        allowed = ", ".join(policy.overrides) or "nothing"
        super().__init__(f"{self.at}: {what}; policy {policy.name} lets a request override {allowed}")


class OverrideNotAllowed(OverrideError):
    """An override of a field that the policy does not allow."""


def apply_override(policy: Policy, override: Mapping[str, Any]) -> Policy:
    """Return the policy with the router fields of `override`, and so with a digest of its own.

    The values come from JSON and are not coerced to other types. Raises OverrideError."""
    for name in override:
        if name not in policy.overrides:
            raise OverrideNotAllowed(policy, (name,), "is not to be overridden")
    try:
        return _apply_json(policy, json.dumps(override, sort_keys=True)) if override else policy
    except RecursionError as error:
        raise OverrideError(policy, (), "is nested too deeply") from error


@lru_cache(maxsize=CACHE_SIZE)
def _apply_json(policy: Policy, override: str) -> Policy:
    fields = policy.router.model_dump(mode="json") | json.loads(override)
    try:
        router = type(policy.router).model_validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        detail = error.errors()[0]
        raise OverrideError(policy, detail["loc"], explain_problem(detail)) from error
    return policy.replace(router=router)
