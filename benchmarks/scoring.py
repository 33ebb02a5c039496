"""What it takes to be told a text's log-probabilities, beside a plain prefill of the same tokens.

`python -m benchmarks.scoring`: the small model on llama.cpp (as shipped, one thread) by its hidden states and by
forcing each token, and on real vLLM by `prompt_logprobs`. Each repeat reads another text, every way once between two
plain prefills of it; nothing is in a cache. Seconds are those of the clock; on a machine that does other work the
processor's own say more, and are given too.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import xllamacpp

from benchmarks import results
from benchmarks.vllm import environment
from benchmarks.vllm.server import Server, vllm
from gateway.local.llamacpp import hidden_states as states
from gateway.local.llamacpp.arguments import DEFAULT_BATCH
from gateway.local.llamacpp.server import build_parameters
from gateway.local.weights.package_index import DEFAULT_WEIGHTS
from gateway.local.weights.resolution import find_default_weights
from gateway.settings import load_settings
from gateway.skills.compress.surprisal import SurprisalReader
from gateway.upstreams.providers.registry import SERVER_KINDS
from gateway.upstreams.providers.server_kind import Post, Scorer
from gateway.wire.body_types import Body

LENGTHS = (200, 800)
"""Tokens of a text."""
LONG = 1600
"""Of one that llama.cpp reads in windows."""
REPEATS = 3
CONTEXT = 2048
PAGES = Path(__file__).parents[1] / "docs"

Way = Callable[[Sequence[int]], Awaitable[object]]


class Taken(NamedTuple):
    clock: float
    processor: float


class Reader:
    """A server under test; `processor` tells the seconds of all processors that it has had."""

    def __init__(self, url: str, model: str, key: str, processor: Callable[[], float]) -> None:
        self._url, self._model, self._key = url, model, key
        self.processor = processor

    async def post(self, page: str, body: Body) -> Body:
        headers = {"Authorization": f"Bearer {self._key}"}
        under = "v1/" if page == "completions" else ""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
            session.post(
                f"{self._url}/{under}{page}", json={"model": self._model} | body, headers=headers
            ) as answer,
        ):
            found: Body = await answer.json()
            assert answer.status == 200, found
            return found

    async def taken(self, way: Way, ids: Sequence[int]) -> Taken:
        clock, processor = time.perf_counter(), self.processor()
        await way(ids)
        return Taken(time.perf_counter() - clock, self.processor() - processor)


def texts() -> str:
    """The documentation's pages, one after the other."""
    return "\n\n".join(page.read_text(encoding="utf-8") for page in sorted(PAGES.glob("*.md")))


def spread(some: Sequence[float]) -> dict[str, float]:
    found = {"median": statistics.median(some), "low": min(some), "high": max(some)}
    return {name: round(value, 4) for name, value in found.items()}


