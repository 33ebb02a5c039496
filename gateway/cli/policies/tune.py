"""smallfirst tune: trains a calibrator or a scorer of prompts from graded records, and measures it."""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from gateway.cli.output import err, fail, out
from gateway.cli.records.reading import read_with_warning
from gateway.wire.prompt_text import extract_recorded_features
from policies.records.schema import RecordError
from policies.tuning.graded_drafts import GradedDraft, Predictor, read_graded
from routers.confidence.calibration import LogprobSource, TrainingSet


def tune(
    records: Annotated[Path, typer.Argument(help="A folder that `smallfirst collect` wrote.")],
    made: Annotated[Path, typer.Option("--out", help="The JSON file of what is trained.")],
    model: Annotated[
        str, typer.Option(help="The small model that wrote the drafts.")
    ] = "smollm2-135m-instruct",
    engine: Annotated[str, typer.Option(help="The engine it ran on.")] = "llamacpp",
    difficulty: Annotated[
        bool,
        typer.Option(
            "--difficulty", help="Train a scorer of prompts instead, for a gate; needs the records' content."
        ),
    ] = False,
    constrained: Annotated[
        bool,
        typer.Option(
            "--constrained",
            help="From drafts under a constraint, by an engine that renormalises; else from all others.",
        ),
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Where the measurements go, as JSON.")] = None,
) -> None:
    """Train a calibrator on a record set's training split, and measure it on the held-out split."""
    try:
        from policies.tuning.report import measure_held_out, to_table
    except ImportError:
        fail("tuning needs scikit-learn: pip install 'smallfirst[tune]'", 1)
    made_for = LogprobSource(model=model, engine=engine, mode="constrained" if constrained else "free")
    learn = _train_scorer if difficulty else _train_calibrator
    try:
        graded = read_graded(records, extract_recorded_features, read_with_warning)
        drafts = [draft for draft in graded if draft.renormalised == constrained]
        train = [draft for draft in drafts if draft.grade.split == "train"]
        trained_on = TrainingSet(
            records=records.name,
            sha256=_hash_records(records),
            drafts=len(train),
            date=time.strftime("%Y-%m-%d"),
        )
        trained, _ = learn(train, made_for, trained_on)
        measurements = measure_held_out(drafts, lambda some: learn(some, made_for, trained_on)[1])
    except (RecordError, ValueError) as error:
        fail(error)
    made.write_text(trained.model_dump_json(indent=1) + "\n", encoding="utf-8")
    err.print(f"{made}: trained on {len(train)} drafts", markup=False)
    out.print(to_table(measurements), markup=False)
    if report is not None:
        report.write_text(json.dumps(measurements, indent=1) + "\n", encoding="utf-8")


def _train_calibrator(
    drafts: Sequence[GradedDraft], made_for: LogprobSource, trained_on: TrainingSet
) -> tuple[BaseModel, Predictor]:
    from policies.tuning.calibrate import build_confidence_predictor, fit_calibrator

    calibrator = fit_calibrator(drafts, made_for, trained_on)
    return calibrator, build_confidence_predictor(calibrator)


def _train_scorer(
    drafts: Sequence[GradedDraft], made_for: LogprobSource, trained_on: TrainingSet
) -> tuple[BaseModel, Predictor]:
    from policies.tuning.difficulty import build_difficulty_predictor, fit_scorer

    scorer = fit_scorer(drafts, made_for, trained_on)
    return scorer, build_difficulty_predictor(scorer)


def _hash_records(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
