"""A text's log-probabilities from real vLLM, and from llama.cpp with the same weights."""

import aiohttp
import pytest

from benchmarks.vllm.server import Server
from gateway.skills.compress.surprisal import SurprisalReader
from gateway.upstreams.providers.registry import SERVER_KINDS
from gateway.wire.body_types import Body

pytestmark = [pytest.mark.heavy, pytest.mark.vllm]

TEXT = "The café in 東京 serves 🌊-shaped cakes for $4.50.\n```py\nprint('x')\n```\n"


async def test_vllm_tells_each_token_of_a_text_however_long(vllm_server: Server):
    async def post(page: str, body: Body) -> Body:
        root = vllm_server.url if page == "completions" else vllm_server.url.removesuffix("/v1")
        async with aiohttp.ClientSession() as http, http.post(f"{root}/{page}", json=body) as answer:
            return await answer.json()

    scorer = SERVER_KINDS["vllm"].scorer
    assert scorer is not None
    reader = SurprisalReader(scorer, vllm_server.model, 2048, post)
    found = await reader.read_surprisals(TEXT)
    assert "".join(TEXT[one.start : one.end] for one in found) == TEXT
    assert found[0].logprob is None
    assert all(one.logprob < 0.0 for one in found[1:])
    long = TEXT * 100
    windowed = await SurprisalReader(
        scorer._replace(window=512), vllm_server.model, 2048, post
    ).read_surprisals(long)
    assert len(windowed) > 2048
    assert "".join(long[one.start : one.end] for one in windowed) == long
    told = [one.logprob for one in found[1:-1]]
    assert [one.logprob for one in windowed[1 : len(found) - 1]] == pytest.approx(told, abs=0.01)
