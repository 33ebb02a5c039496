"""A request's body -> the exchange that answers it: which policy, and what a router may know of the request."""

import random
import time
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.api.surface import Surface
from gateway.catalog.catalog import Catalog, find_missing
from gateway.catalog.live_policies import LivePolicies
from gateway.errors import ApiError, invalid
from gateway.skills.guard.prompt_leak import build_leak_guards
from gateway.skills.privacy.screen import PrivacyScreen
from gateway.state.conversations import Conversations
from gateway.upstreams.pool import Pool
from gateway.wire.body_types import Body, Endpoint
from gateway.wire.prompt_text import SYSTEM_ROLES, extract_prompt_features
from gateway.wire.requirements import Requirements, capabilities_of, min_prompt_tokens, top_logprobs_of
from gateway.wire.structured_outputs import is_constrained
from gateway.wire.validation import is_judgeable
from gateway.wire.vendor_fields import ANSWER_CHANGING, present_fields
from policies.loading.overrides import OverrideError, OverrideNotAllowed, apply_override
from policies.schema.policy import Policy
from policies.schema.private import Private
from policies.schema.split import Split
from routers.plan import NO_FEATURES, Reason, Tier
from routers.reasons import ESCALATIONS
from routers.router import Request
from routers.strategies.direct import Direct
from routers.structure.answer_form import AnswerForm

from .captured import CapturedAnswer
from .error_mapping import to_api_error
from .exchange import Exchange
from .passages import read_passages
from .verifiable import answer_token_limit, find_verifications

Tag = Annotated[str, Field(max_length=256)]


class SmallfirstField(BaseModel):
    """The body's `smallfirst` field, read and taken out before any upstream sees the body."""

    model_config = ConfigDict(extra="forbid", strict=True)

    policy: str | None = None
    override: dict[str, Any] | None = None
    context: Any = None
    private: bool = False
    key: Annotated[str, Field(max_length=256)] | None = None
    tags: Annotated[dict[Tag, Tag], Field(max_length=16)] = {}


IDENTITY_FIELDS = ("safety_identifier", "user", "prompt_cache_key")
"""OpenAI's fields that tell one user or conversation from another."""


