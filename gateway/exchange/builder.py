"""A request's body -> the exchange that answers it: which policy, and what a router may know of the request."""

import random
import time
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.api.request_body import judgeable
from gateway.api.surface import Surface
from gateway.catalog.catalog import Catalogue, lacking
from gateway.catalog.live import LivePolicies
from gateway.errors import ApiError, from_unavailable, invalid
from gateway.skills.guard.prompt_leak import against_leaks
from gateway.skills.privacy.screen import Privacy
from gateway.state.conversations import Conversations
from gateway.upstreams.pool import Pool
from gateway.wire.prompt_text import SYSTEM, measured
from gateway.wire.requirements import Needs, capabilities_of, least_tokens, top_logprobs_of
from gateway.wire.shapes import Body, Endpoint
from gateway.wire.structured_outputs import constrains
from gateway.wire.vendor_fields import SPECIAL, given
from policies.loading.overrides import OverrideError, OverrideNotAllowed, overridden
from policies.schema.policy import Policy
from policies.schema.private import Private
from policies.schema.split import Split
from routers.plan import NO_FEATURES, Reason, Tier
from routers.reasons import ESCALATIONS
from routers.router import Request
from routers.strategies.direct import Direct
from routers.structure.expected import Expected

from .captured import Kept
from .exchange import Exchange
from .passages import passages_of
from .verifiable import most_tokens, verifies

Tag = Annotated[str, Field(max_length=256)]


class OwnField(BaseModel):
    """The body's `smallfirst` field, read and taken out before any upstream sees the body."""

    model_config = ConfigDict(extra="forbid", strict=True)

    policy: str | None = None
    override: dict[str, Any] | None = None
    context: Any = None
    private: bool = False
    key: Annotated[str, Field(max_length=256)] | None = None
    tags: Annotated[dict[Tag, Tag], Field(max_length=16)] = {}


NAMING = ("safety_identifier", "user", "prompt_cache_key")
"""OpenAI's fields that tell one user or conversation from another."""


