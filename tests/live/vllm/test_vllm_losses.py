"""What an export's selection reads of answers: real vLLM and llama.cpp find the same of the same weights."""

from pathlib import Path

import pytest
from support.gateways import settings_of

from benchmarks.vllm.server import Server
from gateway.cli.records.example_losses import measure_losses
from gateway.settings import LocalEngine, Settings
from policies.tuning.examples.sft_examples import Example, Message

pytestmark = [pytest.mark.vllm, pytest.mark.heavy, pytest.mark.engine]

CLOSE = 0.15
"""Nats a token: the small model's matrices are of 4 bits, and llama.cpp rounds what it multiplies them with."""


def example(question: str, *answer: Message) -> Example:
    return Example(question, 0.0, [{"role": "user", "content": question}, *answer])


def said(text: str) -> Message:
    return {"role": "assistant", "content": text}


CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sea"}'}}
EXAMPLES = [
    example("What is the capital of France?", said("The capital of France is Paris.")),
    example("What is the capital of France?", said("Queue: billing. Please send us your number.")),
    example("Is the sea deep? 🌊", {"role": "assistant", "tool_calls": [CALL]}),
    example("long " * 4000, said("Too long.")),
]


async def test_both_engines_find_answers_equally_likely(vllm_server: Server, weights: Path) -> None:
    served = {
        "name": "v",
        "tier": "slm",
        "url": vllm_server.url,
        "model": vllm_server.model,
        "engine": "vllm",
    }
    by_vllm = await measure_losses(EXAMPLES, settings_of(served | {"probe": 0, "limits": {"retries": 0}}))
    by_llamacpp = await measure_losses(EXAMPLES, Settings(local=LocalEngine()))
    assert by_vllm[-1] is by_llamacpp[-1] is None
    found = [(one, other) for one, other in zip(by_vllm, by_llamacpp, strict=True) if one and other]
    assert len(found) == len(EXAMPLES) - 1
    for one, other in found:
        assert one == pytest.approx(other, abs=CLOSE)
    right, wrong, _ = (one for one, _ in found)
    assert right.with_prompt < 1.0 < wrong.with_prompt
    assert right.with_prompt < right.without_prompt
