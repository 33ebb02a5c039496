"""POST /tokenize and /detokenize, in vLLM's shapes, answered by whoever would be asked to write."""

from collections.abc import Mapping

import orjson
from fastapi import APIRouter, Request

from gateway.catalog.live import LivePolicies
from gateway.errors import from_unavailable, invalid
from gateway.exchange.builder import at_home, own_field, policy_of
from gateway.exchange.passages import passages_of
from gateway.upstreams.pool import Pool
from gateway.upstreams.transport.garbage import MISSHAPEN
from gateway.upstreams.transport.transport import Broken
from gateway.upstreams.upstream import Upstream
from gateway.wire.nesting import read_json
from gateway.wire.requirements import Needs
from gateway.wire.shapes import Body, Endpoint
from gateway.wire.vendor_fields import given
from policies.schema.policy import Policy
from routers.plan import Tier, Unavailable
from routers.strategies.direct import Direct

from .request_body import ClientGone, check_chat, check_common, expect, parse, read_body

NO_GENERATION = {"add_special_tokens"}
"""Of the fields that only vLLM's generation knows, what `/tokenize` knows everywhere."""


def token_routes(policies: LivePolicies, pools: Mapping[Tier, Pool], body_limit: int) -> APIRouter:
    router = APIRouter()

    async def read(request: Request) -> tuple[Body, Upstream]:
        try:
            body = parse(await read_body(request.receive, body_limit))
        except ClientGone as gone:
            raise invalid("the client went away", code="invalid_json") from gone
        check_common(body)
        return body, tokenizer_of(body, policies, pools)

    @router.post("/tokenize", summary="The token ids of a prompt, or of messages as the model reads them")
    async def tokenize(request: Request) -> Body:
        body, upstream = await read(request)
        if "messages" in body:
            check_chat(body)
        else:
            expect("prompt", body.get("prompt"), str, "a string")
        endpoint: Endpoint = "chat" if "messages" in body else "completions"
        if passages := passages_of(own_field(body).context, body, endpoint):
            body = passages.shown()
        if unknown := given(body, upstream.kind.ignores) - NO_GENERATION:
            what = f"{upstream.name} does not know {', '.join(sorted(unknown))}"
            raise invalid(what, min(unknown), "not_supported")
        return await _asked(upstream, "tokenize", body)

    @router.post("/detokenize", summary="The text of token ids")
    async def detokenize(request: Request) -> Body:
        body, upstream = await read(request)
        expect("tokens", body.get("tokens"), list, "a list")
        for place, token in enumerate(body["tokens"]):
            expect(f"tokens[{place}]", token, int, "an integer")
        return await _asked(upstream, "detokenize", body)

    return router


def tokenizer_of(body: Body, policies: LivePolicies, pools: Mapping[Tier, Pool]) -> Upstream:
    """The first upstream of a policy that tells tokens: where both tiers may write, the small model's. What is
    private is shown to no cloud. Raises ApiError."""
    own, catalogue = own_field(body), policies.catalogue
    policy = policy_of(body, own, catalogue)
    needs = Needs(model=policy.name if policy.name in catalogue.models else None)
    seen = at_home(pools) if own.private or policy.private else pools
    found = _telling(policy, seen, needs)
    if found:
        return next((upstream for upstream in found if upstream.up), found[0])
    if clouds := _telling(policy, pools, needs):
        what = f"this request is private, and no cloud may see it ({clouds[0].name})"
        raise from_unavailable(Unavailable("private", clouds[0].tier, what), [])
    raise invalid(f"no upstream of {policy.name} tells tokens", "model", "not_supported")


def _telling(policy: Policy, pools: Mapping[Tier, Pool], needs: Needs) -> list[Upstream]:
    router = policy.router
    tiers: tuple[Tier, ...] = (router.tier,) if isinstance(router, Direct) else ("slm", "llm")
    upstreams = [upstream for tier in tiers if tier in pools for upstream in pools[tier].upstreams]
    return [one for one in upstreams if one.kind.tokenizer is not None and one.fits(needs)]


async def _asked(upstream: Upstream, what: str, body: Body) -> Body:
    """Raises ApiError."""
    named = body["model"] if body["model"] in upstream.models else upstream.model
    asked = {key: value for key, value in body.items() if key != "smallfirst"} | {"model": named}

    async def post(endpoint: str, content: Body) -> Body:
        return await _posted(upstream, endpoint, content)

    tokenizer = upstream.kind.tokenizer
    assert tokenizer is not None  # noqa: S101  it was chosen for it
    ask = tokenizer.tokenize if what == "tokenize" else tokenizer.detokenize
    try:
        answer = await ask(post, asked)
    except Unavailable as lost:
        raise from_unavailable(lost, []) from lost
    except MISSHAPEN as error:
        garbage = Unavailable("garbage", upstream.tier, f"{upstream.name}: not what a tokenizer answers")
        raise from_unavailable(garbage, []) from error
    if answer.get("max_model_len", 0) is None:
        answer["max_model_len"] = upstream.context
    return answer


async def _posted(upstream: Upstream, endpoint: str, content: Body) -> Body:
    """Raises Unavailable."""
    call = await upstream.send(upstream.url(endpoint), orjson.dumps(content), stream=False)
    try:
        answer: Body = read_json(await call.response.read())
        upstream.worked()
    except (Broken, ValueError) as error:
        upstream.broke()
        why = error.why if isinstance(error, Broken) else "garbage"
        raise Unavailable(why, upstream.tier, f"{upstream.name}: {error}") from error
    finally:
        call.close()
    return answer
