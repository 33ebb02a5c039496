"""Do judged passages help? `python -m benchmarks.relevance`

Questions on invented things, each with the passages that answer it and with distractors of the same kind, on the same
things where they could be found; one is of another kind altogether. All of `passages.jsonl` was written for this
benchmark: no model can know it, and nothing was copied. The small model and the 1.5B model judge each passage through a
gateway, as a policy's `filter` has them do; how often gold stands over a distractor is compared with counting common
words (BM25). Then both answer from all passages, from those that the small model leaves, and from the gold ones alone.
"""

import argparse
import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from math import log
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import openai

from benchmarks import results
from benchmarks.large import path as large_weights
from gateway.cli.loopback_gateway import RunningGateway, run_gateway
from gateway.local.weights.package_index import DEFAULT_WEIGHTS
from gateway.settings import LocalEngine, Settings
from policies.schema.policy import Policy
from policies.tuning.report import auroc
from routers.fragments.passage_filter import Measure, PassageFilter, center_log_odds
from routers.strategies.direct import Direct

NAME = "relevance"
ITEMS = Path(__file__).with_name("passages.jsonl")
RESAMPLES = 2000
SEED = 20261126
MAX_TOKENS = 24
ASKED = "{question} Answer in a few words."
ALONE = Direct(tier="slm", fallback=False)
JUDGED = {
    by: Policy(
        name=by,
        description="Judges every passage, and shows them all as given.",
        router=ALONE,
        filter=PassageFilter(by=by, bar=0.0, calibrated=False, order="given"),
    )
    for by in get_args(Measure)
}
SHOWN = Policy(name="shown", description="Shows what it is given.", router=ALONE)


class Item(NamedTuple):
    """`gold` are the places of the passages that answer it; an answer that has one of `answers` in it is right. The
    passages support what `grounded` says, and not what `ungrounded` does."""

    id: str
    question: str
    answers: list[str]
    passages: list[str]
    gold: list[int]
    grounded: str
    ungrounded: str

    @property
    def labels(self) -> list[float]:
        return [float(place in self.gold) for place in range(len(self.passages))]


class Said(NamedTuple):
    """Of one item: what the judge said of each passage, and how long that took, in seconds."""

    p: list[float]
    seconds: float


def items() -> list[Item]:
    return [Item(**json.loads(line)) for line in ITEMS.read_text(encoding="utf-8").splitlines()]


def is_right(item: Item, reply: str) -> bool:
    return any(re.search(rf"\b{re.escape(one)}", reply, re.IGNORECASE) for one in item.answers)


class Model:
    """One, behind a gateway of its own."""

    def __init__(self, served: RunningGateway, client: openai.AsyncOpenAI) -> None:
        self._served = served
        self._client = client

    async def judged(self, item: Item, by: Measure) -> Said:
        found, _ = await self._asked(JUDGED[by], item, item.passages, max_tokens=1)
        judgements = [call for call in found["calls"] if call["because"] == "relevance"]
        assert found["skills"]["filter"]["by"] == by
        return Said(found["skills"]["filter"]["p"], sum(call["seconds"] for call in judgements))

    async def right(self, item: Item, places: Sequence[int]) -> bool:
        """Whether its answer from the passages at these places is."""
        _, reply = await self._asked(SHOWN, item, [item.passages[place] for place in places])
        return is_right(item, reply)

    async def _asked(
        self, policy: Policy, item: Item, passages: Sequence[str], max_tokens: int = MAX_TOKENS
    ) -> tuple[dict[str, Any], str]:
        answer = await self._client.chat.completions.with_raw_response.create(
            model=policy.name,
            messages=[{"role": "user", "content": ASKED.format(question=item.question)}],
            temperature=0,
            max_tokens=max_tokens,
            extra_body={"smallfirst": {"context": list(passages)}},
        )
        reply = answer.parse().choices[0].message.content or ""
        exchange = await self._client.get(
            f"/exchanges/{answer.headers['x-smallfirst-id']}", cast_to=dict[str, Any]
        )
        return exchange, reply