async def compared(
    reader: Reader, prefill: Way, ways: dict[str, Way], some: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """The ways' times on some texts, and as multiples of the prefills' around them."""
    times: dict[str, list[Taken]] = {"prefill": [], **{name: [] for name in ways}}
    ratios: dict[str, dict[str, list[float]]] = {name: {"clock": [], "processor": []} for name in ways}
    for ids in some:
        before = await reader.taken(prefill, ids)
        each = {name: await reader.taken(way, ids) for name, way in ways.items()}
        after = await reader.taken(prefill, ids)
        times["prefill"] += [before, after]
        for name, taken in each.items():
            times[name].append(taken)
            for what in Taken._fields:
                plain = (getattr(before, what) + getattr(after, what)) / 2
                ratios[name][what].append(getattr(taken, what) / plain)
    return {
        "tokens": len(some[0]),
        "texts": len(some),
        "seconds": {name: spread([taken.clock for taken in found]) for name, found in times.items()},
        "processor_seconds": {
            name: spread([taken.processor for taken in found]) for name, found in times.items()
        },
        "times_prefill": {
            name: {what: spread(found) for what, found in of.items()} for name, of in ratios.items()
        },
    }


def cut(ids: Sequence[int], length: int, many: int, start: int) -> list[Sequence[int]]:
    return [ids[at : at + length] for at in range(start, start + many * length, length)]


async def ids_of(scorer: Scorer, post: Post) -> Sequence[int]:
    return (await scorer.tokenize_text(post, texts())).ids


async def of_llamacpp(weights: Path) -> dict[str, Any]:
    config = {
        "path": str(weights),
        "model": DEFAULT_WEIGHTS.name,
        "port": 0,
        "key": "none",
        "slots": 1,
        "prompt_cache_mib": 0,
        "context": CONTEXT,
    }
    engine = xllamacpp.Server(
        build_parameters(config | {"threads": 1, "embeddings": False, "batch": DEFAULT_BATCH})
    )
    reader = Reader(engine.listening_address, DEFAULT_WEIGHTS.name, "none", time.process_time)
    by_states, by_force = states.build_scorer(weights), SERVER_KINDS["llamacpp"].scorer
    assert by_force is not None

    async def prefill(ids: Sequence[int]) -> None:
        await reader.post("completion", {"prompt": list(ids), "n_predict": 1, "cache_prompt": False})

    async def read(ids: Sequence[int]) -> Sequence[float | None]:
        """As the gateway's `SurprisalReader` reads them, windows and all."""
        return await SurprisalReader(by_states, DEFAULT_WEIGHTS.name, CONTEXT, reader.post).read_logprobs(
            (), ids
        )

    async def forced(ids: Sequence[int]) -> Sequence[float]:
        return await by_force.logprobs(reader.post, ids, 1)

    ids = await ids_of(by_states, reader.post)
    await read(ids[:9])  # reads the weights
    found: dict[str, Any] = {}
    for length in LENGTHS:
        some = cut(ids, length, REPEATS, 100)
        found[str(length)] = await compared(reader, prefill, {"states": read, "forced": forced}, some)
        print(json.dumps(found[str(length)]), flush=True)
    found[str(LONG)] = await compared(reader, prefill, {"states": read}, cut(ids, LONG, 2, 3000))
    some_ids = ids[100 : 100 + LENGTHS[0]]
    one, other = np.array((await read(some_ids))[1:], float), np.array(await forced(some_ids))
    apart = np.abs(one - other)
    found["apart"] = {"tokens": len(apart), "mean": round(apart.mean(), 4), "max": round(apart.max(), 4)}
    return found


def processor_of(group: int) -> float:
    """Seconds that the processes of a group have had."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def of_vllm(server: Server) -> dict[str, Any]:
    root = server.url.removesuffix("/v1")
    reader = Reader(root, server.model, "none", lambda: processor_of(server.process.pid))
    scorer = SERVER_KINDS["vllm"].scorer
    assert scorer is not None
    salts = count()

    async def prefill(ids: Sequence[int]) -> None:
        asked = {
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0.0,
            "cache_salt": f"unseen {next(salts)}",
        }
        await reader.post("completions", asked)

    async def read(ids: Sequence[int]) -> Sequence[float]:
        return await scorer.logprobs(reader.post, ids, 1)

    ids = await ids_of(scorer, reader.post)
    await read(ids[:50])
    found: dict[str, Any] = {}
    for length in (*LENGTHS, LONG):
        some = cut(ids, length, REPEATS, 100)
        found[str(length)] = await compared(reader, prefill, {"prompt_logprobs": read}, some)
        print(json.dumps(found[str(length)]), flush=True)
    found["windowed"] = await windowed(scorer, server.model, reader.post, ids[3000 : 3000 + LONG])
    return found


async def windowed(scorer: Scorer, model: str, post: Post, ids: Sequence[int]) -> dict[str, Any]:
    """How near what a token is in windows, as llama.cpp's, is to what it is after all of the text before it."""
    whole = await SurprisalReader(scorer, model, CONTEXT, post).read_logprobs((), ids)
    short = SurprisalReader(scorer._replace(window=DEFAULT_BATCH), model, CONTEXT, post)
    one, other = (np.array(some[1:], float) for some in (whole, await short.read_logprobs((), ids)))
    return {
        "tokens": len(ids),
        "window": DEFAULT_BATCH,
        "correlation": round(float(np.corrcoef(one, other)[0, 1]), 4),
        "apart": round(float(np.abs(one - other).mean()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--engine", choices=("llamacpp", "vllm"), help="only this one; of the other, as last time"
    )
    args = parser.parse_args()
    last = results.FOLDER / "scoring.json"
    found = json.loads(last.read_text(encoding="utf-8")) if last.exists() else {}
    found.pop("made_by", None)
    found["vllm_version"] = environment.VERSION
    if args.engine != "vllm":
        found["llamacpp"] = asyncio.run(of_llamacpp(find_default_weights(load_settings().models_folder)))
    if args.engine != "llamacpp":
        with vllm(environment.models() / "smollm2") as server:
            found["vllm"] = asyncio.run(of_vllm(server))
    print(json.dumps(found, indent=1))
    print(results.write("scoring", found), flush=True)
    os._exit(0)  # llama.cpp's threads would be waited for


if __name__ == "__main__":
    main()
