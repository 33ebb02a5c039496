"""Exchanges recorded with their content, by gateways that have answered them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
from support.gateways import Gateway, gateway_of, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.strategy_requests import UNSURE

from policies.records.reader import read_records
from policies.records.schema import ExchangeLine

CHAT = "/chat/completions"
SPLICING = simple_policy(release="splice", accept=0.5, commit=0.8, give_up=0.3).replace(name="splicing")

Turn = tuple[str, dict[str, Any], Reply, Reply]
"""Where what is asked, and what the small and the large model say."""


async def recorded(
    slm: Scripted,
    llm: Scripted,
    folder: Path,
    turns: Sequence[Turn],
    content: bool = True,
    private: Any = False,
) -> list[ExchangeLine]:
    """The lines of a gateway that has answered these turns, in order; its large model is a cloud."""
    settings = settings_of(
        upstream(slm, "slm"), upstream(llm, "llm", engine="vllm", cloud=True), records={"content": content}
    )
    policies = [simple_policy().replace(private=private), SPLICING]
    async with gateway_of(settings, folder, policies) as served, aiohttp.ClientSession() as http:
        gateway = Gateway(served, http)
        for path, body, small, large in turns:
            slm.says(small)
            llm.says(large)
            await gateway.post(path, body)
        await gateway.client.close()
    return [record.exchange for record in read_records(folder)]


def doubted(text: str = "Perhaps.") -> Reply:
    return Reply(text, logprobs=UNSURE)
