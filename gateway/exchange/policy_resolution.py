"""Finds the policy that answers a request."""

import random

import orjson

from gateway.catalog.catalog import Catalog
from gateway.errors import ApiError, invalid
from gateway.wire.body_types import Body
from gateway.wire.prompt_text import SYSTEM_ROLES
from policies.loading.overrides import OverrideError, OverrideNotAllowed, apply_override
from policies.schema.policy import Policy
from policies.schema.split import Split

from .smallfirst_field import SmallfirstField

IDENTITY_FIELDS = ("safety_identifier", "user", "prompt_cache_key")
"""OpenAI's fields that identify a user or a conversation."""


def resolve_policy(body: Body, field: SmallfirstField, catalog: Catalog) -> Policy:
    """Return the policy that a request names, with what it overrides. A split gives the one that its key is sent to.

    Raises ApiError.
    """
    policy = catalog.resolve(field.policy or body["model"], "smallfirst.policy" if field.policy else "model")
    if isinstance(policy, Split):
        policy = catalog.policies[policy.choose(_split_key(policy, body, field))]
    if not field.override:
        return policy
    try:
        return apply_override(policy, field.override)
    except OverrideNotAllowed as error:
        where = f"smallfirst.{error.at}"
        raise ApiError(403, "override_not_allowed", f"smallfirst.{error}", param=where) from error
    except OverrideError as error:
        raise invalid(f"smallfirst.{error}", f"smallfirst.{error.at}") from error


def _split_key(split: Split, body: Body, field: SmallfirstField) -> str:
    """Return the text that a split hashes: the request's key or conversation, else a random number."""
    if split.split.by == "key":
        candidates = [field.key, *(body.get(name) for name in IDENTITY_FIELDS)]
        if named := next((name for name in candidates if isinstance(name, str) and name), None):
            return named
    if split.split.by == "conversation":
        return conversation_key(body)
    return str(random.random())  # noqa: S311  no secret


def conversation_key(body: Body) -> str:
    """Return a key that all turns of a conversation share: the messages up to the first that is not the system's."""
    messages = body.get("messages")
    if not messages:
        return str(body.get("prompt"))
    first = next((at for at, message in enumerate(messages) if message["role"] not in SYSTEM_ROLES), 0)
    return orjson.dumps(messages[: first + 1], option=orjson.OPT_SORT_KEYS).decode()
