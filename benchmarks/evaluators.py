"""Each evaluator, evaluated: how well it tells right answers of the real small model from wrong ones.

`python -m benchmarks.evaluators`: the small model drafts held-out items of the starter set, which are graded, and
judges its own drafts; the 1.5B model judges some of them too. On training items the small model's agreement with
itself is fitted together with its calibrated confidence, to see whether both tell more than the confidence alone.

What was asked is kept in the user's cache folder as it comes, so that a run that was broken off goes on; `--fresh`
begins anew.
"""

import asyncio
import json
import random
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import platformdirs
from numpy.typing import NDArray

from benchmarks import results
from benchmarks.large import path as large_weights
from benchmarks.pair import SEED, held_out
from gateway.cli.collect import gather
from gateway.cli.serving import serving
from gateway.judging import judged, question_body
from gateway.settings import LocalEngine, Records, Settings
from gateway.upstreams.upstream import Upstream
from policies.measured import PATH, Measured
from policies.rubric_files import load_rubrics
from policies.trained import STOCK_CALIBRATOR
from policies.tuning.calibrate import confidence_of
from policies.tuning.graded import GradedDraft, read_graded
from policies.tuning.logistic import Rows, model, scaling
from policies.tuning.report import auroc, calibration_error, interval
from policies.tuning.starter import Item, load_items
from routers.agreement import COMPARED, agreement, last_number
from routers.calibration import Calibrator, Source
from routers.evaluators import Rating, Verification
from routers.judge import Judgement
from routers.plan import NO_USAGE, Fragment, Judge

Array = NDArray[np.float64]
Row = dict[str, Any]

HELD_OUT, JUDGED, BY_LARGE = 240, 160, 60
"""Held-out drafts that are sampled anew, that the small model judges, and that the large one does."""
TRAIN, TAUGHT = 240, 120
"""Training drafts that are made, and that are sampled anew."""
SAMPLES = 4
LONGEST = 64
"""Tokens of a draft, and of a sample."""
SMALL = "smollm2-135m-instruct"
LARGE = large_weights().stem
KEPT = Path(platformdirs.user_cache_dir("smallfirst")) / "evaluators"


