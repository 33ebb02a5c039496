"""Once round the flywheel, with everything real but the large model: `python -m benchmarks.flywheel`.

Tickets of a help desk are answered under the policy `careful` by the built-in small model on llama.cpp and, where it is
unsure, by a stand-in for the large one that follows the desk's rules. What was recorded is exported by `smallfirst
export`, an adapter is trained on it (`benchmarks/vllm/lora.py`, PEFT), vLLM serves it under the gateway's management,
and it is asked by name, as is the model without it, about the tickets that the export had held out.
"""

import argparse
import asyncio
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
from aiohttp import web

from benchmarks import results
from benchmarks.vllm.environment import VERSION, folder, models, python, server_environment
from gateway.cli.loopback_gateway import run_gateway
from gateway.settings import LocalEngine, Settings
from gateway.telemetry.settings import RecordSettings
from gateway.upstreams.settings import UpstreamSettings

PEFT = "0.21.2"
LORA = Path(__file__).parent / "vllm" / "lora.py"
QUEUES = {
    "invoice": "billing",
    "refund": "billing",
    "subscription": "billing",
    "parcel": "shipping",
    "courier": "shipping",
    "password": "accounts",
    "login": "accounts",
    "screen": "hardware",
    "keyboard": "hardware",
}
"""The desk's rule: which queue takes what."""
TROUBLES = (
    "is missing",
    "has failed twice",
    "looks wrong",
    "stopped working today",
    "is late again",
    "makes no sense to me",
    "was changed without a word",
    "is not what I ordered",
)
MAX_TOKENS = 32
AT_ONCE = 2
ADAPTER = "desk"
BASE = "smollm2"


def tickets(count: int) -> list[str]:
    asked = [f"My {thing} {trouble}. What now?" for thing, trouble in itertools.product(QUEUES, TROUBLES)]
    random.Random(0).shuffle(asked)
    return asked[:count]


def ruled(ticket: str) -> str:
    """What the desk answers."""
    thing = ticket.split()[1]
    return f"Queue: {QUEUES[thing]}. Please send us the number of your {thing}."


@asynccontextmanager
async def desk() -> AsyncIterator[str]:
    """The base URL of the stand-in; it streams to who asks for a stream."""

    def chunk(choices: list[Any]) -> bytes:
        event = {
            "id": "1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "desk",
            "choices": choices,
        }
        return f"data: {json.dumps(event)}\n\n".encode()

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = ruled(body["messages"][-1]["content"])
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            return web.json_response(
                {"id": "1", "object": "chat.completion", "created": 1, "choices": [choice]}
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for word in text.split():
            delta = {"content": f"{word} " if not text.endswith(word) else word}
            await response.write(chunk([{"index": 0, "delta": delta, "finish_reason": None}]))
        await response.write(
            chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]) + b"data: [DONE]\n\n"
        )
        return response

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/v1"
    finally:
        await runner.cleanup()


async def record(into: Path, asked: Sequence[str]) -> None:
    """Every second ticket as a stream."""
    async with desk() as url:
        far = {"name": "desk", "tier": "llm", "url": url, "model": "desk", "probe": 0}
        settings = Settings(
            local=LocalEngine(),
            upstreams=(UpstreamSettings.model_validate(far),),
            records=RecordSettings(path=into, content=True),
        )
        async with run_gateway(settings) as running:
            await answered(running.url, "careful", asked)


async def answered(url: str, model: str, asked: Sequence[str]) -> list[str]:
    slots = asyncio.Semaphore(AT_ONCE)
    async with openai.AsyncOpenAI(base_url=url, api_key="none", timeout=600) as client:

        async def one(place: int, ticket: str) -> str:
            body: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": MAX_TOKENS}
            body["messages"] = [{"role": "user", "content": ticket}]
            async with slots:
                if place % 2:
                    return (await client.chat.completions.create(**body)).choices[0].message.content or ""
                stream = await client.chat.completions.create(**body, stream=True)
                parts = [one.choices[0].delta.content or "" async for one in stream if one.choices]
                return "".join(parts)

        return await asyncio.gather(*(one(place, ticket) for place, ticket in enumerate(asked)))


