"""LLMLingua itself, run by a Python that has it, torch and transformers: `python benchmarks/lingua.py MODEL < TEXTS`.

On standard input JSON: a list of `{"shots": […], "tokens": …}`. On standard output, a line each: the compressed text
nearest to so many tokens of the model's, and what that took. It meets its target as it will, so it is asked for others
until it is near. Its own count of a price's tokens wants a file from the network, and is left out; and it wants the
keys and values of a model as older versions of transformers had them.
"""

import json
import sys
import time
from typing import Any

import tiktoken
import torch
from transformers import DynamicCache

TRIES = 4
NEAR = 0.03


class NoPrice:
    def encode(self, text: str, **_: object) -> list[str]:
        return text.split()


class Older:
    """A model whose cache is a list of keys and values, by layers."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, ids: Any, past_key_values: Any = None, **more: Any) -> Any:
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(past_key_values or ()):
            cache.update(keys, values, layer)
        told = self._model(ids, past_key_values=cache, **more)
        told.past_key_values = [[layer.keys, layer.values] for layer in told.past_key_values.layers]
        return told


def compressed(compressor: Any, shots: list[str], wanted: int) -> dict[str, Any]:
    best: dict[str, Any] | None = None
    asked = float(wanted)
    for attempt in range(TRIES):
        clock, processor = time.perf_counter(), time.process_time()
        told = compressor.compress_prompt(shots, instruction="", question="", target_token=asked)
        text = told["compressed_prompt"].strip()
        count = len(compressor.tokenizer.encode(text))
        found = {
            "text": text,
            "tokens": count,
            "tries": attempt + 1,
            "seconds": time.perf_counter() - clock,
            "processor_seconds": time.process_time() - processor,
        }
        if best is None or abs(count - wanted) < abs(best["tokens"] - wanted):
            best = found
        if abs(count - wanted) <= NEAR * wanted:
            break
        asked *= wanted / count
    assert best is not None
    return best


def main() -> None:
    tiktoken.encoding_for_model = lambda name: NoPrice()
    torch.set_num_threads(1)
    from llmlingua import PromptCompressor

    compressor = PromptCompressor(sys.argv[1], device_map="cpu", model_config={"dtype": torch.float32})
    compressor.model = Older(compressor.model)
    for one in json.load(sys.stdin):
        print(json.dumps(compressed(compressor, one["shots"], one["tokens"])), flush=True)


if __name__ == "__main__":
    main()
