"""Remakes the calibrators that ship, and measures them: `python -m benchmarks.calibrators [--only NAME ...]`.

Each is trained on a record set of the starter set's drafts. `--sets` names the folder that holds the sets, each under
its calibrator's name; by default it is in the user's cache folder. A set that is not there, or not whole, is collected:
some minutes for the small model, an hour and more for the 1.5B. `--as-is` takes the sets as they are. The generic
calibrator is trained on all of them.
"""

import argparse
import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs

from benchmarks import pair, results
from benchmarks.large import path as large_weights
from benchmarks.vllm import environment as vllm
from gateway.cli.records.calibration import MAX_TOKENS, QUICK_ITEMS
from gateway.cli.records.collect import collect_drafts
from gateway.cli.records.drafting import find_source
from gateway.settings import LocalEngine, Settings
from policies.loading.trained_files import SHIPPED_CALIBRATORS
from policies.tuning.acceptance import count_accepted, list_builtin_thresholds
from policies.tuning.calibrate import build_confidence_predictor, fit_calibrator
from policies.tuning.collection.graded_drafts import GradedDraft, Predictor, read_graded
from policies.tuning.collection.grades import OLD_GRADES_FILE
from policies.tuning.collection.sample import stratify
from policies.tuning.generic import ModelDrafts, train_generic
from policies.tuning.report import HeldOut, auroc, calibration_error, predict_held_out, summarise
from policies.tuning.starter_set import load_items
from policies.tuning.training import fit_calibrator_and_predictor, hash_records, train_on
from routers.confidence.calibration import Calibrator, Fingerprint, LogprobSource, TrainingSet

FOLDER = Path(platformdirs.user_cache_dir("smallfirst")) / "calibrators"
GENERIC, SAMPLES = "generic", "samples"
SAMPLED = "smollm2-135m-instruct.vllm"
"""The set of which smaller samples and shorter drafts are tried."""
TRIED = ((QUICK_ITEMS, MAX_TOKENS), (1200, MAX_TOKENS), (1200, pair.MAX_TOKENS))
"""Items in the order of `calibrate`, and the longest draft."""


class Stock(NamedTuple):
    """A calibrator that ships: the name of its model, and the engine whose drafts it learns from."""

    model: str
    build_engine: Callable[[], LocalEngine]
    aliases: tuple[str, ...] = ()
    has_own_weights: bool = True
    """Whether users have the very files that were drafted with. If not, the digest of the weights is not compared."""


def build_vllm() -> LocalEngine:
    return LocalEngine(
        engine="vllm",
        model=str(vllm.models() / "smollm2"),
        python=vllm.python(),
        arguments={"dtype": "float32", "enforce-eager": True},
        environment={"VLLM_CPU_KVCACHE_SPACE": "1"},
        slots=8,
    )


STOCK = {
    "smollm2-135m-instruct.llamacpp": Stock(LocalEngine().model, LocalEngine),
    # vLLM reads the default weights in its own format here, which nobody else has.
    "smollm2-135m-instruct.vllm": Stock(LocalEngine().model, build_vllm, ("smollm2",), False),
    "qwen2.5-coder-1.5b-instruct.llamacpp": Stock(
        "qwen2.5-coder-1.5b-instruct",
        lambda: LocalEngine(model=str(large_weights())),
        ("qwen2.5-coder-1.5b-instruct.Q4_K_M",),
    ),
}


NAMES = [*STOCK, SAMPLES, GENERIC]


def build_source(stock: Stock) -> LogprobSource:
    """The source that the calibrator is made for."""
    found = find_source(Settings(local=stock.build_engine()))
    known = found.fingerprint
    if known is not None and not stock.has_own_weights:
        known = Fingerprint(chat_template=known.chat_template, parameters=known.parameters)
    return LogprobSource(model=stock.model, engine=found.engine, aliases=stock.aliases, fingerprint=known)


def collect_set(name: str, folder: Path) -> None:
    """Collect the record set of a calibrator, or what is missing of it."""
    if (folder / OLD_GRADES_FILE).exists():  # whole, and without a manifest
        return
    settings = Settings(local=STOCK[name].build_engine())
    asyncio.run(collect_drafts(settings, folder, load_items(), pair.MAX_TOKENS, resume=folder.exists()))


def train_stock(name: str, folder: Path) -> tuple[Calibrator, HeldOut]:
    drafts = [draft for draft in read_graded(folder) if not draft.renormalised]
    return train_on(drafts, folder, build_source(STOCK[name]), fit_calibrator_and_predictor)


