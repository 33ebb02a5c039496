"""What the tests of strategies ask, under which policies, and how they read the streams they get."""

import json
from typing import Any

from support.gateways import Gateway, simple_calibrator

from policies.schema.policy import Policy
from routers.strategies.hedge import Hedge

ASK = {"model": "test", "messages": [{"role": "user", "content": "Is ice cold?"}]}
SURE, UNSURE, HOPELESS = -0.01, -1.2, -3.0
SENTENCE = "Ice is very cold to the touch."


def policy(router: Any, **more: Any) -> Policy:
    return Policy(name="test", description="For tests.", router=router, **more)


def hedge(**changes: Any) -> Policy:
    fields = {"accept": 0.5, "commit": 0.9, "give_up": 0.1, "calibrator": simple_calibrator()}
    return policy(Hedge(**(fields | changes)))


async def streamed(gateway: Gateway, body: dict[str, Any]) -> tuple[str, list[dict[str, Any]], bytes]:
    """The text, the chunks and the raw bytes of a stream."""
    status, _, raw = await gateway.post("/chat/completions", body | {"stream": True})
    assert status == 200, raw
    return text_of(raw), chunks_of(raw), raw


def chunks_of(raw: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: ")]
    assert lines[-1] == b"[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def text_of(raw: bytes) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks_of(raw) for choice in chunk["choices"]
    )


def assert_well_formed(chunks: list[dict[str, Any]]) -> None:
    """One id, one role, one finish, which ends it."""
    assert len({chunk["id"] for chunk in chunks}) == 1
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert [bool(choice["delta"].get("role")) for choice in choices].count(True) == 1
    finishes = [choice["finish_reason"] for choice in choices]
    assert [finish for finish in finishes if finish] == [finishes[-1]]


def figures_of(raw: bytes) -> dict[str, Any]:
    found = [line for line in raw.split(b"\n") if line.startswith(b": smallfirst ")]
    return dict(json.loads(found[0].removeprefix(b": smallfirst ")))
