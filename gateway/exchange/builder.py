"""Opens an exchange: resolves the policy, screens for privacy, works out requirements, builds."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from gateway.catalog.catalog import Catalog, find_missing
from gateway.catalog.live_policies import LivePolicies
from gateway.errors import ApiError, invalid
from gateway.skills.guard.prompt_leak import build_leak_guards
from gateway.skills.privacy.screen import PrivacyScreen
from gateway.skills.transforms import Transform
from gateway.upstreams.pool import Pool
from gateway.upstreams.providers.grammar_size import count_alternatives
from gateway.upstreams.transport.transport import TransportError
from gateway.wire.body_types import Body, Endpoint
from gateway.wire.prompt_text import extract_prompt_features
from gateway.wire.requirements import Requirements, capabilities_of, min_prompt_tokens, top_logprobs_of
from gateway.wire.structured_outputs import is_constrained
from gateway.wire.validation import is_judgeable
from gateway.wire.vendor_fields import ANSWER_CHANGING, present_fields
from policies.schema.policy import Policy
from policies.schema.private import Private
from routers.plan import NO_FEATURES, Tier
from routers.router import Request
from routers.strategies.direct import Direct
from routers.structure.answer_form import AnswerForm

from .captured import CapturedAnswer
from .error_mapping import to_api_error
from .exchange import Exchange
from .passages import Passages, read_passages
from .policy_resolution import resolve_policy
from .privacy_screen import screen_for_privacy
from .smallfirst_field import SmallfirstField, read_smallfirst_field
from .verifiable import answer_token_limit, find_verifications


class ExchangeBuilder:
    """Opens the exchanges of checked requests.

    `turns_left` tells how many turns a conversation still stays with the large model, by its policy and messages.
    `captures` keeps their answers, to be recorded.
    """

    def __init__(
        self,
        policies: LivePolicies,
        pools: Mapping[Tier, Pool],
        turns_left: Callable[[str, Sequence[Any]], int],
        *,
        captures: bool = False,
    ) -> None:
        self._policies = policies
        self._pools = pools
        self._turns_left = turns_left
        self._captures = captures
        upstreams = [upstream for pool in pools.values() for upstream in pool.upstreams]
        self._removed = {
            name: instead for each in upstreams for name, instead in each.kind.removed_fields.items()
        }

    async def build(self, name: str, endpoint: Endpoint, body: Body, raw: bytes) -> Exchange:
        """Open the exchange of a checked body, in four steps. `name` is for metrics and records. Raises ApiError."""
        started = time.perf_counter()
        catalog = self._policies.catalog
        policy, field = self._resolve_policy(body, catalog)
        passages = None if field.context is None else read_passages(field.context, body, endpoint)
        if passages is not None:
            body = passages.body_with()
            raw = orjson.dumps(body)
        privacy = None
        if isinstance(policy.private, Private):
            privacy = await screen_for_privacy(policy, policy.private, body, len(raw))
        private = field.private or policy.private is True or (privacy is not None and privacy.must_stay_local)
        pools = without_clouds(self._pools) if private else self._pools
        policy, needs = self._find_requirements(policy, catalog, endpoint, body, raw, pools)
        if "tools" in needs.capabilities:
            await self._learn_tool_support(pools)
        expected = AnswerForm.from_body(body)
        llm = self._pools["llm"].find_first(needs) if "llm" in self._pools else None
        return Exchange(
            surface=name,
            endpoint=endpoint,
            policy=policy,
            body=body,
            raw=raw,
            request=self._build_request(policy, endpoint, body, passages, expected, needs, pools),
            expected=expected,
            needs=needs,
            alone_price=llm.price if llm is not None and llm.has_price else None,
            tags=field.tags,
            private=private,
            captured=CapturedAnswer() if self._captures else None,
            started=started,
            passages=passages,
            transforms=_build_transforms(policy, body, privacy),
            skills={} if privacy is None else {"private": privacy.account},
        )

    async def _learn_tool_support(self, pools: Mapping[Tier, Pool]) -> None:
        """Ask the servers that may leave tools out in silence, before it is decided who is asked."""
        upstreams = [upstream for pool in pools.values() for upstream in pool.upstreams]
        asked = [upstream for upstream in upstreams if upstream.doubts_tools and upstream.is_up]
        for result in await asyncio.gather(
            *[each.learn_tool_support() for each in asked], return_exceptions=True
        ):
            if isinstance(result, BaseException) and not isinstance(result, TransportError):
                raise result

    def _resolve_policy(self, body: Body, catalog: Catalog) -> tuple[Policy, SmallfirstField]:
        check_removed_fields(body, self._removed)
        field = read_smallfirst_field(body)
        policy = resolve_policy(body, field, catalog)
        if field.override and (problem := find_missing(policy, self._pools)):
            raise invalid(f"smallfirst.override: {problem}", "smallfirst.override", "not_supported")
        return policy, field

    def _find_requirements(
        self,
        policy: Policy,
        catalog: Catalog,
        endpoint: Endpoint,
        body: Body,
        raw: bytes,
        pools: Mapping[Tier, Pool],
    ) -> tuple[Policy, Requirements]:
        needs = find_requirements(body, endpoint, raw, policy, catalog)
        if endpoint == "embeddings":
            return self._pin_embedding_model(policy, needs, pools)
        return policy, needs

    def _build_request(
        self,
        policy: Policy,
        endpoint: Endpoint,
        body: Body,
        passages: Passages | None,
        expected: AnswerForm,
        needs: Requirements,
        pools: Mapping[Tier, Pool],
    ) -> Request:
        """Return what the policy's plan may know. Raises ApiError if the only tier can not do what is needed."""
        request = build_request(body, endpoint, policy, expected, needs, pools)
        stays = self._affinity_turns(policy, body if passages is None else passages.bare)
        if stays or passages:
            request = request._replace(stays=stays, passages=len(passages.retrieved) if passages else 0)
        if len(self._pools) == 1 and request.incapable:
            raise self._explain_mismatch(needs)
        return request

    def _explain_mismatch(self, needs: Requirements) -> ApiError:
        """Return why the only tier can not do what is needed. The plan would turn to a tier that nobody has."""
        (pool,) = self._pools.values()
        upstream = next(each for each in pool.upstreams if needs.model in (None, *each.models))
        mismatch = upstream.find_mismatch(needs._replace(tokens=0))
        assert mismatch is not None  # noqa: S101  it can not serve the request
        return to_api_error(mismatch, [])

    def _affinity_turns(self, policy: Policy, body: Body) -> int:
        if policy.affinity is None or "messages" not in body:
            return 0
        return self._turns_left(policy.name, body["messages"])

    def _pin_embedding_model(
        self, policy: Policy, needs: Requirements, pools: Mapping[Tier, Pool]
    ) -> tuple[Policy, Requirements]:
        """Pin a request for embeddings to one model: embeddings of two models can not stand in for one another.

        There is no fallback, and nothing is tried beside it. If only clouds offer embeddings, admission has its say.
        """
        router = policy.router
        tiers: tuple[Tier, ...] = (router.tier,) if isinstance(router, Direct) else ("slm", "llm")
        candidates = [(tier, some[tier]) for some in (pools, self._pools) for tier in tiers if tier in some]
        for tier, pool in candidates:
            if (upstream := pool.find_first(needs)) is not None:
                only = Direct(tier=tier, fallback=False)
                alone = policy.replace(router=only, overrides=(), affinity=None, shadow=None, guard=None)
                return alone, needs._replace(model=upstream.model)
        raise invalid(f"no upstream of {policy.name} offers embeddings", "model", "not_supported")


