"""POST /tokenize and /detokenize, in vLLM's format, answered by an upstream that could answer the request."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Request

from gateway.api.listener.json_router import JsonRouter
from gateway.catalog.live_policies import LivePolicies
from gateway.errors import invalid
from gateway.exchange.builder import without_clouds
from gateway.exchange.error_mapping import to_api_error
from gateway.exchange.passages import read_passages
from gateway.exchange.policy_resolution import resolve_policy
from gateway.exchange.smallfirst_field import read_smallfirst_field
from gateway.upstreams.pool import Pool
from gateway.upstreams.transport.malformed import MISSHAPEN
from gateway.upstreams.transport.transport import TransportError
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body, Endpoint
from gateway.wire.requirements import Requirements
from gateway.wire.validation import check_chat, check_common, check_type
from gateway.wire.vendor_fields import present_fields
from policies.schema.policy import Policy
from routers.plan import Tier, Unavailable
from routers.strategies.direct import Direct

from .request_body import ClientGone, parse_body, read_body

MAX_BODY_BYTES = 8 * 2**20
"""Maximum bytes of a request: about two million tokens. The answer to a longer one would hold up all streams."""

TOKENIZER_FIELDS = {"add_special_tokens"}
"""Fields that only vLLM accepts for generation, but that every server's `/tokenize` accepts."""


def token_routes(policies: LivePolicies, pools: Mapping[Tier, Pool], body_limit: int) -> JsonRouter:
    router = JsonRouter()

    async def read(request: Request) -> tuple[Body, Upstream]:
        try:
            body = parse_body(
                await read_body(request.scope, request.receive, min(body_limit, MAX_BODY_BYTES))
            )
        except ClientGone as gone:
            raise invalid("the client went away", code="invalid_json") from gone
        check_common(body)
        return body, find_tokenizer(body, policies, pools)

    @router.post("/tokenize", summary="The token ids of a prompt, or of messages as the model reads them")
    async def tokenize(request: Request) -> Body:
        body, upstream = await read(request)
        if "messages" in body:
            check_chat(body)
        else:
            check_type("prompt", body.get("prompt"), str, "a string")
        endpoint: Endpoint = "chat" if "messages" in body else "completions"
        if passages := read_passages(read_smallfirst_field(body).context, body, endpoint):
            body = passages.body_with()
        if unknown := present_fields(body, upstream.kind.ignored_fields) - TOKENIZER_FIELDS:
            what = f"{upstream.name} does not know {', '.join(sorted(unknown))}"
            raise invalid(what, min(unknown), "not_supported")
        return await _fetch_answer(upstream, "tokenize", body)

    @router.post("/detokenize", summary="The text of token ids")
    async def detokenize(request: Request) -> Body:
        body, upstream = await read(request)
        check_type("tokens", body.get("tokens"), list, "a list")
        _check_tokens(body["tokens"])
        return await _fetch_answer(upstream, "detokenize", body)

    return router


def _check_tokens(tokens: list[Any]) -> None:
    """Raise ApiError for the first that is no integer. No path is built for the others: they may be millions."""
    kinds = [*map(type, tokens)]
    if set(kinds) - {int}:
        place = next(place for place, kind in enumerate(kinds) if kind is not int)
        check_type(f"tokens[{place}]", tokens[place], int, "an integer")


def find_tokenizer(body: Body, policies: LivePolicies, pools: Mapping[Tier, Pool]) -> Upstream:
    """Return the first upstream of the request's policy that has a tokenizer, preferably one that is up.

    If both tiers may answer, the small model's upstreams come first. A private request goes to no cloud. Raises
    ApiError if there is no such upstream.
    """
    field, catalogue = read_smallfirst_field(body), policies.catalog
    policy = resolve_policy(body, field, catalogue)
    needs = Requirements(model=policy.name if policy.name in catalogue.models else None)
    allowed = without_clouds(pools) if field.private or policy.private else pools
    candidates = _find_tokenizers(policy, allowed, needs)
    if candidates:
        return next((upstream for upstream in candidates if upstream.is_up), candidates[0])
    if clouds := _find_tokenizers(policy, pools, needs):
        what = f"this request is private, and no cloud may see it ({clouds[0].name})"
        raise to_api_error(Unavailable("private", clouds[0].tier, what), [])
    raise invalid(f"no upstream of {policy.name} tells tokens", "model", "not_supported")


def _find_tokenizers(policy: Policy, pools: Mapping[Tier, Pool], needs: Requirements) -> list[Upstream]:
    router = policy.router
    tiers: tuple[Tier, ...] = (router.tier,) if isinstance(router, Direct) else ("slm", "llm")
    upstreams = [upstream for tier in tiers if tier in pools for upstream in pools[tier].upstreams]
    return [
        upstream
        for upstream in upstreams
        if upstream.kind.tokenizer is not None and upstream.can_serve(needs)
    ]


async def _fetch_answer(upstream: Upstream, what: str, body: Body) -> Body:
    """Return what the upstream's tokenizer answers. `what` is `tokenize` or `detokenize`. Raises ApiError."""
    model = body["model"] if body["model"] in upstream.models else upstream.model
    request = {key: value for key, value in body.items() if key != "smallfirst"} | {"model": model}

    async def post(endpoint: str, content: Body) -> Body:
        return await _post(upstream, endpoint, content)

    tokenizer = upstream.kind.tokenizer
    assert tokenizer is not None  # noqa: S101  `find_tokenizer` chose the upstream for it
    call_tokenizer = tokenizer.tokenize if what == "tokenize" else tokenizer.detokenize
    try:
        answer = await call_tokenizer(post, request)
    except Unavailable as failure:
        raise to_api_error(failure, []) from failure
    except MISSHAPEN as error:
        garbage = Unavailable("garbage", upstream.tier, f"{upstream.name}: not what a tokenizer answers")
        raise to_api_error(garbage, []) from error
    if answer.get("max_model_len", 0) is None:
        answer["max_model_len"] = upstream.context_length
    return answer


async def _post(upstream: Upstream, endpoint: str, content: Body) -> Body:
    """POST to the upstream and return the JSON that it answers. Raises Unavailable."""
    try:
        answer = await upstream.fetch(endpoint, orjson.dumps(content))
    except TransportError as error:
        upstream.record_failure()
        raise Unavailable(error.why, upstream.tier, f"{upstream.name}: {error}") from error
    upstream.record_success()
    return answer
