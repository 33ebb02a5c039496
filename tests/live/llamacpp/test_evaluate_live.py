"""The real local engine judges: an answer sent to it, and its own streamed answers in the background."""

from pathlib import Path
from typing import Any

import pytest
from support.evaluators_check import judged_by_a_real_model
from support.gateways import StartGateway
from support.waiting import until

from gateway.settings import LocalEngine, Settings
from policies.schema.evaluate import Evaluate
from policies.schema.policy import Policy
from routers.strategies.direct import Direct

pytestmark = [pytest.mark.engine, pytest.mark.heavy]


async def test_the_local_engine_judges_what_it_is_sent_and_what_it_wrote(start: StartGateway, weights: Path):
    wanted = Evaluate(share=1, evaluators=("verify",))
    policy = Policy(name="test", description="For tests.", router=Direct(tier="slm"), evaluate=wanted)
    gateway = await start(Settings(local=LocalEngine(threads=1)), [policy])
    results = await judged_by_a_real_model(gateway)
    assert results[0]["measured"] is not None  # the benchmark has judged the default model
    question = {"role": "user", "content": "What is the capital of France? Answer with one word."}
    body = {"model": "test", "messages": [question], "max_tokens": 8, "stream": True}
    _, headers, _ = await gateway.post("/chat/completions", body)

    async def evaluation() -> dict[str, Any] | None:
        return (await gateway.exchange(headers["x-smallfirst-id"]))["evaluation"]

    assert 0.0 < (await until(evaluation))["results"][0]["p"] < 1.0
