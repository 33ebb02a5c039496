"""What compression costs in right answers, and what it takes: `python -m benchmarks.compression [--minutes N]`.

The 1.5B model goes on from few-shot prompts (benchmarks/few_shot.py) that are given in full, compressed by the small
model, cut off at the same number of tokens, and compressed by LLMLingua with the same small model. The shots are
compressed once, without a question, so that what stands before the questions can stay in the large model's cache.

What was answered is kept in a file and not asked again; results are of the questions that all of the prompts were tried
on. LLMLingua is used where a folder has it: `pip install --no-deps --target FOLDER llmlingua nltk joblib click`, and
`--lingua FOLDER`; vLLM's environment (`make vllm`) has what else it needs.
"""

import argparse
import asyncio
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import platformdirs
import xllamacpp

from benchmarks import results
from benchmarks.few_shot import Question, Set, folder, sets
from benchmarks.large import path as large_weights
from benchmarks.vllm import environment
from gateway.local.llamacpp import hidden_states as states
from gateway.local.llamacpp.arguments import DEFAULT_BATCH
from gateway.local.llamacpp.server import build_parameters
from gateway.local.weights.package_index import DEFAULT_WEIGHTS
from gateway.local.weights.resolution import find_default_weights
from gateway.settings import load_settings
from gateway.skills.compress.compression import Goal, compress
from gateway.skills.compress.messages import parse_segments
from gateway.skills.compress.surprisal import SurprisalReader
from gateway.wire.body_types import Body

RATIO = 0.5
GOAL = Goal(ratio=RATIO, question_aware=False, drop=True)
"""`drop_numbers`, as docs/skills/compress.md advises for worked examples."""
CONTEXT = 3072
RESAMPLES = 2000
SEED = 20261126
A_ROUND = 2
"""Questions of a set before the next set's turn."""
KEPT = Path(platformdirs.user_cache_dir("smallfirst")) / "compression"

Text = dict[str, Any]
"""A prompt before its questions: `text`, `tokens` of the small model's, and what making it took."""


class Server:
    """llama.cpp in this process."""

    def __init__(self, weights: Path, slots: int) -> None:
        config = {"path": str(weights), "model": weights.stem, "port": 0, "key": "none", "slots": slots}
        more = {"context": CONTEXT, "threads": 1, "embeddings": False, "batch": DEFAULT_BATCH}
        more["prompt_cache_mib"] = 0
        self._engine = xllamacpp.Server(build_parameters(config | more))
        self._url = self._engine.listening_address

    async def post(self, page: str, body: Body) -> Body:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
            session.post(
                f"{self._url}/{page}", json=body, headers={"Authorization": "Bearer none"}
            ) as answer,
        ):
            found: Body = await answer.json()
            assert answer.status == 200, found
            return found


async def made(some: Sequence[Set]) -> dict[str, dict[str, Text]]:
    """Of each set the prompts that the small model makes: in full, compressed, and cut off."""
    weights = find_default_weights(load_settings().models_folder)
    server = Server(weights, 1)
    reader = SurprisalReader(states.build_scorer(weights), DEFAULT_WEIGHTS.name, CONTEXT, server.post)
    await reader.read_surprisals("What is read first takes longer, for the weights are read too.")
    found = {}
    for one in some:
        full = one.prefix
        clock, processor = time.perf_counter(), time.process_time()
        told = await compress(parse_segments({"text": full}), GOAL, reader)
        took = {"seconds": time.perf_counter() - clock, "processor_seconds": time.process_time() - processor}
        short = told.texts[("text",)]
        found[one.name] = {
            "full": {"text": full, "tokens": told.before},
            "compressed": {"text": short, "tokens": await reader.count_tokens(short), "why": told.why} | took,
            "truncated": await _cut_off(full, told.after, reader),
        }
    return found


async def _cut_off(text: str, tokens: int, reader: SurprisalReader) -> Text:
    """Its end, from the beginning of a word on."""
    words = text.split(" ")
    low, high = 0, len(words)
    while low < high:
        middle = (low + high) // 2
        fits = await reader.count_tokens(" ".join(words[middle:])) <= tokens
        low, high = (low, middle) if fits else (middle + 1, high)
    left = " ".join(words[low:])
    return {"text": left, "tokens": await reader.count_tokens(left)}


def by_lingua(some: Sequence[Set], wanted: Sequence[int], where: Path) -> Iterator[Text]:
    python, model = environment.python(), environment.models() / "smollm2"
    asked = [{"shots": one.shots, "tokens": tokens} for one, tokens in zip(some, wanted, strict=True)]
    told = subprocess.run(
        [str(python), str(Path(__file__).with_name("lingua.py")), str(model)],
        input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(where), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    for line in told.stdout.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def prompts_of(some: Sequence[Set], lingua: Path | None) -> dict[str, dict[str, Text]]:
    """Those that are kept, and the rest made now."""
    kept = KEPT / "prompts.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Text]] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if new := [one for one in some if one.name not in found]:
        found |= asyncio.run(made(new))
        kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
    without = [one for one in some if "llmlingua" not in found[one.name]]
    if lingua is not None and without:
        wanted = [found[one.name]["compressed"]["tokens"] for one in without]
        for one, text in zip(without, by_lingua(without, wanted, lingua), strict=True):
            found[one.name]["llmlingua"] = text
        kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return {one.name: found[one.name] for one in some}


class Answers:
    """What was answered, a line each in a file, by the prompt and the question."""

    def __init__(self) -> None:
        self._path = KEPT / "answers.jsonl"
        self._found: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                one = json.loads(line)
                self._found[one["key"]] = one

    def get(self, prompt: Text, question: Question) -> dict[str, Any] | None:
        return self._found.get(self._key(prompt, question))

    def add(self, prompt: Text, question: Question, told: dict[str, Any]) -> None:
        one = {"key": self._key(prompt, question)} | told
        self._found[one["key"]] = one
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(one) + "\n")

    @staticmethod
    def _key(prompt: Text, question: Question) -> str:
        return hashlib.sha256(f"{prompt['text']}\0{question.text}".encode()).hexdigest()


