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
from gateway.wire.prompt_text import measured_again
from policies.records.lines import RecordError
from policies.tuning.graded_drafts import GradedDraft, Judge, read_graded
from routers.confidence.calibration import Source, Training


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
        from policies.tuning.report import as_table, measured
    except ImportError:
        fail("tuning needs scikit-learn: pip install 'smallfirst[tune]'", 1)
    made_for = Source(model=model, engine=engine, mode="constrained" if constrained else "free")
    learn = _scorer if difficulty else _calibrator
    try:
        graded = read_graded(records, measured_again, read_with_warning)
        drafts = [draft for draft in graded if draft.renormalised == constrained]
        train = [draft for draft in drafts if draft.grade.split == "train"]
        trained_on = Training(
            records=records.name, sha256=_sha256(records), drafts=len(train), date=time.strftime("%Y-%m-%d")
        )
        trained, _ = learn(train, made_for, trained_on)
        found = measured(drafts, lambda some: learn(some, made_for, trained_on)[1])
    except (RecordError, ValueError) as error:
        fail(error)
    made.write_text(trained.model_dump_json(indent=1) + "\n", encoding="utf-8")
    err.print(f"{made}: trained on {len(train)} drafts", markup=False)
    out.print(as_table(found), markup=False)
    if report is not None:
        report.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _calibrator(
    drafts: Sequence[GradedDraft], made_for: Source, trained_on: Training
) -> tuple[BaseModel, Judge]:
    from policies.tuning.calibrate import confidence_of, fit

    calibrator = fit(drafts, made_for, trained_on)
    return calibrator, confidence_of(calibrator)


def _scorer(drafts: Sequence[GradedDraft], made_for: Source, trained_on: Training) -> tuple[BaseModel, Judge]:
    from policies.tuning.difficulty import fit, score_of

    scorer = fit(drafts, made_for, trained_on)
    return scorer, score_of(scorer)


def _sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
