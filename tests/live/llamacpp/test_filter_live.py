"""The real small model judges passages, on the local engine; the record replays."""

from pathlib import Path
from typing import Any

import pytest
from support.gateways import StartGateway, upstream
from support.scripted_server import Scripted

from gateway.settings import LocalEngine, Settings
from policies.schema.policy import Policy
from routers.fragments.passage_filter import PassageFilter
from routers.strategies.direct import Direct

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

PASSAGES = [
    "Brennick Light first shone in 1884.",
    "Marta Vey keeps Oskel Light.",
    "Old Pesk is a smoked cheese.",
]


@pytest.mark.parametrize(("stream", "by"), [(True, "likelihood"), (False, "verdict")])
async def test_the_small_model_chooses_what_the_large_one_is_shown(
    start: StartGateway, llm: Scripted, weights: Path, stream: bool, by: Any
):
    policy = Policy(
        name="test", description="x", router=Direct(tier="llm"), filter=PassageFilter(most=2, by=by)
    )
    settings = Settings(local=LocalEngine(threads=1), upstreams=(upstream(llm, "llm"),))
    gateway = await start(settings, [policy])
    body = {
        "model": "test",
        "messages": [{"role": "user", "content": "Who keeps Oskel Light?"}],
        "stream": stream,
        "smallfirst": {"context": PASSAGES},
    }
    status, headers, _ = await gateway.post("/chat/completions", body)
    assert status == 200
    told = (await gateway.exchange(headers["x-smallfirst-id"]))["skills"]["filter"]
    assert told["by"] == by
    assert by == "verdict" or told["order"][0] == 1
    assert [0.0 < p < 1.0 for p in told["p"]] == [True] * 3
    assert told["dropped"] == sorted({0, 1, 2} - set(told["order"]))
    assert 1 <= told["kept"] <= 2
    shown = llm.requests[-1]["messages"][-1]["content"]
    assert [passage in shown for passage in PASSAGES] == [place in told["order"] for place in range(3)]
