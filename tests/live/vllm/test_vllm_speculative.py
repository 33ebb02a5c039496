"""Speculation across HTTP with a real vLLM as the large model: a sample of what `benchmarks.greedy` proves."""

from pathlib import Path
from typing import Any

import openai
import pytest
from support.gateways import StartGateway, settings_of

from benchmarks import greedy
from benchmarks.greedy import LAYERS, LOCAL, Target
from benchmarks.vllm.server import Server
from gateway.settings import LocalEngine
from policies.schema.policy import Policy
from routers.strategies.direct import Direct
from routers.strategies.speculative import Probe, Speculative

pytestmark = [pytest.mark.vllm, pytest.mark.heavy, pytest.mark.engine]

PROMPTS = 8


@pytest.fixture(scope="module")
def found(vllm_server: Server, vllm_draft_server: Server, weights: Path) -> dict[str, Any]:
    target = Target(vllm_server.url, vllm_server.model)
    drafts = {LOCAL: None, LAYERS: Target(vllm_draft_server.url, vllm_draft_server.model)}
    return dict(greedy.run(target, drafts, PROMPTS)["drafts"])


@pytest.mark.parametrize("draft", [LOCAL, LAYERS])
def test_the_text_is_what_the_large_model_alone_writes(found: dict[str, Any], draft: str) -> None:
    """But where its own two likeliest tokens lie within 5e-3 nats: such differences are listed with both values."""
    assert found[draft]["same_but_for_ties"] == PROMPTS, found[draft]["differences"]


def test_the_better_draft_saves_a_third_of_the_large_models_steps(found: dict[str, Any]) -> None:
    better, poorer = found[LOCAL], found[LAYERS]
    assert better["accepted_share"] > poorer["accepted_share"]
    assert better["steps_saved"] >= 0.3


def test_every_exchange_replays_exactly(found: dict[str, Any]) -> None:
    for draft in found.values():
        assert draft["replay"] == {"exchanges": PROMPTS, "exact": PROMPTS}


@pytest.mark.parametrize(("accept", "reason"), [(0.0, "verified"), (1.0, "rejected_draft")])
async def test_a_whole_draft_is_verified_in_one_call(
    start: StartGateway, vllm_server: Server, weights: Path, accept: float, reason: str
) -> None:
    llm = {
        "name": "vllm",
        "tier": "llm",
        "url": vllm_server.url,
        "model": vllm_server.model,
        "engine": "vllm",
        "probe": 0,
    }
    router = Speculative(rule=Probe(accept=accept), otherwise=Direct(tier="llm"))
    settings = settings_of(llm).model_copy(update={"local": LocalEngine(threads=1)})
    gateway = await start(settings, [Policy(name="probe", description="Probes.", router=router)])
    raw = await gateway.client.chat.completions.with_raw_response.create(
        model="probe",
        messages=[{"role": "user", "content": "Tell me about the sea."}],
        temperature=0,
        max_tokens=40,
    )
    assert raw.headers["x-smallfirst-reason"] == reason
    assert 0.0 < float(raw.headers["x-smallfirst-confidence"]) < 1.0
    answer = raw.parse()
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 40
    if accept == 1.0:
        alone = openai.AsyncOpenAI(base_url=vllm_server.url, api_key="none")
        whole = await alone.chat.completions.create(
            model=vllm_server.model,
            messages=[{"role": "user", "content": "Tell me about the sea."}],
            temperature=0,
            max_tokens=40,
        )
        await alone.close()
        assert answer.choices[0].message.content == whole.choices[0].message.content