def train_items(count: int) -> list[Item]:
    """`count` items of the training split, as many of each kind."""
    rng = random.Random(SEED)
    items = [item for item in load_items() if item.split == "train"]
    kinds = sorted({item.kind for item in items})
    return [
        item
        for kind in kinds
        for item in rng.sample([one for one in items if one.kind == kind], count // len(kinds))
    ]


class Draft(NamedTuple):
    """What the small model wrote for an item."""

    item: Item
    answer: str
    right: bool
    draft: GradedDraft


def drafts(name: str, items: Sequence[Item]) -> list[Draft]:
    """Of each item; collected where they are not there yet."""
    folder = KEPT / name
    if not (folder / "grades.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        settings = Settings(local=LocalEngine(), records=Records(content=True))
        asyncio.run(gather(settings, folder, items, LONGEST))
    found = {draft.grade.item: draft for draft in read_graded(folder)}
    drawn = [
        Draft(item, "".join(token.text for token in draft.tokens), draft.grade.right, draft)
        for item in items
        if (draft := found.get(item.id))
    ]
    random.Random(SEED).shuffle(drawn)  # so that a part of them is like the whole
    return drawn


class Kept:
    """Rows of one file, by item; each is written as it comes."""

    def __init__(self, name: str) -> None:
        self._path = KEPT / f"{name}.jsonl"
        self._rows: dict[str, Row] = {}
        if self._path.exists():
            rows = map(json.loads, self._path.read_text(encoding="utf-8").splitlines())
            self._rows = {row["item"]: row for row in rows}

    def get(self, item: Item) -> Row | None:
        return self._rows.get(item.id)

    def add(self, item: Item, row: Row) -> None:
        self._rows[item.id] = {"item": item.id, **row}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(self._rows[item.id])}\n")


async def asked(upstream: Upstream, body: dict[str, Any]) -> bytes:
    sent = await upstream.send(upstream.url("chat"), orjson.dumps(body), stream=False)
    try:
        return await sent.response.read()
    finally:
        sent.close()


async def performed(upstream: Upstream, draft: Draft, fragment: Fragment[Judgement]) -> Judgement:
    """The fragment that the gateway performs, its one-token questions put to the engine."""
    body = {"messages": [{"role": "user", "content": draft.item.prompt}]}
    ask = next(fragment)
    try:
        while True:
            assert isinstance(ask, Judge)
            question = question_body(ask, body, "chat", upstream.model, upstream.most_alternatives)
            ask = fragment.send(judged(ask, await asked(upstream, question), NO_USAGE))
    except StopIteration as end:
        judgement: Judgement = end.value
        return judgement


async def sampled(upstream: Upstream, draft: Draft) -> list[str]:
    body = {
        "model": upstream.model,
        "messages": [{"role": "user", "content": draft.item.prompt}],
        "n": SAMPLES,
        "temperature": 1.0,
        "max_tokens": min(LONGEST, len(draft.answer.encode()) // 3 + 16),
    }
    answer = json.loads(await asked(upstream, body))
    return [choice["message"]["content"] or "" for choice in answer["choices"]]


async def judge_all(
    weights: str,
    name: str,
    drafted: Iterable[Draft],
    at_once: int,
    *,
    tokens: bool = True,
    agree: bool = True,
) -> None:
    """Puts every draft to a model that is not asked yet: its one-token judgements, and its samples."""
    rubric = load_rubrics()["correctness"]
    judges: dict[str, Verification | Rating] = {"verify": Verification(), "rate": Rating(rubric=rubric)}
    kept = {kind: Kept(f"{name}.{kind}") for kind in (*judges, "samples")}
    slots = asyncio.Semaphore(at_once)
    settings = Settings(local=LocalEngine(model=weights, slots=at_once))
    async with serving(settings) as served:
        upstream = served.app.pools["slm"].upstreams[0]

        async def one(draft: Draft) -> None:
            async with slots:
                for kind, judge in judges.items() if tokens else ():
                    if kept[kind].get(draft.item) is None:
                        found = await performed(upstream, draft, judge.judge(draft.answer))
                        kept[kind].add(draft.item, found._asdict())
                if agree and kept["samples"].get(draft.item) is None:
                    kept["samples"].add(draft.item, {"samples": await sampled(upstream, draft)})

        await asyncio.gather(*(one(draft) for draft in drafted))


def scored(right: Array, p: Array) -> dict[str, Any]:
    """Discrimination and calibration; `chance` where the interval of the AUROC has 0.5 in it."""
    found = interval(auroc, right, p)
    return {
        "answers": len(right),
        "right": round(float(right.mean()), 4),
        "auroc": found,
        "calibration_error": interval(calibration_error, right, p),
        "chance": bool(found[1] <= 0.5),
    }


def of_kept(name: str, kind: str, drafted: Sequence[Draft]) -> tuple[Array, Array, list[float]]:
    """Of the drafts that were judged: whether right, p, and the mass."""
    kept = Kept(f"{name}.{kind}")
    rows = [(draft, row) for draft in drafted if (row := kept.get(draft.item))]
    right = np.array([float(draft.right) for draft, _ in rows])
    return right, np.array([row["p"] for _, row in rows]), [row["mass"] for _, row in rows]


def by_tokens(name: str, drafted: Sequence[Draft]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in ("verify", "rate"):
        right, p, mass = of_kept(name, kind, drafted)
        if len(right):
            found[kind] = scored(right, p) | {"mass": round(float(np.mean(mass)), 4)}
    return found


def agreeing(name: str, drafted: Sequence[Draft]) -> tuple[list[Draft], dict[str, Array]]:
    """The drafts that have samples, and their agreement by each way of comparing that needs no judge."""
    kept = Kept(f"{name}.samples")
    rows = [(draft, row["samples"]) for draft in drafted if (row := kept.get(draft.item))]
    return [draft for draft, _ in rows], {
        compare: np.array([agreement(compare, draft.answer, samples) for draft, samples in rows])
        for compare in COMPARED
    }


def by_agreement(name: str, drafted: Sequence[Draft]) -> dict[str, Any]:
    """By words over all items; by number over those whose answer is one."""
    found, p = agreeing(name, drafted)
    right = np.array([float(draft.right) for draft in found])
    numbers = np.array([draft.item.grade == "number" for draft in found])
    return {
        "agree:text": scored(right, p["text"]),
        "agree:number": scored(right[numbers], p["number"][numbers]),
    }


def features(drafted: Sequence[Draft], agreed: dict[str, Array]) -> Array:
    """A row a draft: the log-odds of its confidence, and how far samples agree in their words, and in their number
    where the answer has one."""
    calibrator = Calibrator.model_validate_json(STOCK_CALIBRATOR.read_bytes())
    confidence = np.array([confidence_of(calibrator)(draft.draft) for draft in drafted])
    odds = np.log(confidence / (1.0 - confidence))
    numbers = np.array([last_number(draft.answer) is not None for draft in drafted])
    return np.column_stack([odds, agreed["text"], np.where(numbers, agreed["number"], agreed["text"])])


def combined(train: Sequence[Draft], held: Sequence[Draft]) -> dict[str, Any]:
    """Confidence and agreement, fitted on training items, on held-out ones: together, and each alone."""
    taught, agreed = agreeing("small.train", train)
    tested, tested_agreed = agreeing("small.held_out", held)
    x, y = features(taught, agreed), np.array([int(draft.right) for draft in taught])
    groups = np.array([draft.item.template for draft in taught])
    rows = Rows(x, y, groups, np.ones(len(y)))
    center, scale = scaling(rows)
    fitted = model(rows.scaled(center, scale))
    x_tested = features(tested, tested_agreed)
    right = np.array([float(draft.right) for draft in tested])
    both = fitted.predict_proba((x_tested - center) / scale)[:, 1]
    alone = 1.0 / (1.0 + np.exp(-x_tested[:, 0]))
    numbers = np.array([draft.item.grade == "number" for draft in tested])
    return {
        "trained_on": len(taught),
        "confidence": scored(right, alone),
        "confidence_in_numbers": scored(right[numbers], alone[numbers]),
        "confidence_and_agreement": scored(right, both),
        "gain": gained(right, both, alone),
    }


def gained(right: Array, both: Array, alone: Array) -> list[float]:
    """What the combination adds to the AUROC: paired percentile bootstrap over items."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(right), len(right)) for _ in range(1000)]
    gains = [auroc(right[draw], both[draw]) - auroc(right[draw], alone[draw]) for draw in draws]
    low, high = np.nanpercentile(gains, (2.5, 97.5))
    value = auroc(right, both) - auroc(right, alone)
    return [round(float(v), 4) for v in (value, low, high)]


def document(train: Sequence[Draft], held: Sequence[Draft]) -> dict[str, Any]:
    """Of what has been asked so far."""
    found: dict[str, Any] = {
        "samples": SAMPLES,
        SMALL: by_tokens("small.held_out", held[:JUDGED]) | by_agreement("small.held_out", held),
        LARGE: by_tokens("large.held_out", held[:BY_LARGE]),
    }
    found["combined"] = combined(train, held)
    return found


def shipped(found: dict[str, Any]) -> list[Measured]:
    """What of it the gateway tells of its own evaluators."""
    return [
        Measured(
            evaluator=NAMES.get(kind, kind),
            made_for=Source(model=name, engine="llamacpp"),
            data="the starter set's held-out items, drafted by smollm2-135m-instruct",
            answers=scores["answers"],
            auroc=tuple(scores["auroc"]),
        )
        for name in (SMALL, LARGE)
        for kind, scores in found.get(name, {}).items()
    ]


NAMES = {"rate": "rate:correctness"}


def main() -> None:
    if "--fresh" in sys.argv:
        shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    held = drafts("drafts.held_out", held_out(HELD_OUT))
    train = drafts("drafts.train", train_items(TRAIN))
    asyncio.run(judge_all(SMALL, "small.held_out", held, 4, tokens=False))
    asyncio.run(judge_all(SMALL, "small.held_out", held[:JUDGED], 4, agree=False))
    asyncio.run(judge_all(str(large_weights()), "large.held_out", held[:BY_LARGE], 1, agree=False))
    asyncio.run(judge_all(SMALL, "small.train", train[:TAUGHT], 4, tokens=False))
    found = document(train, held)
    print(json.dumps(found, indent=1))
    print(results.write("evaluators", found))
    rows = [one.model_dump(mode="json") for one in shipped(found)]
    PATH.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