class ExchangeBuilder:
    """Opens exchanges; `keeps`: their answers are kept, to be recorded."""

    def __init__(self, policies: LivePolicies, pools: Mapping[Tier, Pool], keeps: bool = False) -> None:
        self._policies = policies
        self._pools = pools
        self._captures = keeps
        self._conversations = Conversations()
        upstreams = [upstream for pool in pools.values() for upstream in pool.upstreams]
        self._removed = {name: now for one in upstreams for name, now in one.kind.removed_fields.items()}

    async def build(self, surface: Surface, body: Body, raw: bytes) -> Exchange:
        """Of a body that the surface has read. Raises ApiError."""
        began = time.perf_counter()
        endpoint = surface.endpoint
        check_removed_fields(body, self._removed)
        own = read_smallfirst_field(body)
        catalogue = self._policies.catalog
        policy = resolve_policy(body, own, catalogue)
        stays = self._affinity_turns(policy, body)
        if passages := read_passages(own.context, body, endpoint):
            body = passages.body_with()
            raw = orjson.dumps(body)
        if own.override and (problem := find_missing(policy, self._pools)):
            raise invalid(f"smallfirst.override: {problem}", "smallfirst.override", "not_supported")
        needs = find_requirements(body, endpoint, raw, policy, catalogue)
        if (privacy := build_privacy_screen(policy)) is not None:
            await privacy.scan(body, len(raw))
            check_blocked(policy, privacy)
        private = own.private or policy.private is True or (privacy is not None and privacy.must_stay_local)
        pools = without_clouds(self._pools) if private else self._pools
        if endpoint == "embeddings":
            policy, needs = self._pin_embedding_model(policy, needs, pools)
        llm = self._pools["llm"].find_first(needs) if "llm" in self._pools else None
        expected = AnswerForm.from_body(body)
        request = build_request(body, endpoint, policy, expected, needs, pools)
        if stays or passages:
            request = request._replace(stays=stays, passages=len(passages.retrieved) if passages else 0)
        if len(self._pools) == 1 and not request.able.issuperset(self._pools):
            raise self._explain_mismatch(needs)
        return Exchange(
            surface=surface.name,
            endpoint=endpoint,
            policy=policy,
            body=body,
            raw=raw,
            request=request,
            expected=expected,
            needs=needs,
            alone_price=llm.price if llm is not None and llm.has_price else None,
            tags=own.tags,
            private=private,
            captured=CapturedAnswer() if self._captures else None,
            started=began,
            passages=passages,
            # What was redacted is restored before anybody else reads an answer: privacy stands last.
            transforms=(*build_leak_guards(policy, body), *(() if privacy is None else (privacy,))),
            skills={} if privacy is None else {"private": privacy.account},
        )

    def _explain_mismatch(self, needs: Requirements) -> ApiError:
        """Of the only tier there is, which can't do what is needed: its plan would turn to a tier that nobody has."""
        (pool,) = self._pools.values()
        asked = next(one for one in pool.upstreams if needs.model in (None, *one.models))
        lack = asked.find_mismatch(needs._replace(tokens=0))
        assert lack is not None  # noqa: S101  it does not fit
        return to_api_error(lack, [])

    def over(self, exchange: Exchange) -> None:
        """Notes whether the exchange's conversation stays with the large model."""
        affinity, answer = exchange.policy.affinity, exchange.answer
        body = exchange.body if exchange.passages is None else exchange.passages.bare
        if affinity is None or answer is None or "messages" not in body:
            return
        messages, name = body["messages"], exchange.policy.name
        if answer.reason in ESCALATIONS and answer.route != "slm":
            self._conversations.pin_to_llm(name, messages, affinity.turns)
        elif answer.reason is Reason.AFFINITY:
            self._conversations.pin_to_llm(name, messages, exchange.request.stays - 1)

    def _affinity_turns(self, policy: Policy, body: Body) -> int:
        if policy.affinity is None or "messages" not in body:
            return 0
        return self._conversations.turns_left(policy.name, body["messages"])

    def _pin_embedding_model(
        self, policy: Policy, needs: Requirements, pools: Mapping[Tier, Pool]
    ) -> tuple[Policy, Requirements]:
        """Embeddings of two models can't stand in for one another: one model, no fallback, and nothing to try beside
        it. Where only clouds offer any, the door has its say."""
        router = policy.router
        tiers: tuple[Tier, ...] = (router.tier,) if isinstance(router, Direct) else ("slm", "llm")
        for tier, pool in [
            (tier, some[tier]) for some in (pools, self._pools) for tier in tiers if tier in some
        ]:
            if (upstream := pool.find_first(needs)) is not None:
                only = Direct(tier=tier, fallback=False)
                alone = policy.replace(router=only, overrides=(), affinity=None, shadow=None, guard=None)
                return alone, needs._replace(model=upstream.model)
        raise invalid(f"no upstream of {policy.name} offers embeddings", "model", "not_supported")


def build_privacy_screen(policy: Policy) -> PrivacyScreen | None:
    """For one exchange, what the policy's `private` section asks for; None where it has no such section."""
    return PrivacyScreen(policy.private) if isinstance(policy.private, Private) else None


def check_blocked(policy: Policy, privacy: PrivacyScreen) -> None:
    """Raises ApiError for a request in which is what its policy blocks."""
    if privacy.private.action == "block" and privacy.places:
        what = f"the policy {policy.name} lets in nothing private, and {privacy.description}"
        raise ApiError(403, "private_data", what, param=privacy.places[0])


MIN_WORD_BYTES = 2
"""Bytes of a word and the space after it, at the least: shorter bodies can't be too long a prompt."""


def find_requirements(
    body: Body, endpoint: Endpoint, raw: bytes, policy: Policy, catalogue: Catalog
) -> Requirements:
    """What a checked body needs of whoever is to answer it under the policy."""
    capabilities = capabilities_of(body, endpoint)
    if "logit_bias" in capabilities and isinstance(policy.router, Direct) and not policy.router.fallback:
        capabilities -= {"logit_bias"}  # one model may answer: whoever asks knows its token ids
    return Requirements(
        capabilities,
        top_logprobs_of(body) if "logprobs" in capabilities else 0,
        min_prompt_tokens(body, endpoint) if len(raw) > MIN_WORD_BYTES * catalogue.shortest_context else 0,
        policy.name if policy.name in catalogue.models else None,
        present_fields(body, ANSWER_CHANGING),
    )


