"""Rule `greedy` against the large model alone: is the text the same, and how many decode steps were saved?

`python -m benchmarks.greedy --target URL [--draft NAME=URL ...]`: the target and each draft are vLLM servers; the
default small model on the local engine drafts too. Every prompt is answered by the target alone and then under each
draft, interleaved, at temperature 0. Where two texts differ, the first differing token is listed with the two
likeliest of the target there: a server's cache state alone can flip a tie of less than `TIE` nats.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import openai
from openai.types.chat import ChatCompletion
from pydantic import HttpUrl

from benchmarks import results
from gateway.cli.serving import serving
from gateway.settings import LocalEngine, Records, Settings, UpstreamSettings
from policies.schema import Policy
from policies.tuning.differences import differences
from policies.tuning.records import read_records
from policies.tuning.replay import replay
from policies.tuning.starter import load_items
from routers.direct import Direct
from routers.plan import Tier
from routers.speculative import Greedy, Speculative

PROMPTS = 100
MAX_TOKENS = 64
SEED = 20261122
TIE = 5e-3
SUBJECTS = (
    *(
        "the sea",
        "a lighthouse",
        "bread",
        "the moon",
        "bicycles",
        "rain",
        "a small town",
        "winter",
        "trees",
        "music",
    ),
    *(
        "the first railway",
        "bees",
        "a library",
        "mountains",
        "clocks",
        "tea",
        "the desert",
        "ships",
        "glass",
        "salt",
    ),
)
FORMS = ("Tell me about {}.", "Write a short story about {}.")
LOCAL = "llama.cpp, Q4_1"


def prompts(count: int) -> list[str]:
    """Open questions, and as many of the starter set as are missing to `count`, drawn with a fixed seed."""
    rng = random.Random(SEED)
    asked = [form.format(subject) for subject in SUBJECTS for form in FORMS][: count // 2]
    items = rng.sample(load_items(), count - len(asked))
    return asked + [item.prompt for item in items]


SPECULATIVE = Policy(
    name="speculative",
    description="speculates",
    router=Speculative(rule=Greedy(), otherwise=Direct(tier="llm")),
)


class Target(NamedTuple):
    """A vLLM server."""

    url: str
    model: str


def served_at(url: str) -> Target:
    with openai.OpenAI(base_url=url, api_key="none") as client:
        return Target(url, client.models.list().data[0].id)


def settings(target: Target, draft: Target | None, records: Path) -> Settings:
    """A gateway whose large model is the target, and whose small one is another vLLM server's or the local one's."""

    def upstream(tier: Tier, server: Target) -> UpstreamSettings:
        return UpstreamSettings(
            name=tier, tier=tier, url=HttpUrl(server.url), model=server.model, engine="vllm"
        )

    llm = upstream("llm", target)
    if draft is None:
        local, upstreams = LocalEngine(threads=1), (llm,)
        return Settings(local=local, upstreams=upstreams, records=Records(path=records))
    return Settings(local=None, upstreams=(llm, upstream("slm", draft)), records=Records(path=records))


class Row(NamedTuple):
    """One prompt under one draft. `figures` are those of `x-smallfirst-speculation`."""

    draft: str
    prompt: str
    text: str
    alone: ChatCompletion
    seconds: float
    alone_seconds: float
    figures: dict[str, float]

    @property
    def same(self) -> bool:
        return self.text == self.alone.choices[0].message.content


async def rows(
    target: Target, drafts: dict[str, Target | None], asked: Sequence[str], records: Path
) -> list[Row]:
    """Every prompt under every draft, each beside the target alone."""
    found = []
    async with AsyncExitStack() as stack:
        alone = await stack.enter_async_context(openai.AsyncOpenAI(base_url=target.url, api_key="none"))
        clients = {}
        for name, draft in drafts.items():
            given = settings(target, draft, records)
            served = await stack.enter_async_context(serving(given, [SPECULATIVE]))
            client = openai.AsyncOpenAI(base_url=served.url, api_key="none", timeout=300)
            clients[name] = await stack.enter_async_context(client)
        for prompt in asked:
            began = time.perf_counter()
            whole = await alone.chat.completions.create(
                model=target.model, **_body(prompt), logprobs=True, top_logprobs=2
            )
            seconds = time.perf_counter() - began
            for name, client in clients.items():
                found.append(await _row(client, name, prompt, whole, seconds))
    return found


async def _row(
    client: openai.AsyncOpenAI, draft: str, prompt: str, alone: ChatCompletion, alone_seconds: float
) -> Row:
    began = time.perf_counter()
    raw = await client.chat.completions.with_raw_response.create(model=SPECULATIVE.name, **_body(prompt))
    seconds = time.perf_counter() - began
    pairs = raw.headers["x-smallfirst-speculation"].split(", ")
    figures = {key: float(value) for key, value in (pair.split("=") for pair in pairs)}
    text = raw.parse().choices[0].message.content or ""
    return Row(draft, prompt, text, alone, seconds, alone_seconds, figures)


def _body(prompt: str) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
    }


def difference(row: Row) -> dict[str, Any]:
    """The target's two likeliest tokens, with their natural log-probabilities, where the texts first differ."""
    logprobs = row.alone.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    written = ""
    for token in logprobs.content:
        if not row.text.startswith(written + token.token):
            break
        written += token.token
    first, second = token.top_logprobs[:2]
    return {
        "draft": row.draft,
        "prompt": row.prompt,
        "after": written[-40:],
        "likeliest": [[one.token, round(one.logprob, 6)] for one in (first, second)],
        "gap": round(first.logprob - second.logprob, 6),
    }


