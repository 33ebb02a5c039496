"""What policies need of the configured upstreams: one that lacks it is not served, and says what is lacking where."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_calibrator, simple_policy, upstream
from support.router_builders import scorer
from support.scripted_server import Scripted

from gateway.catalog.catalog import find_missing
from gateway.upstreams.pool import build_pools
from gateway.upstreams.settings import UpstreamSettings
from gateway.upstreams.upstream import Upstream
from policies.schema.policy import Policy
from routers.confidence.calibration import LogprobSource
from routers.judges.draft_judge import Verify
from routers.plan import Capability, Tier
from routers.router import Router
from routers.strategies.cascade import Cascade
from routers.strategies.difficulty import Difficulty, Gate
from routers.strategies.direct import Direct

ASK = {"model": "test", "messages": [{"role": "user", "content": "What is the opposite of hot?"}]}


def described(engine: str = "openai", **changes: Any) -> Upstream:
    fields = {"name": "u", "tier": "llm", "url": "https://far.example/v1", "model": "m", "engine": engine}
    return Upstream(UpstreamSettings.model_validate(fields | changes))


async def refusal(gateway: Gateway, model: str) -> str:
    status, _, raw = await gateway.post("/chat/completions", ASK | {"model": model})
    assert status == 400
    error = json.loads(raw)["error"]
    assert error["code"] == "policy_unavailable"
    return str(error["message"])


async def test_a_cascade_names_the_upstream_that_gives_no_log_probabilities(
    start: StartGateway, slm: Scripted, spare: Scripted
):
    mute = upstream(spare, "slm", model="small", capabilities={"logprobs": False})
    gateway = await start(settings_of(upstream(slm, "slm"), mute), [simple_policy()])
    said = "it judges by log-probabilities, which spare-server does not offer (capabilities.logprobs)"
    assert said in await refusal(gateway, "test")


async def test_a_cascade_names_the_upstream_whose_model_its_calibrator_is_not_for(
    start: StartGateway, slm: Scripted, spare: Scripted
):
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(spare, "slm")), [simple_policy()])
    said = await refusal(gateway, "test")
    assert "made for small on openai" in said
    assert "the small model spare-server is spare on openai" in said


def judged(tier: Tier) -> Policy:
    return simple_policy(release="hold", commit=None, judge=Verify(tier=tier))


@pytest.mark.parametrize(
    ("policy", "capability", "told"),
    [
        (simple_policy(release="splice"), "prefill", "router.release: splice needs prefill of tier llm"),
        (judged("llm"), "logprobs", "router.judge needs logprobs of tier llm"),
    ],
    ids=["splice", "judge"],
)
async def test_a_policy_whose_router_needs_what_no_upstream_offers_is_told_which(
    start: StartGateway,
    slm: Scripted,
    llm: Scripted,
    spare: Scripted,
    policy: Policy,
    capability: str,
    told: str,
):
    small = upstream(slm, "slm")
    without = upstream(llm, "llm", capabilities={capability: False})
    other = upstream(spare, "llm", capabilities={capability: False})
    said = await refusal(await start(settings_of(small, without, other), [policy]), "test")
    assert f"{told}, which is not offered by large-server, spare-server (capabilities.{capability})" in said
    able = upstream(spare, "llm", capabilities={capability: True})
    for served in ((small, without, able), (small,)):
        gateway = await start(settings_of(*served), [policy])
        assert (await gateway.post("/chat/completions", ASK))[0] == 200


def test_a_followed_draft_needs_log_probabilities_of_its_tier_whoever_else_answers():
    mute = described("openai", tier="slm", capabilities={"logprobs": False})
    follow = Policy(name="follow", description="x", router=Direct(tier="slm", follow=True))
    assert "it reads log-probabilities" in str(find_missing(follow, build_pools([mute])))
    assert find_missing(follow, build_pools([described("openai")])) is None
    alone = follow.replace(router=Direct(tier="slm", fallback=False))
    assert find_missing(alone, build_pools([described("openai")])) == (
        "it needs an upstream of tier slm, and none is configured"
    )


class Scoring(Router):
    """A strategy of somebody else's."""

    kind: str = "scoring"

    @property
    def needs(self) -> Mapping[Tier, Mapping[Capability, str]]:
        return {"llm": {"scoring": "blocks"}, "slm": {}}


@pytest.mark.parametrize(("engine", "served"), [("openai", False), ("vllm", True)])
def test_any_router_is_asked_what_it_needs(engine: str, served: bool):
    policy = simple_policy().model_copy(update={"router": Scoring()})
    found = find_missing(policy, build_pools([described(engine)]))
    said = "router.blocks needs scoring of tier llm, which is not offered by u (capabilities.scoring)"
    assert found == (None if served else said)


@pytest.mark.parametrize("model", ["m", "other"])
def test_a_scorer_is_for_the_model_that_it_was_made_for(model: str):
    made_for = LogprobSource(model="m", engine="openai")
    gate = Gate(scorer=scorer(made_for=made_for))
    said = "its gate.scorer is made for m on openai (free decoding), and the small model u is other on openai"
    for router in (
        Difficulty(gate=gate),
        Cascade(accept=0.5, calibrator=simple_calibrator(model=model), gate=gate),
    ):
        policy = Policy(name="scored", description="x", router=router)
        found = find_missing(policy, build_pools([described(tier="slm", model=model)]))
        assert found is None if model == "m" else found and found.startswith(said)
        assert find_missing(policy, build_pools([described()])) is None


async def test_a_policy_that_follows_drafts_wants_them_of_one_model(
    start: StartGateway, slm: Scripted, spare: Scripted
):
    follow = Policy(name="follow", description="x", router=Direct(tier="slm", follow=True))
    gateway = await start(settings_of(upstream(slm, "slm"), upstream(spare, "slm")), [follow])
    said = await refusal(gateway, "follow")
    assert "small-server is small on openai" in said
    assert "spare-server is spare on openai" in said
