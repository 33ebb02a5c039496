"""A text's log-probabilities from the real local engine: its two ways, each the other's oracle."""

from pathlib import Path

import orjson
import pytest
from support.gateways import Gateway, StartGateway

from gateway.settings import LocalEngine, Settings
from gateway.skills.compress.surprisal import SurprisalReader, TokenSurprisal
from gateway.upstreams.providers.registry import SERVER_KINDS
from gateway.wire.body_types import Body

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

TEXT = "The café in 東京 serves 🌊 for $4.50."


def readers(gateway: Gateway) -> tuple[SurprisalReader, SurprisalReader]:
    """By what the local engine gives, and by what any llama.cpp gives."""
    upstream = gateway.upstream("slm")

    async def post(page: str, body: Body) -> Body:
        call = await upstream.send(upstream.url(page), orjson.dumps(body), stream=False)
        try:
            return orjson.loads(await call.response.read())
        finally:
            call.close()

    kind = SERVER_KINDS["llamacpp"].scorer
    assert kind is not None
    assert upstream.scorer is not None
    own, any_llamacpp = (SurprisalReader(one, upstream.model, 2048, post) for one in (upstream.scorer, kind))
    return own, any_llamacpp


def apart(one: list[TokenSurprisal], other: list[TokenSurprisal]) -> float:
    assert [told[:2] for told in one] == [told[:2] for told in other]
    return max(abs(a.logprob - b.logprob) for a, b in zip(one, other, strict=True) if a.logprob and b.logprob)


async def test_states_tell_what_forcing_each_token_tells(start: StartGateway, weights: Path):
    """Within what eight-bit arithmetic makes: of characters that tokens part too, and after a question. Chat goes on
    beside it."""
    gateway = await start(Settings(local=LocalEngine(threads=1, slots=2)))
    own, any_llamacpp = readers(gateway)
    first, again = await own.read_surprisals(TEXT), await any_llamacpp.read_surprisals(TEXT)
    assert "".join(TEXT[one.start : one.end] for one in first) == TEXT
    assert apart(first, again) < 0.3
    assert (first[0].logprob, again[0].logprob) == (None, None)
    asked = await own.read_surprisals(" Tokyo", "Where is it? In")
    assert apart(asked, await any_llamacpp.read_surprisals(" Tokyo", "Where is it? In")) < 0.3
    status, _, raw = await gateway.post(
        "/chat/completions",
        {"model": "offline", "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4},
    )
    assert status == 200
    assert b"content" in raw


async def test_an_engine_that_embeds_is_made_to_write_each_token(start: StartGateway, weights: Path):
    gateway = await start(Settings(local=LocalEngine(threads=1, slots=1, embeddings=True)))
    own, _ = readers(gateway)
    found = await own.read_surprisals("The sea is wide")
    assert [one.logprob is None for one in found] == [True, False, False, False]