def measured(found: Sequence[Row]) -> dict[str, Any]:
    """Of one draft's rows. `steps_saved`: 1 - the target's tokens over those that it writes alone."""
    total = {name: sum(row.figures[name] for row in found) for name in found[0].figures}
    differ = [difference(row) for row in found if not row.same]
    return {
        "prompts": len(found),
        "same": sum(row.same for row in found),
        "same_but_for_ties": sum(row.same for row in found) + sum(one["gap"] <= TIE for one in differ),
        "differences": differ,
        "tokens": int(total["llm_tokens_alone"]),
        "blocks": int(total["blocks"]),
        "drafted": int(total["drafted"]),
        "accepted": int(total["accepted"]),
        "accepted_share": round(total["accepted"] / total["drafted"], 4),
        "steps_saved": round(1 - total["llm_tokens"] / total["llm_tokens_alone"], 4),
        "seconds": round(sum(row.seconds for row in found), 1),
        "alone_seconds": round(sum(row.alone_seconds for row in found), 1),
        "slm_seconds": round(total["slm_seconds"], 1),
        "llm_seconds": round(total["llm_seconds"], 1),
    }


def replayed(records: Path) -> dict[str, int]:
    """How many of the exchanges on record their replay reproduces exactly."""
    whole = [replay(record) for record in read_records(records)]
    return {"exchanges": len(whole), "exact": sum(not differences(one) for one in whole)}


def run(target: Target, drafts: dict[str, Target | None], count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(rows(target, drafts, prompts(count), Path(folder)))
        of = {name: measured([row for row in found if row.draft == name]) for name in drafts}
        return {"drafts": of, "replay": replayed(Path(folder))}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", required=True, help="URL of the target, ending in /v1")
    parser.add_argument("--draft", action="append", default=[], metavar="NAME=URL", help="another draft")
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    args = parser.parse_args()
    drafts: dict[str, Target | None] = {LOCAL: None}
    for name, url in (given.split("=", 1) for given in args.draft):
        drafts[name] = served_at(url)
    found = run(served_at(args.target), drafts, args.prompts)
    print(json.dumps(found, indent=1))
    print(results.write("greedy", found))


if __name__ == "__main__":
    main()