class Opening:
    """Opens exchanges; `keeps`: their answers are kept, to be recorded."""

    def __init__(self, policies: LivePolicies, pools: Mapping[Tier, Pool], keeps: bool = False) -> None:
        self._policies = policies
        self._pools = pools
        self._keeps = keeps
        self._conversations = Conversations()
        upstreams = [upstream for pool in pools.values() for upstream in pool.upstreams]
        self._removed = {name: now for one in upstreams for name, now in one.kind.removed.items()}

    async def exchange(self, surface: Surface, body: Body, raw: bytes) -> Exchange:
        """Of a body that the surface has read. Raises ApiError."""
        began = time.perf_counter()
        endpoint = surface.endpoint
        check_removed(body, self._removed)
        own = own_field(body)
        catalogue = self._policies.catalogue
        policy = policy_of(body, own, catalogue)
        stays = self._stays(policy, body)
        if passages := passages_of(own.context, body, endpoint):
            body = passages.shown()
            raw = orjson.dumps(body)
        if own.override and (problem := lacking(policy, self._pools)):
            raise invalid(f"smallfirst.override: {problem}", "smallfirst.override", "not_supported")
        needs = needs_of(body, endpoint, raw, policy, catalogue)
        if (privacy := privacy_of(policy)) is not None:
            await privacy.look(body, len(raw))
            check_let_in(policy, privacy)
        private = own.private or policy.private is True or (privacy is not None and privacy.stays)
        pools = at_home(self._pools) if private else self._pools
        if endpoint == "embeddings":
            policy, needs = self._embedding(policy, needs, pools)
        llm = self._pools["llm"].first(needs) if "llm" in self._pools else None
        expected = Expected.of(body)
        request = request_of(body, endpoint, policy, expected, needs, pools)
        if stays or passages:
            request = request._replace(stays=stays, passages=len(passages.given) if passages else 0)
        if len(self._pools) == 1 and not request.able.issuperset(self._pools):
            raise self._refusal(needs)
        return Exchange(
            surface=surface.name,
            endpoint=endpoint,
            policy=policy,
            body=body,
            raw=raw,
            request=request,
            expected=expected,
            needs=needs,
            alone_price=llm.price if llm is not None and llm.priced else None,
            tags=own.tags,
            private=private,
            kept=Kept() if self._keeps else None,
            started=began,
            passages=passages,
            # What was redacted is restored before anybody else reads an answer: privacy stands last.
            transforms=(*against_leaks(policy, body), *(() if privacy is None else (privacy,))),
            skills={} if privacy is None else {"private": privacy.told},
        )

    def _refusal(self, needs: Needs) -> ApiError:
        """Of the only tier there is, which can't do what is needed: its plan would turn to a tier that nobody has."""
        (pool,) = self._pools.values()
        asked = next(one for one in pool.upstreams if needs.model in (None, *one.models))
        lack = asked.lacking(needs._replace(tokens=0))
        assert lack is not None  # noqa: S101  it does not fit
        return from_unavailable(lack, [])

    def over(self, exchange: Exchange) -> None:
        """Notes whether the exchange's conversation stays with the large model."""
        affinity, answer = exchange.policy.affinity, exchange.answer
        body = exchange.body if exchange.passages is None else exchange.passages.bare
        if affinity is None or answer is None or "messages" not in body:
            return
        messages, name = body["messages"], exchange.policy.name
        if answer.reason in ESCALATIONS and answer.route != "slm":
            self._conversations.stays(name, messages, affinity.turns)
        elif answer.reason is Reason.AFFINITY:
            self._conversations.stays(name, messages, exchange.request.stays - 1)

    def _stays(self, policy: Policy, body: Body) -> int:
        if policy.affinity is None or "messages" not in body:
            return 0
        return self._conversations.turns_left(policy.name, body["messages"])

    def _embedding(self, policy: Policy, needs: Needs, pools: Mapping[Tier, Pool]) -> tuple[Policy, Needs]:
        """Embeddings of two models can't stand in for one another: one model, no fallback, and nothing to try beside
        it. Where only clouds offer any, the door has its say."""
        router = policy.router
        tiers: tuple[Tier, ...] = (router.tier,) if isinstance(router, Direct) else ("slm", "llm")
        for tier, pool in [
            (tier, some[tier]) for some in (pools, self._pools) for tier in tiers if tier in some
        ]:
            if (upstream := pool.first(needs)) is not None:
                only = Direct(tier=tier, fallback=False)
                alone = policy.changed(router=only, overrides=(), affinity=None, shadow=None, guard=None)
                return alone, needs._replace(model=upstream.model)
        raise invalid(f"no upstream of {policy.name} offers embeddings", "model", "not_supported")


def privacy_of(policy: Policy) -> Privacy | None:
    """For one exchange, what the policy's `private` section asks for; None where it has no such section."""
    return Privacy(policy.private) if isinstance(policy.private, Private) else None


def check_let_in(policy: Policy, privacy: Privacy) -> None:
    """Raises ApiError for a request in which is what its policy blocks."""
    if privacy.private.action == "block" and privacy.places:
        what = f"the policy {policy.name} lets in nothing private, and {privacy.where}"
        raise ApiError(403, "private_data", what, param=privacy.places[0])


SHORTEST_WORD = 2
"""Bytes of a word and the space after it, at the least: shorter bodies can't be too long a prompt."""


def needs_of(body: Body, endpoint: Endpoint, raw: bytes, policy: Policy, catalogue: Catalogue) -> Needs:
    """What a checked body needs of whoever is to answer it under the policy."""
    capabilities = capabilities_of(body, endpoint)
    if "logit_bias" in capabilities and isinstance(policy.router, Direct) and not policy.router.fallback:
        capabilities -= {"logit_bias"}  # one model may answer: whoever asks knows its token ids
    return Needs(
        capabilities,
        top_logprobs_of(body) if "logprobs" in capabilities else 0,
        least_tokens(body, endpoint) if len(raw) > SHORTEST_WORD * catalogue.shortest_context else 0,
        policy.name if policy.name in catalogue.models else None,
        given(body, SPECIAL),
    )