def bm25(question: str, passages: Sequence[str], k: float = 1.5, b: float = 0.75) -> list[float]:
    """Of each passage (Robertson and Zaragoza, 2009), its statistics those of the request's passages."""
    texts = [_words(passage) for passage in passages]
    mean = sum(map(len, texts)) / len(texts)
    scores = []
    for text in texts:
        score = 0.0
        for word in set(_words(question)):
            found = sum(word in other for other in texts)
            count = text.count(word)
            weight = log(1 + (len(texts) - found + 0.5) / (found + 0.5))
            score += weight * count * (k + 1) / (count + k * (1 - b + b * len(text) / mean))
        scores.append(score)
    return scores


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def ranked(asked: Sequence[Item], scores: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """AUROC over all passages together, and the mean of each question's own; intervals over questions."""
    each = [auroc(np.array(item.labels), np.array(one)) for item, one in zip(asked, scores, strict=True)]

    def together(drawn: Sequence[int]) -> float:
        labels = [label for at in drawn for label in asked[at].labels]
        return auroc(np.array(labels), np.array([score for at in drawn for score in scores[at]]))

    draws = _draws(len(asked))
    return {
        "all": _interval(together(range(len(asked))), [together(drawn) for drawn in draws]),
        "within": _interval(
            float(np.mean(each)), [float(np.mean([each[at] for at in drawn])) for drawn in draws]
        ),
    }


def gain(asked: Sequence[Item], scores: Sequence[Sequence[float]]) -> list[float]:
    """The mean AUROC within a question over that of common words; its interval is of the paired differences."""
    pairs = [(scores[at], bm25(item.question, item.passages)) for at, item in enumerate(asked)]
    each = [
        auroc(labels, np.array(one)) - auroc(labels, np.array(words))
        for labels, (one, words) in zip([np.array(item.labels) for item in asked], pairs, strict=True)
    ]
    draws = _draws(len(asked))
    return _interval(float(np.mean(each)), [float(np.mean([each[at] for at in drawn])) for drawn in draws])


def accuracy(right: Sequence[bool]) -> list[float]:
    draws = _draws(len(right))
    return _interval(float(np.mean(right)), [float(np.mean([right[at] for at in drawn])) for drawn in draws])


def _draws(count: int) -> list[list[int]]:
    rng = np.random.default_rng(SEED)
    return [[int(at) for at in rng.integers(0, count, count)] for _ in range(RESAMPLES)]


def _interval(value: float, draws: Sequence[float]) -> list[float]:
    low, high = np.percentile(draws, (2.5, 97.5))
    return [round(float(one), 4) for one in (value, low, high)]


def left(asked: Sequence[Item], kept: Sequence[Sequence[int]]) -> dict[str, float]:
    """What a filter leaves: of the gold passages, of the distractors, of all words of the passages."""
    gold = [len(set(item.gold) & set(places)) for item, places in zip(asked, kept, strict=True)]
    words = [len(_words(text)) for item in asked for text in item.passages]
    shown = [
        len(_words(item.passages[place]))
        for item, places in zip(asked, kept, strict=True)
        for place in places
    ]
    golds, others = sum(len(item.gold) for item in asked), sum(len(item.passages) for item in asked)
    return {
        "gold": round(sum(gold) / golds, 4),
        "distractors": round((sum(map(len, kept)) - sum(gold)) / (others - golds), 4),
        "words": round(sum(shown) / sum(words), 4),
    }


@asynccontextmanager
async def running(model: str) -> AsyncIterator[Model]:
    local = LocalEngine(model=model, slots=1, threads=1)
    async with (
        run_gateway(Settings(local=local), [*JUDGED.values(), SHOWN]) as served,
        openai.AsyncOpenAI(base_url=served.url, api_key="none", timeout=600) as client,
    ):
        yield Model(served, client)


async def judgements(model: Model, asked: Sequence[Item], by: Measure) -> dict[str, Any]:
    said = [await model.judged(item, by) for item in asked]
    p = [one.p for one in said]
    return {
        "questions": len(asked),
        "passages": sum(map(len, p)),
        "auroc": ranked(asked, [center_log_odds(one) for one in p]),
        "auroc_uncalibrated": ranked(asked, p),
        "mean": _means(asked, p),
        "seconds_a_passage": round(sum(one.seconds for one in said) / sum(map(len, p)), 3),
        "left": left(asked, [PassageFilter().select(one) for one in p]),
        "p": {item.id: one for item, one in zip(asked, p, strict=True)},
    }


async def answers(model: Model, asked: Sequence[Item], shown: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """From the passages that are shown of each item."""
    right = [await model.right(item, shown[item.id]) for item in asked]
    return {"questions": len(asked), "right": accuracy(right)}


def _means(asked: Sequence[Item], p: Sequence[Sequence[float]]) -> dict[str, float]:
    """What the judge says, on average, of either sort of passage."""
    labels = np.array([label for item in asked for label in item.labels])
    said = np.array([one for each in p for one in each])
    return {
        "gold": round(float(said[labels == 1.0].mean()), 4),
        "distractors": round(float(said[labels == 0.0].mean()), 4),
    }


def by_words(asked: Sequence[Item]) -> dict[str, Any]:
    """The free baseline; it keeps the better half."""
    scores = [np.array(bm25(item.question, item.passages)) for item in asked]
    kept = [[int(at) for at in np.argsort(-one, kind="stable")[: round(len(one) / 2)]] for one in scores]
    auroc = ranked(asked, [[*one] for one in scores])
    return {"questions": len(asked), "auroc": auroc, "left": left(asked, kept)}


def filtered_by(asked: Sequence[Item], p: Mapping[str, Sequence[float]]) -> dict[str, Sequence[int]]:
    return {item.id: PassageFilter().select(p[item.id]) for item in asked}


class Results:
    """What was measured at this commit so far, which is not measured again."""

    def __init__(self, anew: bool) -> None:
        path = results.FOLDER / f"{NAME}.json"
        known: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() and not anew else {}
        made_by = known.pop("made_by", None)
        same = made_by is not None and made_by["commit"] == results.made_by()["commit"]
        self.found = known if same else {}

    def __contains__(self, key: str) -> bool:
        return key in self.found

    def add(self, key: str, found: dict[str, Any]) -> None:
        self.found[key] = found
        print(key, json.dumps({**found, "p": None}), flush=True)
        results.write(NAME, self.found)


async def measure(done: Results, every: int) -> None:
    """`every`: the 1.5B model is asked only so many of the questions."""
    asked = items()
    fewer = asked[::every]
    done.add("words", by_words(asked))
    gold = {item.id: item.gold for item in asked}
    everything = {item.id: range(len(item.passages)) for item in asked}
    async with running(DEFAULT_WEIGHTS.name) as small:
        for by in get_args(Measure):
            if (key := f"small_{by}") not in done:
                done.add(key, await judgements(small, asked, by))
        filtered = filtered_by(asked, done.found["small_likelihood"]["p"])
        for name, shown in (("all", everything), ("filtered", filtered), ("gold", gold)):
            if (key := f"small_answers_{name}") not in done:
                done.add(key, await answers(small, asked, shown))
        if (key := "small_answers_filtered_by_verdict") not in done:
            by_verdict = filtered_by(asked, done.found["small_verdict"]["p"])
            done.add(key, await answers(small, asked, by_verdict))
    p = done.found["small_likelihood"]["p"]
    done.add("likelihood_over_words", {"gain": gain(asked, [p[item.id] for item in asked])})
    async with running(str(large_weights())) as large:
        for name, shown in (("all", everything), ("filtered", filtered), ("gold", gold)):
            if (key := f"large_answers_{name}") not in done:
                done.add(key, await answers(large, fewer, shown))
        if "large_verdict" not in done:
            done.add("large_verdict", await judgements(large, fewer, "verdict"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--anew", action="store_true", help="measure also what was measured at this commit")
    parser.add_argument(
        "--large-every", type=int, default=2, help="ask the 1.5B model so many of the questions"
    )
    args = parser.parse_args()
    asyncio.run(measure(Results(args.anew), args.large_every))


if __name__ == "__main__":
    main()
