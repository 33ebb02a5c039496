"""The real local engine judges: an answer sent to it, and its own streamed answers in the background."""

import asyncio
from pathlib import Path

import pytest
from evaluating import judged_by_a_real_model
from gateways import StartGateway

from gateway.settings import LocalEngine, Settings
from policies.evaluate import Evaluate
from policies.schema import Policy
from routers.direct import Direct

pytestmark = pytest.mark.engine


async def test_the_local_engine_judges_what_it_is_sent_and_what_it_wrote(start: StartGateway, weights: Path):
    wanted = Evaluate(share=1, evaluators=("verify",))
    policy = Policy(name="test", description="For tests.", router=Direct(tier="slm"), evaluate=wanted)
    gateway = await start(Settings(local=LocalEngine(threads=1)), [policy])
    results = await judged_by_a_real_model(gateway)
    assert results[0]["measured"] is not None  # the benchmark has judged the default model
    question = {"role": "user", "content": "What is the capital of France? Answer with one word."}
    body = {"model": "test", "messages": [question], "max_tokens": 8, "stream": True}
    _, headers, _ = await gateway.post("/chat/completions", body)
    async with asyncio.timeout(30):
        while (found := await gateway.exchange(headers["x-smallfirst-id"]))["evaluation"] is None:
            await asyncio.sleep(0.01)
    assert 0.0 < found["evaluation"]["results"][0]["p"] < 1.0
