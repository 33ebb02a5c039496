"""What speculation across HTTP takes here, and whether the model of routers/fragments/speedup.py foretells it.

`python -m benchmarks.speculation [--llm URL --model NAME]`: measures a vLLM server's verifications and its own
decoding, and the small model's drafting on the built-in engine; then plays answers against the vLLM server with drafts
of a known acceptance, and compares their times with the forecast. The kinds of call are interleaved; the spread is that
of the repeats.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from http.client import HTTPConnection
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import openai

from benchmarks import results
from benchmarks.vllm.environment import models
from benchmarks.vllm.server import vllm
from gateway.cli.loopback_gateway import run_gateway
from gateway.settings import LocalEngine, Settings
from routers.fragments.speedup import Costs, best_block, estimate_acceptance, forecast

LENGTHS = (64, 256, 768)
"""Tokens before the block that is verified."""
REPEATS = 5
STEPS = 32
"""Tokens over which decoding is timed."""
BLOCK = 7
"""Tokens of the block that is verified."""
DRAFTS = (1, 4, 16, 32)
"""Tokens of a draft."""
ACCEPTS = (0.5, 0.8, 0.95)
BLOCKS: tuple[int | None, ...] = (4, 16, None)
PROMPTS, ANSWER = (48, 256), 64
SEED = 20261122
Samples = dict[int, list[float]]
SUBJECT = "The harbour was quiet before the first boats came in, and nobody spoke of the storm. "


class Vllm:
    """A vLLM server's completions with token ids in place of text."""

    def __init__(self, url: str, model: str) -> None:
        address = urlsplit(url)
        self._connection = HTTPConnection(address.netloc, timeout=600)
        self._root = address.path.removesuffix("/v1")
        self._model = model

    def tokens(self, text: str) -> list[int]:
        found: list[int] = self._post("/tokenize", {"prompt": text})["tokens"]
        return found

    def write(self, prompt: Sequence[int], most: int) -> list[int]:
        """The server's own greedy tokens, `most` of them."""
        body = {"max_tokens": most, "ignore_eos": True, "return_token_ids": True}
        found: list[int] = self._complete(prompt, body)["token_ids"]
        return found

    def verify(self, prompt: Sequence[int], block: Sequence[int]) -> list[int]:
        """The leading tokens of the block that are the server's greedy ones, and one of its own."""
        body = {"max_tokens": 1, "prompt_logprobs": 1, "return_token_ids": True}
        found = self._complete([*prompt, *block], body)
        kept: list[int] = []
        for token, entry in zip(block, found["prompt_logprobs"][len(prompt) :], strict=True):
            best = next(int(name) for name, value in entry.items() if value["rank"] == 1)
            kept.append(best)
            if best != token:
                return kept
        return [*kept, *found["token_ids"]]

    def verify_each(self, prompt: Sequence[int], block: Sequence[int]) -> list[int]:
        """The server's own token after the prompt and after each token of the block: as many prompts of one call, which
        may read the prefix cache, as `prompt_logprobs` may not."""
        prompts = [[*prompt, *block[:length]] for length in range(len(block) + 1)]
        body = {"model": self._model, "prompt": prompts, "temperature": 0, "max_tokens": 1}
        choices = self._post("/v1/completions", body | {"return_token_ids": True})["choices"]
        return [choice["token_ids"][0] for choice in sorted(choices, key=lambda choice: choice["index"])]

    def _complete(self, prompt: Sequence[int], more: dict[str, Any]) -> dict[str, Any]:
        body = {"model": self._model, "prompt": list(prompt), "temperature": 0} | more
        choice: dict[str, Any] = self._post("/v1/completions", body)["choices"][0]
        return choice

    def version(self) -> str:
        return str(self._ask("GET", "/version")["version"])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", path, json.dumps(body).encode())

    def _ask(self, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
        self._connection.request(method, self._root + path, body, {"Content-Type": "application/json"})
        with self._connection.getresponse() as response:
            read: dict[str, Any] = json.load(response)
        self._connection.close()  # the server would, some seconds from now
        if "error" in read:
            raise RuntimeError(f"{path}: {read['error']}")
        return read


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def line(samples: Samples) -> tuple[float, float]:
    """Seconds of a call, 0 or more, and of each token: least squares of the relative errors of the medians."""
    lengths, medians = list(samples), [statistics.median(some) for some in samples.values()]
    slope, call = np.polyfit(lengths, medians, 1, w=1.0 / np.array(medians))
    if call < 0.0:
        return 0.0, statistics.fmean(median / length for length, median in zip(lengths, medians, strict=True))
    return float(call), float(slope)


def spread(some: Sequence[float]) -> dict[str, float]:
    return {
        name: round(value, 5)
        for name, value in (("median", statistics.median(some)), ("low", min(some)), ("high", max(some)))
    }


def text_of(server: Vllm, length: int) -> list[int]:
    """Tokens of a text that no cache knows the beginning of."""
    return server.tokens(f"Day {time.time_ns()}. " + SUBJECT * (length // 8))[:length]


class Target(NamedTuple):
    """Seconds of the large model's server, each repeat of them, by the tokens before the block."""

    verify: Samples
    """A block of `BLOCK` tokens."""
    again: Samples
    """The same once more: a prefix cache that is read would show here."""
    each: Samples
    """The same by `verify_each`."""
    prefill: Samples
    """One token after as long a text that was never seen."""
    decode: list[float]
    """A token."""


def measured_target(server: Vllm) -> Target:
    found = Target(defaultdict(list), defaultdict(list), defaultdict(list), defaultdict(list), [])
    for length in LENGTHS * REPEATS:
        seen, unseen = text_of(server, length), text_of(server, length)
        block = server.write(seen, BLOCK + 1)[:BLOCK]
        for samples in (found.verify, found.again):
            samples[length].append(seconds(partial(server.verify, seen, block)))
        found.each[length].append(seconds(partial(server.verify_each, seen, block)))
        found.prefill[length].append(seconds(partial(server.write, unseen, 1)))
        one, more = (seconds(partial(server.write, seen[:64], most)) for most in (1, 1 + STEPS))
        found.decode.append((more - one) / STEPS)
    return found


async def measured_draft() -> Samples:
    """Seconds of the built-in engine's drafts by length, what stands before them in its cache."""
    found: Samples = {length: [] for length in DRAFTS}
    async with (
        run_gateway(Settings(local=LocalEngine(threads=1))) as served,
        openai.AsyncOpenAI(base_url=served.url, api_key="none", timeout=600) as client,
    ):
        for repeat in range(-1, REPEATS):  # the first fills the cache
            for length in DRAFTS:
                began = time.perf_counter()
                await client.completions.create(
                    model="offline",
                    prompt=SUBJECT * 8,
                    max_tokens=length,
                    temperature=0,
                    extra_body={"ignore_eos": True, "cache_prompt": True},
                )
                if repeat >= 0:
                    found[length].append(time.perf_counter() - began)
    return found


class Run(NamedTuple):
    """One answer that was really made by speculation across HTTP."""

    prompt: int
    answer: int
    calls: int
    accepted: int
    rejected: int
    """Blocks that had a rejection."""
    seconds: float
    alone: float
    """The same answer from the large model alone."""


def played(
    server: Vllm, prompt: Sequence[int], answer: int, block: Callable[[int], int], accept: float
) -> Run:
    """An answer by real verifications of drafts that are right with the probability `accept`: the server's own
    greedy answer with wrong tokens put in. Drafting takes no time."""
    random = Random(SEED)
    began = time.perf_counter()
    own = server.write(prompt, answer)
    alone = time.perf_counter() - began
    written: list[int] = []
    calls = accepted = rejected = 0
    while len(written) < answer:
        ahead = own[len(written) : min(len(written) + block(len(prompt) + len(written)), answer - 1)]
        draft = [token if random.random() < accept else token ^ 1 for token in ahead]
        kept = server.verify([*prompt, *written], draft)
        whole = kept[:-1] == draft
        calls, rejected, accepted = calls + 1, rejected + (not whole), accepted + len(kept) - 1
        written += kept
    return Run(len(prompt), answer, calls, accepted, rejected, time.perf_counter() - began - alone, alone)


def compared(costs: Costs, runs: Sequence[Run], block: int | None) -> dict[str, Any]:
    """What the model foretells of runs with the same block length and costs, by the acceptance that they had,
    beside what was measured: calls, seconds and speed-up, means over the runs."""
    accept = estimate_acceptance(sum(run.accepted for run in runs), sum(run.rejected for run in runs)) or 0.0
    told = [forecast(accept, costs, run.prompt, run.answer, block) for run in runs]
    mean = statistics.fmean
    took, alone = mean(run.seconds for run in runs), mean(run.alone for run in runs)
    expected, expected_alone = mean(one.seconds for one in told), mean(one.alone_seconds for one in told)
    return {
        "runs": len(runs),
        "accept": round(accept, 4),
        "calls": {
            "forecast": round(mean(one.calls for one in told), 2),
            "measured": mean(run.calls for run in runs),
        },
        "seconds": {"forecast": round(expected, 3), "measured": round(took, 3)},
        "alone": {"forecast": round(expected_alone, 3), "measured": round(alone, 3)},
        "speedup": {"forecast": round(expected_alone / expected, 3), "measured": round(alone / took, 3)},
    }


def games(server: Vllm, costs: Costs) -> list[dict[str, Any]]:
    """Forecast and measurement side by side, each acceptance, prompt and block."""
    found = []
    for length in PROMPTS:
        prompt = text_of(server, length)
        for accept in ACCEPTS:
            for block in BLOCKS:

                def size(before: int, accept: float = accept, block: int | None = block) -> int:
                    return block or best_block(accept, costs, before)

                run = played(server, prompt, ANSWER, size, accept)
                row = {"prompt": length, "set": accept, "block": block or "best"}
                found.append(row | compared(costs, [run], block))
                print(found[-1])
    return found


def misses(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How far the forecast of seconds is off, as a share of what was measured: median, least and most of the rows."""
    return spread([abs(row["seconds"]["forecast"] / row["seconds"]["measured"] - 1.0) for row in rows])


def document(server: Vllm) -> dict[str, Any]:
    target, draft = measured_target(server), asyncio.run(measured_draft())
    verify = {length + BLOCK: some for length, some in target.verify.items()}
    (verify_call, verify_token), (draft_call, draft_token) = line(verify), line(draft)
    decode = statistics.median(target.decode)
    costs = Costs(decode, verify_call, verify_token, draft_call, draft_token)
    kinds = {**target._asdict(), "draft": draft}
    played_out = games(server, costs._replace(draft_call=0.0, draft_token=0.0))
    return {
        "vllm": server.version(),
        "costs": {name: round(value, 6) for name, value in zip(Costs._fields[:5], costs[:5], strict=True)},
        "decode": spread(kinds.pop("decode")),
        **{kind: {length: spread(some) for length, some in of.items()} for kind, of in kinds.items()},
        "games": played_out,
        "missed_by": misses(played_out),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--llm", help="base URL of a vLLM server; without it, one of the small model's own")
    parser.add_argument("--model", help="its model's name")
    args = parser.parse_args()
    if args.llm is not None:
        found = document(Vllm(args.llm, args.model))
    else:
        with vllm(models() / "smollm2") as server:
            found = document(Vllm(server.url, server.model))
    print(json.dumps(found, indent=1))
    print(results.write("speculation", found))


if __name__ == "__main__":
    main()