def build_request(
    body: Body,
    endpoint: Endpoint,
    policy: Policy,
    expected: AnswerForm,
    needs: Requirements,
    pools: Mapping[Tier, Pool],
) -> Request:
    """What the policy's plan may know of a checked body."""
    needs = needs._replace(tokens=0) if needs.tokens else needs  # a prompt too long is the call's to refuse
    unable = [tier for tier, pool in pools.items() if not pool.can_serve(needs)]
    request = Request(
        stream=bool(body.get("stream")),
        judgeable=is_judgeable(body),
        whole=expected.needs_complete_answer,
        tiers=_TIERS[
            "slm" in pools, "llm" in pools and _is_tier_up(pools["llm"], needs, "llm" not in unable)
        ],
        able=_TIERS["slm" not in unable, "llm" not in unable],
        features=extract_prompt_features(body, endpoint) if policy.router.reads_features else NO_FEATURES,
        renormalised="slm" in pools and pools["slm"].renormalises and is_constrained(body),
    )
    if not policy.router.speculates:
        return request
    ways = find_verifications(body, endpoint, needs, pools)
    if policy.private and "scoring" in ways:  # by token ids, which nobody can look into
        ways &= {*find_verifications(body, endpoint, needs, without_clouds(pools)), "prediction"}
    return request._replace(
        verifies=ways,
        greedy=body.get("temperature") == 0,
        most=answer_token_limit(body),
    )


def without_clouds(pools: Mapping[Tier, Pool]) -> Mapping[Tier, Pool]:
    """Without clouds: the door lets what is private out to none."""
    return {tier: pool.without_clouds for tier, pool in pools.items() if pool.without_clouds is not None}


def _is_tier_up(pool: Pool, needs: Requirements, able: bool) -> bool:
    return pool.can_serve_now(needs) if able else pool.is_up


_TIERS: dict[tuple[bool, bool], frozenset[Tier]] = {
    (True, True): frozenset(("slm", "llm")),
    (True, False): frozenset(("slm",)),
    (False, True): frozenset(("llm",)),
    (False, False): frozenset(),
}
_NO_SMALLFIRST_FIELD = SmallfirstField()


def check_removed_fields(body: Body, removed: Mapping[str, str]) -> None:
    """Raises ApiError for a field that a server here would ignore, though it once meant something."""
    if removed.keys().isdisjoint(body):
        return
    for name in removed.keys() & body.keys():
        if body[name] is not None:
            what = f"{name} was removed from vLLM and would be ignored: send {removed[name]}"
            raise invalid(what, name, "removed_field")


def read_smallfirst_field(body: Body) -> SmallfirstField:
    if body.get("smallfirst") is None:
        return _NO_SMALLFIRST_FIELD
    try:
        return SmallfirstField.model_validate(body["smallfirst"])
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(["smallfirst", *map(str, detail["loc"])])
        what = detail["msg"] if detail["loc"] else "must be an object"
        raise invalid(
            f"{where}: {what}; known keys: {', '.join(SmallfirstField.model_fields)}", where
        ) from error


def resolve_policy(body: Body, own: SmallfirstField, catalogue: Catalog) -> Policy:
    """The policy that a request names, with what it overrides; of a split, the one that its key is sent to. Raises
    ApiError."""
    policy = catalogue.resolve(own.policy or body["model"], "smallfirst.policy" if own.policy else "model")
    if isinstance(policy, Split):
        policy = catalogue.policies[policy.choose(_split_key(policy, body, own))]
    try:
        return apply_override(policy, own.override or {})
    except OverrideNotAllowed as error:
        where = f"smallfirst.{error.at}"
        raise ApiError(403, "override_not_allowed", f"smallfirst.{error}", param=where) from error
    except OverrideError as error:
        raise invalid(f"smallfirst.{error}", f"smallfirst.{error.at}") from error


def _split_key(split: Split, body: Body, own: SmallfirstField) -> str:
    """What a split divides by; of a request that has nothing of the kind, a number drawn for it."""
    if split.split.by == "key":
        candidates = [own.key, *(body.get(name) for name in IDENTITY_FIELDS)]
        if named := next((name for name in candidates if isinstance(name, str) and name), None):
            return named
    if split.split.by == "conversation":
        return conversation_key(body)
    return str(random.random())  # noqa: S311  no secret


def conversation_key(body: Body) -> str:
    """The same for all turns of a conversation: all up to its first message that is not the system's."""
    messages = body.get("messages")
    if not messages:
        return str(body.get("prompt"))
    first = next((at for at, message in enumerate(messages) if message["role"] not in SYSTEM_ROLES), 0)
    return orjson.dumps(messages[: first + 1], option=orjson.OPT_SORT_KEYS).decode()