def peft() -> Path:
    """A folder that holds PEFT alone: what it needs besides is in vLLM's environment."""
    where = folder() / f"peft-{PEFT}"
    if not where.exists():
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python())]
        subprocess.run([*uv, "--no-deps", "--target", str(where), f"peft=={PEFT}"], check=True)
    return where


def trained(examples: Path, into: Path, steps: int) -> dict[str, Any]:
    """Losses before and after."""
    options = [f"--steps={steps}", "--threads=1"]
    command = [str(python()), str(LORA), str(models() / BASE), str(examples), str(into), *options]
    ended = subprocess.run(
        command, env=server_environment() | {"PYTHONPATH": str(peft())}, stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def serving_settings(adapter: Path) -> Settings:
    return Settings(
        local=LocalEngine(
            engine="vllm",
            model=str(models() / BASE),
            python=python(),
            arguments={"dtype": "float32", "enforce-eager": True},
            environment={"VLLM_CPU_KVCACHE_SPACE": "1"},
            adapters={ADAPTER: str(adapter)},
            slots=8,
        ),
        expose_models=True,
    )


async def served(adapter: Path, asked: Sequence[str]) -> dict[str, list[str]]:
    """What the model and its adapter answer, each by its name."""
    async with run_gateway(serving_settings(adapter)) as running:
        return {name: await answered(running.url, name, asked) for name in (BASE, ADAPTER)}


def right(asked: Sequence[str], answers: Sequence[str]) -> int:
    """Answers that name the ticket's queue as the desk does."""
    return sum(ruled(ticket).split(".")[0] in answer for ticket, answer in zip(asked, answers, strict=True))


def timed(seconds: dict[str, float], what: str, step: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    found = step()
    seconds[what] = round(time.perf_counter() - began, 1)
    print(f"{what}: {seconds[what]} s", file=sys.stderr, flush=True)
    return found


def run(count: int, steps: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        records, examples, adapter = (Path(scratch) / name for name in ("records", "set", "adapter"))
        seconds: dict[str, float] = {}
        timed(seconds, "record", lambda: asyncio.run(record(records, tickets(count))))
        export = [sys.executable, "-m", "gateway.cli", "export", str(records), "--out", str(examples)]
        export += ["--validation", "0.25"]
        told = timed(seconds, "export", lambda: subprocess.run(export, stderr=subprocess.PIPE, text=True))
        print(told.stderr, file=sys.stderr, flush=True)
        told.check_returncode()
        held_out = [
            json.loads(line)["messages"][-2]["content"]
            for line in (examples / "validation.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        losses = timed(seconds, "train", lambda: trained(examples, adapter, steps))
        answers = timed(seconds, "serve and ask", lambda: asyncio.run(served(adapter, held_out)))
    account = dict(line.rsplit(maxsplit=1) for line in told.stderr.splitlines())
    return {
        "vllm": VERSION,
        "peft": PEFT,
        "account": {what: int(number) for what, number in account.items()},
        "losses": losses,
        "asked": len(held_out),
        "right": {name: right(held_out, said) for name, said in answers.items()},
        "examples": [
            {"ticket": ticket, "without": without, "adapter": said}
            for ticket, without, said in zip(held_out[:3], answers[BASE], answers[ADAPTER], strict=False)
        ],
        "seconds": seconds,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tickets", type=int, default=len(QUEUES) * len(TROUBLES))
    options.add_argument("--steps", type=int, default=60)
    given = options.parse_args()
    found = run(given.tickets, given.steps)
    print(json.dumps(found, indent=1))
    print(results.write("flywheel", found))


if __name__ == "__main__":
    main()
