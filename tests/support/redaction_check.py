"""A real engine as the cloud: behind a gateway of its own, whose records keep what that one was sent."""

import asyncio
import json
from pathlib import Path
from typing import Any

from support.gateways import Gateway, StartGateway, settings_of
from support.strategy_requests import text_of

from gateway.settings import Settings
from policies.schema.policy import Policy
from policies.schema.private import Private
from routers.strategies.direct import Direct

MAIL = "canary@example.com"
SAID = f"Write to {MAIL}!"


async def check_cloaked(start: StartGateway, cloud: Settings, folder: Path) -> None:
    """The engine is made to write one text that the request gives: with a placeholder, which comes back as the
    address, in a stream too."""
    alone = Policy(name="alone", description="For tests.", router=Direct(tier="slm", fallback=False))
    cloud = cloud.model_copy(update={"records": cloud.records.model_copy(update={"content": True})})
    far = await start(cloud, [alone])
    llm = {
        "name": "far",
        "tier": "llm",
        "url": far.url,
        "model": "alone",
        "engine": "vllm",
        "probe": 0,
        "cloud": True,
    }
    hiding = Policy(
        name="hiding",
        description="For tests.",
        router=Direct(tier="llm", fallback=False),
        private=Private(action="redact", entities=("EMAIL_ADDRESS",)),
    )
    near = await start(settings_of(llm | {"limits": {"first_token": 120, "whole": 120}}), [hiding])
    for stream in (False, True):
        assert await asked(near, stream) == SAID
    await far.get("/v1/exchanges/none")
    await asyncio.sleep(0.3)
    told = "".join(path.read_text() for path in folder.rglob("*.jsonl"))
    assert MAIL not in told
    assert "Write to <EMAIL_ADDRESS_1>!" in told


async def asked(gateway: Gateway, stream: bool) -> str:
    body: dict[str, Any] = {
        "model": "hiding",
        "messages": [{"role": "user", "content": f"To whom do I write? It is {MAIL}."}],
        "structured_outputs": {"choice": [SAID]},
        "max_tokens": 32,
        "temperature": 0,
        "stream": stream,
    }
    status, _, raw = await gateway.post("/chat/completions", body)
    assert status == 200, raw
    return text_of(raw) if stream else str(json.loads(raw)["choices"][0]["message"]["content"])