def measure(held_out: HeldOut) -> dict[str, Any]:
    """What the calibrator is worth, and what the built-in thresholds accept by calibrators trained without the
    draft's kind."""
    assert held_out.unseen is not None
    accepted = {
        name: count_accepted(held_out.right, held_out.unseen, threshold)
        for name, threshold in list_builtin_thresholds().items()
    }
    counts = {
        name: {"threshold": one.threshold, "accepted": one.accepted, "right": one.right, "drafts": one.drafts}
        for name, one in accepted.items()
    }
    return {**summarise(held_out), "accepted": counts}


def train_pooled(sets: dict[str, list[GradedDraft]], folder: Path) -> tuple[Calibrator, dict[str, Any]]:
    digest = hashlib.sha256("".join(hash_records(folder / name) for name in sorted(sets)).encode())
    trained_on = TrainingSet(
        records=", ".join(sorted(sets)),
        sha256=digest.hexdigest(),
        drafts=sum(map(len, sets.values())),
        date=time.strftime("%Y-%m-%d"),
    )
    of_models = [ModelDrafts(STOCK[name].model, drafts) for name, drafts in sets.items()]
    trained = train_generic(of_models, trained_on, LogprobSource(model="any", engine="any"))
    return trained.calibrator, trained.measurements


def measure_samples(folder: Path) -> dict[str, Any]:
    """What calibrators are worth that learn from fewer items, or from drafts that are cut shorter. All are measured on
    the same held-out drafts of kinds that they did not learn from, as long as the model wrote them."""
    by_item = {draft.grade.item: draft for draft in read_graded(folder)}
    order = [by_item[item.id] for item in stratify(load_items()) if item.id in by_item]
    held_out = [draft for draft in order if draft.grade.split == "held_out"]
    measured = {}
    for items, longest in TRIED:
        train = [cut(draft, longest) for draft in order[:items] if draft.grade.split == "train"]
        predicted = predict_held_out([*train, *held_out], lambda draft: 0.5, learn)
        assert predicted.unseen is not None
        figures = {
            "auroc": auroc(predicted.right, predicted.unseen),
            "calibration_error": calibration_error(predicted.right, predicted.unseen),
            "brier": float(np.mean((predicted.right - predicted.unseen) ** 2)),
        }
        measured[f"{items}_items_{longest}_tokens"] = {
            name: round(value, 4) for name, value in figures.items()
        }
    return measured


def cut(draft: GradedDraft, longest: int) -> GradedDraft:
    """The draft as a limit on its tokens would have left it; its grade stays."""
    if len(draft.tokens) <= longest:
        return draft
    return replace(draft, tokens=draft.tokens[:longest], finish="length")


def learn(drafts: Sequence[GradedDraft]) -> Predictor:
    source = LogprobSource(model="sampled", engine="vllm")
    trained_on = TrainingSet(records="sampled", sha256="", drafts=len(drafts), date="")
    return build_confidence_predictor(fit_calibrator(drafts, source, trained_on))


def write(name: str, calibrator: Calibrator) -> None:
    path = SHIPPED_CALIBRATORS / f"{name}.json"
    path.write_text(calibrator.model_dump_json(indent=1) + "\n", encoding="utf-8")
    print(path)


def remake(names: Sequence[str], folder: Path, *, as_is: bool) -> dict[str, Any]:
    """Write the named calibrators, and return what they are worth."""
    measured: dict[str, Any] = {}
    for name in [name for name in STOCK if name in names]:
        if not as_is:
            collect_set(name, folder / name)
        calibrator, held_out = train_stock(name, folder / name)
        write(name, calibrator)
        measured[name] = measure(held_out)
    if SAMPLES in names:
        measured[SAMPLES] = measure_samples(folder / SAMPLED)
        print(json.dumps(measured[SAMPLES], indent=1))
    if GENERIC in names:
        sets = {name: read_graded(folder / name) for name in STOCK if (folder / name).exists()}
        calibrator, measured[GENERIC] = train_pooled(sets, folder)
        write(GENERIC, calibrator)
        print(json.dumps(measured[GENERIC], indent=1))
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--sets", type=Path, default=FOLDER)
    parser.add_argument("--as-is", action="store_true", help="train on the sets as they are, whole or not")
    args = parser.parse_args()
    if any(name.endswith(".vllm") for name in args.only) and not args.as_is and (why := vllm.lacking()):
        sys.exit(f"without vLLM: {why}")
    found = remake(args.only, args.sets, as_is=args.as_is)
    path = results.FOLDER / "calibrators.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    print(results.write("calibrators", {**earlier, **found} | {"made_by": results.made_by()}))


if __name__ == "__main__":
    main()