def in_turn(some: Sequence[Set]) -> Iterator[tuple[Set, Question]]:
    """All questions, so that whenever it ends there are some of each set."""
    left = {one.name: list(one.questions) for one in some}
    while any(left.values()):
        for one in some:
            for _ in range(A_ROUND):
                if left[one.name]:
                    yield one, left[one.name].pop(0)


class Slot(NamedTuple):
    """Each prompt has a slot of its own, where it stays in the cache."""

    number: int
    prompt: Text


async def asked(server: Server, one: Set, slot: Slot, question: Question, answers: Answers) -> None:
    if answers.get(slot.prompt, question) is not None:
        return
    body = {
        "prompt": f"{slot.prompt['text']}\n\n{question.text}",
        "id_slot": slot.number,
        "cache_prompt": True,
        "n_predict": one.most,
        "temperature": 0.0,
        "stop": list(one.stop),
    }
    told = await server.post("completion", body)
    read = one.read(told["content"])
    answers.add(
        slot.prompt,
        question,
        {
            "right": read == question.answer,
            "read": read,
            "text": told["content"],
            "tokens": told["tokens_evaluated"],
        },
    )


async def answered(
    some: Sequence[Set], prompts: dict[str, dict[str, Text]], ways: Sequence[str] | None, minutes: float
) -> None:
    answers = Answers()
    numbers = count()
    slots = {
        one.name: [
            Slot(next(numbers), text)
            for way, text in prompts[one.name].items()
            if ways is None or way in ways
        ]
        for one in some
    }
    server = Server(large_weights(), next(numbers))
    until = time.monotonic() + minutes * 60
    for one, question in in_turn(some):
        if time.monotonic() > until:
            break
        await asyncio.gather(*(asked(server, one, slot, question, answers) for slot in slots[one.name]))


def document(some: Sequence[Set], prompts: dict[str, dict[str, Text]], answers: Answers) -> dict[str, Any]:
    rows = {one.name: _right(one, prompts[one.name], answers) for one in some}
    bbh = [one.name for one in some if one.name != "gsm8k"]
    groups = {"gsm8k": ["gsm8k"], "bbh": bbh, **{name: [name] for name in bbh}}
    shots = {one.name: len(one.shots) for one in some}
    found: dict[str, Any] = {"ratio": RATIO, "shots": shots, "sets": {}, "prompts": {}}
    for group, names in groups.items():
        ways = [way for way in prompts[names[0]] if all(way in prompts[name] for name in names)]
        found["sets"][group] = _accuracies(
            {way: np.concatenate([rows[name][way] for name in names]) for way in ways}
        )
    for name, texts in prompts.items():
        found["prompts"][name] = {way: _figures(text, texts["full"]) for way, text in texts.items()}
    return found


def _right(one: Set, texts: dict[str, Text], answers: Answers) -> dict[str, Any]:
    """Of the questions that all prompts were tried on, 1 where the answer was right."""
    tried = [[answers.get(text, question) for text in texts.values()] for question in one.questions]
    whole = [[told["right"] for told in row if told] for row in tried if None not in row]
    columns = np.array(whole, float).reshape(len(whole), len(texts))
    return {way: columns[:, at] for at, way in enumerate(texts)}


def _accuracies(right: dict[str, Any]) -> dict[str, Any]:
    """Means with percentile bootstraps over questions, and those of the differences to the full prompt, in pairs."""
    many = len(right["full"])
    if not many:
        return {"questions": 0}
    drawn = np.random.default_rng(SEED).integers(0, many, (RESAMPLES, many))

    def interval(values: Any) -> list[float]:
        low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5])
        return [round(float(value), 4) for value in (values.mean(), low, high)]

    accuracy = {way: interval(values) for way, values in right.items()}
    less = {way: interval(values - right["full"]) for way, values in right.items() if way != "full"}
    return {"questions": many, "accuracy": accuracy, "difference": less}


def _figures(text: Text, full: Text) -> dict[str, Any]:
    """Tokens before the questions, and how many of the full prompt's were read in a second."""
    found: dict[str, Any] = {"tokens": text["tokens"], "share": round(text["tokens"] / full["tokens"], 4)}
    for what in ("seconds", "processor_seconds"):
        if what in text:
            found[what] = round(text[what], 3)
            found[f"tokens_per_{what.removesuffix('s')}"] = round(full["tokens"] / text[what], 1)
    return found | {what: text[what] for what in ("why", "tries") if what in text}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=40.0, help="until no further question is begun")
    parser.add_argument("--sets", nargs="*", help="of these alone, as where two processors have one each")
    parser.add_argument("--ways", nargs="*", help="likewise, of these prompts")
    parser.add_argument("--lingua", type=Path, help="a folder with llmlingua and its light dependencies")
    args = parser.parse_args()
    some = list(sets(folder()))
    prompts = prompts_of(some, args.lingua)
    for name, texts in prompts.items():
        print(name, {way: _figures(text, texts["full"]) for way, text in texts.items()}, flush=True)
    chosen = [one for one in some if args.sets is None or one.name in args.sets]
    if chosen and args.minutes:
        asyncio.run(answered(chosen, prompts, args.ways, args.minutes))
    answers = Answers()
    found = document(some, prompts, answers)
    print(json.dumps(found, indent=1))
    print(results.write("compression", found), flush=True)
    os._exit(0)  # llama.cpp's threads would be waited for


if __name__ == "__main__":
    main()
