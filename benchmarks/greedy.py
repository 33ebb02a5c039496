"""Rule `greedy` against the large model alone: is the text the same, and how many decode steps were saved?

`python -m benchmarks.greedy [--target URL --draft NAME=URL ...]`: the target and each draft are vLLM servers, without
`--target` ones of its own: the small model's 30 layers, and its first 29. The default small model on the local
engine drafts too. Every prompt is answered by the target alone and then under each
draft, interleaved, at temperature 0. Where two texts differ, the first differing token is listed with the two
likeliest of the target there: a server's cache state alone can flip a tie of less than `TIE` nats.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from statistics import linear_regression, mean, median
from typing import Any, NamedTuple

import openai
from openai.types.chat import ChatCompletion
from pydantic import HttpUrl

from benchmarks import results
from benchmarks.speculation import Run, compared
from benchmarks.vllm.environment import models
from benchmarks.vllm.server import vllm
from gateway.cli.loopback_gateway import run_gateway
from gateway.settings import LocalEngine, Settings
from gateway.telemetry.settings import RecordSettings
from gateway.upstreams.settings import UpstreamSettings
from policies.records.differences import find_differences
from policies.records.reader import read_records
from policies.records.replay import replay
from policies.records.schema import ExchangeLine, Record
from policies.schema.policy import Policy
from policies.tuning.starter_set import load_items
from routers.fragments.draft_blocks import count_accepted
from routers.fragments.speedup import Costs
from routers.plan import NO_USAGE, Tier
from routers.strategies.direct import Direct
from routers.strategies.speculative import Greedy, Speculative

PROMPTS = 100
MAX_TOKENS = 48
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
LOCAL, LAYERS = "llamacpp-Q4_1", "vllm-29-layers"


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


def version(target: Target) -> str:
    with urllib.request.urlopen(f"{target.url.removesuffix('/v1')}/version") as answer:
        return str(json.load(answer)["version"])


def settings(target: Target, draft: Target | None, records: Path) -> Settings:
    """A gateway whose large model is the target, and whose small one is another vLLM server's or the local one's."""

    def upstream(tier: Tier, server: Target) -> UpstreamSettings:
        return UpstreamSettings(
            name=tier, tier=tier, url=HttpUrl(server.url), model=server.model, engine="vllm"
        )

    llm = upstream("llm", target)
    if draft is None:
        local, upstreams = LocalEngine(threads=1), (llm,)
        return Settings(local=local, upstreams=upstreams, records=RecordSettings(path=records))
    return Settings(local=None, upstreams=(llm, upstream("slm", draft)), records=RecordSettings(path=records))


class Row(NamedTuple):
    """One prompt under one draft. `figures` are those of `x-smallfirst-speculation`."""

    draft: str
    id: str
    prompt: str
    text: str
    alone: ChatCompletion
    seconds: float
    alone_seconds: float
    figures: dict[str, float]

    @property
    def alone_tokens(self) -> tuple[int, int]:
        """Of the prompt and of the answer, as the target alone counts them."""
        assert self.alone.usage is not None
        return self.alone.usage.prompt_tokens, self.alone.usage.completion_tokens

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
            given = settings(target, draft, records / name)
            served = await stack.enter_async_context(run_gateway(given, [SPECULATIVE]))
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
    return Row(draft, raw.headers["x-smallfirst-id"], prompt, text, alone, seconds, alone_seconds, figures)


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


def replayed(records: Sequence[Record]) -> dict[str, int]:
    """How many of the exchanges on record their replay reproduces exactly."""
    return {"exchanges": len(records), "exact": sum(not find_differences(replay(one)) for one in records)}


def foretold(found: Sequence[Row], records: Sequence[Record]) -> dict[str, Any]:
    """What `routers.fragments.speedup` makes of the costs and the acceptance of these very answers, beside what they
    took. Of answers that were drafted to their end."""
    by_id = {record.exchange.id: record.exchange for record in records}
    pairs = [(row, by_id[row.id]) for row in found if by_id[row.id].calls[-1].ask == "score"]
    if not pairs:
        return {"runs": 0}
    costs = _costs(pairs)
    runs = [_run(row, exchange) for row, exchange in pairs]
    return {
        "costs": {name: round(value, 5) for name, value in zip(Costs._fields[:5], costs[:5], strict=True)}
    } | compared(costs, runs, None)


def _costs(pairs: Sequence[tuple[Row, ExchangeLine]]) -> Costs:
    scores = [call for _, line in pairs for call in line.calls if call.ask == "score"]
    # An exchange's first draft reads the prompt too.
    drafts = [call for _, line in pairs for call in line.calls[1:] if call.ask == "generate"]
    verify_call, verify_token = _line([(call.usage.prompt_tokens, call.duration_s) for call in scores])
    draft_call, draft_token = _line([(call.usage.completion_tokens, call.duration_s) for call in drafts])
    decode = [
        (row.alone_seconds - verify_call - verify_token * prompt) / max(1, answer - 1)
        for row, prompt, answer in ((row, *row.alone_tokens) for row, _ in pairs)
    ]
    return Costs(median(decode), verify_call, verify_token, draft_call, draft_token)


def _line(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Seconds of a call, and of each of its tokens; never under 0."""
    tokens, seconds = zip(*points, strict=True)
    if len(set(tokens)) == 1:
        return 0.0, mean(seconds) / tokens[0]
    slope, call = linear_regression(tokens, seconds)
    return (call, slope) if call > 0.0 < slope else (0.0, sum(seconds) / sum(tokens))


def _run(row: Row, line: ExchangeLine) -> Run:
    scores = [call for call in line.calls if call.ask == "score"]
    rejected = 0
    for call in scores:
        assert call.scored is not None
        scored = call.scored.to_scored(NO_USAGE, 0.0)
        rejected += count_accepted(scored)[0] < len(scored.tokens)
    prompt, answer = row.alone_tokens
    accepted = int(row.figures["accepted"])
    return Run(prompt, answer, len(scores), accepted, rejected, row.seconds, row.alone_seconds)


def run(target: Target, drafts: dict[str, Target | None], count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(rows(target, drafts, prompts(count), Path(folder)))
        told: dict[str, Any] = {}
        for name in drafts:
            some = [row for row in found if row.draft == name]
            records = list(read_records(Path(folder) / name))
            told[name] = measured(some) | {"replay": replayed(records), "model": foretold(some, records)}
        return {"vllm": version(target), "drafts": told}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", help="URL of a vLLM that runs already, ending in /v1")
    parser.add_argument("--draft", action="append", default=[], metavar="NAME=URL", help="another draft")
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    args = parser.parse_args()
    drafts: dict[str, Target | None] = {LOCAL: None}
    for name, url in (given.split("=", 1) for given in args.draft):
        drafts[name] = served_at(url)
    with ExitStack() as stack:
        if args.target is None:
            target, drafts[LAYERS] = (
                served_at(stack.enter_context(vllm(models() / name, core=core)).url)
                for core, name in enumerate(("smollm2", "smollm2-29"))
            )
        else:
            target = served_at(args.target)
        found = run(target, drafts, args.prompts)
    print(json.dumps(found, indent=1))
    print(results.write("greedy", found))


if __name__ == "__main__":
    main()