def request_of(
    body: Body,
    endpoint: Endpoint,
    policy: Policy,
    expected: Expected,
    needs: Needs,
    pools: Mapping[Tier, Pool],
) -> Request:
    """What the policy's plan may know of a checked body."""
    needs = needs._replace(tokens=0) if needs.tokens else needs  # a prompt too long is the call's to refuse
    unable = [tier for tier, pool in pools.items() if not pool.able(needs)]
    request = Request(
        stream=bool(body.get("stream")),
        judgeable=judgeable(body),
        whole=expected.whole,
        tiers=_TIERS["slm" in pools, "llm" in pools and _up(pools["llm"], needs, "llm" not in unable)],
        able=_TIERS["slm" not in unable, "llm" not in unable],
        features=measured(body, endpoint) if policy.router.reads_features else NO_FEATURES,
        renormalised="slm" in pools and pools["slm"].renormalises and constrains(body),
    )
    if not policy.router.speculates:
        return request
    ways = verifies(body, endpoint, needs, pools)
    if policy.private and "scoring" in ways:  # by token ids, which nobody can look into
        ways &= {*verifies(body, endpoint, needs, at_home(pools)), "prediction"}
    return request._replace(
        verifies=ways,
        greedy=body.get("temperature") == 0,
        most=most_tokens(body),
    )


def at_home(pools: Mapping[Tier, Pool]) -> Mapping[Tier, Pool]:
    """Without clouds: the door lets what is private out to none."""
    return {tier: pool.at_home for tier, pool in pools.items() if pool.at_home is not None}


def _up(pool: Pool, needs: Needs, able: bool) -> bool:
    return pool.ready(needs) if able else pool.up


_TIERS: dict[tuple[bool, bool], frozenset[Tier]] = {
    (True, True): frozenset(("slm", "llm")),
    (True, False): frozenset(("slm",)),
    (False, True): frozenset(("llm",)),
    (False, False): frozenset(),
}
_NO_OWN_FIELD = OwnField()


def check_removed(body: Body, removed: Mapping[str, str]) -> None:
    """Raises ApiError for a field that a server here would ignore, though it once meant something."""
    if removed.keys().isdisjoint(body):
        return
    for name in removed.keys() & body.keys():
        if body[name] is not None:
            what = f"{name} was removed from vLLM and would be ignored: send {removed[name]}"
            raise invalid(what, name, "removed_field")


def own_field(body: Body) -> OwnField:
    if body.get("smallfirst") is None:
        return _NO_OWN_FIELD
    try:
        return OwnField.model_validate(body["smallfirst"])
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(["smallfirst", *map(str, detail["loc"])])
        what = detail["msg"] if detail["loc"] else "must be an object"
        raise invalid(f"{where}: {what}; known keys: {', '.join(OwnField.model_fields)}", where) from error


def policy_of(body: Body, own: OwnField, catalogue: Catalogue) -> Policy:
    """The policy that a request names, with what it overrides; of a split, the one that its key is sent to. Raises
    ApiError."""
    policy = catalogue.resolve(own.policy or body["model"], "smallfirst.policy" if own.policy else "model")
    if isinstance(policy, Split):
        policy = catalogue.policies[policy.choose(_key(policy, body, own))]
    try:
        return overridden(policy, own.override or {})
    except OverrideNotAllowed as error:
        where = f"smallfirst.{error.at}"
        raise ApiError(403, "override_not_allowed", f"smallfirst.{error}", param=where) from error
    except OverrideError as error:
        raise invalid(f"smallfirst.{error}", f"smallfirst.{error.at}") from error


def _key(split: Split, body: Body, own: OwnField) -> str:
    """What a split divides by; of a request that has nothing of the kind, a number drawn for it."""
    if split.split.by == "key":
        given = [own.key, *(body.get(name) for name in NAMING)]
        if named := next((name for name in given if isinstance(name, str) and name), None):
            return named
    if split.split.by == "conversation":
        return conversation_key(body)
    return str(random.random())  # noqa: S311  no secret


def conversation_key(body: Body) -> str:
    """The same for all turns of a conversation: all up to its first message that is not the system's."""
    messages = body.get("messages")
    if not messages:
        return str(body.get("prompt"))
    first = next((at for at, message in enumerate(messages) if message["role"] not in SYSTEM), 0)
    return orjson.dumps(messages[: first + 1], option=orjson.OPT_SORT_KEYS).decode()