def build_task_exchange(
    name: str, endpoint: Endpoint, policy: Policy, body: Body, *, tags: dict[str, str], private: bool
) -> Exchange:
    """Build the exchange of a task that has no reply: an answer to be evaluated, a prompt to be compressed.

    Its policy is resolved, and nothing about it has to be worked out: no plan runs for it.
    """
    return Exchange(
        surface=name,
        endpoint=endpoint,
        policy=policy,
        body=body,
        raw=orjson.dumps(body),
        request=Request(),
        alone_price=None,
        tags=tags,
        private=private or bool(policy.private),
        aside=name,
    )


def _build_transforms(policy: Policy, body: Body, privacy: PrivacyScreen | None) -> Sequence[Transform]:
    """Return what rewrites the exchange's bodies. What privacy redacts is restored before anything else reads it."""
    guards = () if policy.guard is None else build_leak_guards(policy, body)
    return guards if privacy is None else (*guards, privacy)


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
        alternatives=count_alternatives(body, raw),
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
    able = [tier for tier, pool in pools.items() if pool.can_serve(needs)]
    llm = pools.get("llm")
    is_llm_up = llm is not None and (llm.can_serve_now(needs) if "llm" in able else llm.is_up)
    request = Request(
        stream=bool(body.get("stream")),
        judgeable=is_judgeable(body),
        whole=expected.needs_complete_answer,
        tiers=_TIERS["slm" in pools, is_llm_up],
        able=_TIERS["slm" in able, "llm" in able],
        configured=_TIERS["slm" in pools, "llm" in pools],
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


_TIERS: dict[tuple[bool, bool], frozenset[Tier]] = {
    (True, True): frozenset(("slm", "llm")),
    (True, False): frozenset(("slm",)),
    (False, True): frozenset(("llm",)),
    (False, False): frozenset(),
}


def check_removed_fields(body: Body, removed: Mapping[str, str]) -> None:
    """Raises ApiError for a field that a server here would ignore, though it once meant something."""
    if removed.keys().isdisjoint(body):
        return
    for name in removed.keys() & body.keys():
        if body[name] is not None:
            what = f"{name} was removed from vLLM and would be ignored: send {removed[name]}"
            raise invalid(what, name, "removed_field")
