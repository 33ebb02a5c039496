"""Speculative decoding inside vLLM: acceptance, decode steps saved and time, by method, on the same prompts.

`python -m benchmarks.inside`: one server after the other, each of the small model's 30 layers: alone, looking up
n-grams, drafted for by its first 29 layers, and by itself; then alone once more, for the spread. Temperature 0, one
request at a time.
"""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import openai

from benchmarks import results
from benchmarks.greedy import prompts
from benchmarks.vllm.environment import VERSION, models
from benchmarks.vllm.server import Server, vllm
from gateway.local.throughput import VLLM_COUNTERS

PROMPTS = 20
REPETITIVE = (
    "Repeat this list exactly three times: apple, pear, plum, cherry, grape, melon.",
    "Copy this sentence four times: The quick brown fox jumps over the lazy dog.",
    "Write the numbers from one to ten in words, twice.",
    "Repeat after me: the sea is wide, the sea is deep, the sea is blue.",
)
"""What an n-gram look-up is for."""
MAX_TOKENS = 48
TOKENS = 3
"""Drafted at a time."""


def methods(folder: Path) -> dict[str, dict[str, Any]]:
    def drafted_by(name: str) -> dict[str, Any]:
        return {"method": "draft_model", "model": str(folder / name), "num_speculative_tokens": TOKENS}

    return {
        "ngram": {"method": "ngram", "num_speculative_tokens": TOKENS, "prompt_lookup_max": 3},
        "29-layers": drafted_by("smollm2-29"),
        "itself": drafted_by("smollm2"),
    }


class Measured(NamedTuple):
    texts: list[str]
    tokens: int
    seconds: float
    counters: dict[str, int]


def measured(server: Server, asked: list[str], *, speculates: bool) -> Measured:
    """The server's answers, and what its counters say of them."""

    def counters() -> dict[str, int]:
        names = ("drafts", "draft_tokens", "accepted_tokens") if speculates else ()
        return {name: int(server.metric(f"{VLLM_COUNTERS}{name}_total")) for name in names}

    before, texts, tokens = counters(), [], 0
    with openai.OpenAI(base_url=server.url, api_key="none") as client:
        began = time.perf_counter()
        for prompt in asked:
            answer = client.chat.completions.create(
                model=server.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                max_tokens=MAX_TOKENS,
            )
            assert answer.usage is not None
            texts.append(answer.choices[0].message.content or "")
            tokens += answer.usage.completion_tokens
        seconds = time.perf_counter() - began
    return Measured(
        texts, tokens, seconds, {name: value - before[name] for name, value in counters().items()}
    )


def row(some: Measured, alone: Measured) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tokens": some.tokens,
        "same": sum(one == other for one, other in zip(some.texts, alone.texts, strict=True)),
        "seconds": round(some.seconds, 2),
        "tokens_per_second": round(some.tokens / some.seconds, 2),
    }
    if some.counters:
        drafted, accepted = some.counters["draft_tokens"], some.counters["accepted_tokens"]
        found |= some.counters | {
            "accepted_share": round(accepted / drafted, 4) if drafted else 0.0,
            "steps_saved": round(accepted / some.tokens, 4),
        }
    return found


def main() -> None:
    asked = [*REPETITIVE, *prompts(PROMPTS - len(REPETITIVE))]
    folder = models()
    with vllm(folder / "smollm2") as server:
        alone = measured(server, asked, speculates=False)
    found = {"alone": row(alone, alone)}
    for name, method in methods(folder).items():
        with vllm(folder / "smollm2", f"--speculative-config={json.dumps(method)}") as server:
            found[name] = row(measured(server, asked, speculates=True), alone)
            print(name, found[name], flush=True)
    with vllm(folder / "smollm2") as server:
        found["again"] = row(measured(server, asked, speculates=False), alone)
    print(json.dumps(found, indent=1))
    print(results.write("inside", {"vllm": VERSION, "prompts": len(asked), "methods": found}))


if __name__ == "__main__":
    main()
