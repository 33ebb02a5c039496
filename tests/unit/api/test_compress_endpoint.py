"""POST /v1/compress, and the command that asks it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.gateways import PRICE, Gateway, StartGateway, settings_of, upstream
from support.scoring_vllm import ReaderVllm
from support.scripted_server import Scripted, scripted
from support.strategy_requests import policy
from typer.testing import CliRunner

from gateway.cli import app
from policies.schema.ceilings import Ceilings
from policies.schema.compress import Compress
from routers.strategies.direct import Direct

TEXT = (
    " ".join(f"The {name} fox sees a hen by the river." for name in ("red", "grey", "white", "black")) + " "
)
HALF = {"target_ratio": 0.5}


@pytest.fixture
async def reader() -> AsyncIterator[ReaderVllm]:
    async with scripted("small", ReaderVllm) as server:
        yield server


@pytest.fixture
async def both(start: StartGateway, reader: ReaderVllm, llm: Scripted) -> Gateway:
    section = Compress(target_tokens=60, keep=("hen",), seconds=0.5)
    policies = [policy(Direct(tier="llm", fallback=False), compress=section)]
    return await start(settings_of(upstream(reader, "slm", engine="vllm"), upstream(llm, "llm")), policies)


async def posted(gateway: Gateway, **body: Any) -> tuple[int, dict[str, Any]]:
    status, _, raw = await gateway.post("/compress", body)
    return status, orjson.loads(raw)


async def test_texts_prompts_and_messages_come_back_with_an_account(both: Gateway, reader: ReaderVllm):
    status, found = await posted(both, text=TEXT * 3, question="Who sees a hen?", **HALF)
    account = found["account"]
    assert (status, found["object"], account["why"]) == (200, "smallfirst.compression", None)
    assert account["method"] == "perplexity+question"
    assert account["tokens_after"] == reader.tokens(found["text"])
    assert account["ratio"] == pytest.approx(0.5, rel=0.05)
    spared = account["tokens_before"] - account["tokens_after"]
    assert account["saved_usd"] == pytest.approx(spared * PRICE["input"] / 1e6, rel=0.01)
    assert account["seconds"] > 0
    assert "question" not in found
    (dropped,) = found["dropped"]
    gone = [(TEXT * 3)[start:end] for start, end in dropped["spans"]]
    assert dropped["text"] == "text"
    assert account["words_dropped"] == sum(len(part.replace(".", " .").split()) for part in gone)
    assert not any("\n" in part for part in gone)
    exchange = await both.exchange(found["id"])
    assert (exchange["aside"], exchange["endpoint"], exchange["route"]) == ("compress", "compress", "none")

    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    part = {"type": "text", "text": f"{TEXT * 3}\n\nWho sees a hen?", "cache_control": {"type": "x"}}
    messages = [
        {"role": "developer", "content": TEXT},
        {"role": "user", "name": "a", "content": [image, part]},
    ]
    status, found = await posted(both, messages=messages, target_ratio=0.7)
    assert found["messages"][0] == messages[0]
    assert found["messages"][1]["content"][0] == image
    assert found["messages"][1]["content"][1]["cache_control"] == {"type": "x"}
    assert found["messages"][1]["content"][1]["text"].endswith("\n\nWho sees a hen?")
    assert found["account"]["why"] is None

    status, found = await posted(both, prompt=f"{TEXT * 3}\n\nWho sees a hen?", model="test")
    assert (status, found["account"]["target"], found["prompt"].count("hen")) == (200, 60, 13)
    assert found["account"]["tokens_after"] < 80
    both.upstream("slm").latency.scoring_s_per_token = 1.0
    status, found = await posted(both, prompt=f"{TEXT * 3}\n\nWho sees a hen?", smallfirst={"policy": "test"})
    assert found["account"]["why"] == "takes_too_long"


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"text": TEXT}, "target_ratio", "one of target_ratio and target_tokens"),
    ({"text": TEXT, "target_ratio": 1.5}, "target_ratio", "less than 1"),
    ({"text": TEXT, "target_tokens": 0}, "target_tokens", "greater than or equal to 1"),
    ({"text": TEXT, **HALF, "target_tokens": 5}, "target_ratio", "one of target_ratio"),
    ({"text": TEXT, "prompt": TEXT, **HALF}, "text", "one of messages, prompt, text"),
    (HALF, "messages", "one of messages, prompt, text"),
    ({"text": 5, **HALF}, "text", "a string"),
    ({"prompt": TEXT, "question": "why", **HALF}, "question", "its question in it"),
    ({"messages": [], **HALF}, "messages", "at least one message"),
    ({"text": TEXT, **HALF, "keep": [""]}, "keep.0", "at least 1 character"),
    ({"text": TEXT, **HALF, "ratio": 1}, "ratio", "not known here"),
    ({"text": TEXT, **HALF, "model": "nobody"}, "model", "does not exist"),
]


async def test_a_bad_request_is_told_what_was_expected(both: Gateway):
    for body, param, says in WRONG:
        status, found = await posted(both, **body)
        assert status in (400, 404), body
        assert found["error"]["param"] == param
        assert says in found["error"]["message"]


async def test_a_small_model_that_fails_is_an_error(both: Gateway, reader: ReaderVllm):
    reader.status = 500
    status, found = await posted(both, text=TEXT, **HALF)
    assert (status, found["error"]["code"]) == (502, "upstream_error")
    assert "small-server" in found["error"]["message"]


async def test_a_text_that_takes_too_many_requests_or_dollars_is_not_read(
    start: StartGateway, reader: ReaderVllm
):
    price = {"input": 1000.0, "output": 0.0}
    cheap = policy(Direct(tier="slm", fallback=False)).replace(ceilings=Ceilings(usd=0.1))
    settings = settings_of(upstream(reader, "slm", engine="vllm", context=16, price=price))
    gateway = await start(settings, [cheap])
    status, found = await posted(gateway, text=TEXT * 2, model="test", question_aware=False, **HALF)
    assert (status, found["error"]["code"]) == (403, "ceiling_reached")
    assert "dollars" in found["error"]["message"]
    (ceiling,) = await costs(gateway)
    assert 0.1 < ceiling < 0.15

    before = len(reader.requests)
    status, found = await posted(gateway, text=TEXT * 400, question_aware=False, **HALF)
    assert (status, found["error"]["code"]) == (403, "ceiling_reached")
    assert "more than 1024 requests" in found["error"]["message"]
    assert len(reader.requests) - before <= 1024


async def costs(gateway: Gateway) -> list[float]:
    await gateway.get("/v1/exchanges/sf-0")  # finished exchanges are booked when one is asked for
    return [(await gateway.exchange(name))["cost_usd"] for name in gateway.app.exchanges.ids()]


def test_the_command_says_what_it_cannot_read(tmp_path: Path):
    file = tmp_path / "text"
    file.write_bytes(b"caf\xe9")
    told = CliRunner().invoke(app, ["compress", str(file), "--target-ratio", "0.5"])
    assert (told.exit_code, "not UTF-8: byte 3" in told.stderr) == (2, True)
    told = CliRunner().invoke(app, ["compress", str(tmp_path / "none"), "--target-ratio", "0.5"])
    assert (told.exit_code, "No such file" in told.stderr) == (2, True)
