"""Decides whether the large model can verify drafts of a request's answer.

It can if the verification knows every field that shapes the answer.
"""

from collections.abc import Mapping
from typing import Any

from gateway.upstreams.pool import Pool
from gateway.wire.body_types import Body, Endpoint
from gateway.wire.requirements import Requirements
from routers.plan import Capability, Tier

VERIFIABLE_FIELDS = frozenset(
    {
        *("model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens"),
        *("temperature", "top_p", "top_k", "seed", "user", "metadata", "store", "service_tier"),
        *("safety_identifier", "prompt_cache_key", "smallfirst", "priority", "cache_salt"),
        *("chat_template_kwargs", "chat_template", "documents", "reasoning_effort"),
    }
)
"""Fields that a verification gets too, or that do not change an answer at temperature 0."""
PENALTIES = ("presence_penalty", "frequency_penalty")
VERIFICATIONS: tuple[Capability, ...] = ("scoring", "prediction")
NONE: frozenset[Capability] = frozenset()


def find_verifications(
    body: Body, endpoint: Endpoint, needs: Requirements, pools: Mapping[Tier, Pool]
) -> frozenset[Capability]:
    """Return the ways of verification that an upstream of the large model offers for a checked body."""
    if "llm" not in pools or endpoint == "embeddings" or not _is_plain(body):
        return NONE
    ways = VERIFICATIONS if endpoint == "chat" else ("scoring",)
    return frozenset(
        way
        for way in ways
        if pools["llm"].can_serve_now(needs._replace(capabilities=needs.capabilities | {way}))
    )


def answer_token_limit(body: Body) -> int | None:
    """Return the maximum number of the answer's tokens; None if the body sets none."""
    limits = [body[name] for name in ("max_tokens", "max_completion_tokens") if body.get(name) is not None]
    return min(limits, default=None)


def _is_plain(body: Body) -> bool:
    if not all(key in VERIFIABLE_FIELDS or _is_absent(key, value) for key, value in body.items()):
        return False
    if "messages" not in body:
        return isinstance(body.get("prompt"), str)
    texts = all(isinstance(message.get("content"), str) for message in body["messages"])
    return texts and body["messages"][-1]["role"] != "assistant"


def _is_absent(key: str, value: Any) -> bool:
    """Return whether a field's value means the same as leaving the field out."""
    if key == "n":
        return value in (None, 1)
    return value is None or value is False or value in ([], {}) or (key in PENALTIES and value == 0)
