"""`python -m benchmarks.evaluators`: both models judge labelled answers by every evaluator that asks a model.

On training items the small model's agreement with itself is fitted together with its calibrated confidence, to see
whether both tell more than the confidence alone. `--fresh` asks everything anew.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence

from benchmarks import results
from benchmarks.evaluators import asking
from benchmarks.evaluators.combined import combined
from benchmarks.evaluators.kept import Kept
from benchmarks.evaluators.labelled import FOLDER, Answered, Draft, by_rubric, drafts, train_items
from benchmarks.evaluators.report import Scores, told
from benchmarks.large import path as large_weights
from benchmarks.pair import ALL, held_out
from gateway.cli.loopback_gateway import run_gateway
from gateway.settings import LocalEngine, Settings
from policies.loading.evaluator_results import RESULTS_PATH, EvaluatorResult
from policies.loading.rubric_files import load_rubrics
from routers.confidence.calibration import LogprobSource
from routers.judges.evaluators import Rating, Verification

TRAIN, TAUGHT = 240, 120
"""Training drafts that are made, and that are sampled anew."""
AT_ONCE = 4
JUDGES = {
    "small": LocalEngine(model="smollm2-135m-instruct", slots=AT_ONCE),
    "large": LocalEngine(model=str(large_weights()), slots=AT_ONCE),
}
NAMES = {"small": "smollm2-135m-instruct", "large": large_weights().stem}
DRAFTED = "the starter set's held-out items, drafted by smollm2-135m-instruct"
WRITTEN = {
    "helpfulness": "helpful answers and answers of no use, written by hand",
    "refusal": "helpful answers and refusals, written by hand",
    "toxicity": "helpful answers and insulting ones, written by hand",
    "groundedness": "what seven passages say and what they do not, written by hand",
}


async def ask(judge: str, drafted: Sequence[Answered], taught: Sequence[Answered]) -> None:
    """What one model says of everything."""
    rubrics = load_rubrics()
    samples = Kept(judge, "samples")
    async with run_gateway(Settings(local=JUDGES[judge])) as served:
        upstream = served.app.pools["slm"].upstreams[0]

        async def asked(evaluator: str, answers: Sequence[Answered], how: asking.Ask) -> None:
            await asking.ask_all(upstream, Kept(judge, evaluator), answers, how, AT_ONCE)

        await asked("verify", drafted, asking.one_token(Verification()))
        for name, answers in by_rubric(drafted).items():
            await asked(f"rate:{name}", answers, asking.one_token(Rating(rubric=rubrics[name])))
        await asking.ask_all(upstream, samples, [*drafted, *taught], asking.sample, AT_ONCE)
        await asked("agree:entailment", drafted, asking.entailment(samples))


def shipped(found: dict[str, dict[str, Scores]]) -> list[EvaluatorResult]:
    """What of it the gateway tells of its own evaluators."""
    return [
        EvaluatorResult(
            evaluator=evaluator,
            made_for=LogprobSource(model=name, engine="llamacpp"),
            data=WRITTEN.get(evaluator.removeprefix("rate:"), DRAFTED),
            answers=scores["answers"],
            auroc=tuple(scores["auroc"]),
        )
        for name, evaluators in found.items()
        for evaluator, scores in evaluators.items()
    ]


def main() -> None:
    if "--fresh" in sys.argv:
        shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    held = drafts("drafts.held_out", held_out(ALL))
    train = drafts("drafts.train", train_items(TRAIN))[:TAUGHT]
    drafted, taught = answered(held), answered(train)
    asyncio.run(ask("small", drafted, taught))
    asyncio.run(ask("large", drafted, []))
    found = {name: told(judge, drafted) for judge, name in NAMES.items()}
    document = {"samples": asking.SAMPLES, "judges": found, "combined": combined(train, held)}
    print(json.dumps(document, indent=1))
    print(results.write("evaluators", document))
    rows = [one.model_dump(mode="json") for one in shipped(found)]
    RESULTS_PATH.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def answered(drafted: Sequence[Draft]) -> list[Answered]:
    return [draft.answered for draft in drafted]


if __name__ == "__main__":
    main()
