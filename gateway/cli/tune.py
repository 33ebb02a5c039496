"""smallfirst tune: a calibrator from graded records, and what it is worth."""

import hashlib
import json
import time
from pathlib import Path
from typing import Annotated

import typer

from policies.tuning.graded import read_graded
from policies.tuning.records import RecordError
from routers.calibration import Source, Training

from .console import err, fail, out


def tune(
    records: Annotated[Path, typer.Argument(help="A folder that `smallfirst collect` wrote.")],
    calibrator: Annotated[Path, typer.Option("--out", help="The calibrator's JSON file.")],
    model: Annotated[
        str, typer.Option(help="The small model that wrote the drafts.")
    ] = "smollm2-135m-instruct",
    engine: Annotated[str, typer.Option(help="The engine it ran on.")] = "llamacpp",
    report: Annotated[Path | None, typer.Option(help="Where the measurements go, as JSON.")] = None,
) -> None:
    """Train a calibrator on a record set's training split, and measure it on the held-out split."""
    try:
        from policies.tuning.calibrate import fit
        from policies.tuning.report import as_table, measured
    except ImportError:
        fail("tuning needs scikit-learn: pip install 'smallfirst[tune]'", 1)
    try:
        drafts = read_graded(records)
        train = [draft for draft in drafts if draft.grade.split == "train"]
        trained_on = Training(
            records=records.name, sha256=_sha256(records), drafts=len(train), date=time.strftime("%Y-%m-%d")
        )
        made = fit(train, Source(model=model, engine=engine), trained_on)
        found = measured(drafts, made.made_for, trained_on)
    except (RecordError, ValueError) as error:
        fail(error)
    calibrator.write_text(made.model_dump_json(indent=1) + "\n", encoding="utf-8")
    err.print(f"{calibrator}: trained on {len(train)} drafts", markup=False)
    out.print(as_table(found), markup=False)
    if report is not None:
        report.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
