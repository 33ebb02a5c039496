"""smallfirst tune: trains a calibrator or a scorer of prompts from graded records, and measures it."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import err, fail, out
from gateway.wire.prompt_text import extract_recorded_features
from policies.records.schema import RecordError
from routers.confidence.calibration import LogprobSource

from .reading import read_with_warning


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
        from policies.tuning import report as tables
        from policies.tuning import training
    except ImportError:
        fail("tuning needs scikit-learn: pip install 'smallfirst[tune]'", 1)
    made_for = LogprobSource(model=model, engine=engine, mode="constrained" if constrained else "free")
    fit = training.fit_scorer_and_predictor if difficulty else training.fit_calibrator_and_predictor
    try:
        trained = training.train(records, made_for, fit, extract_recorded_features, read_with_warning)
    except (RecordError, ValueError) as error:
        fail(error)
    trained.write_model(made)
    err.print(f"{made}: trained on {trained.model.trained_on.drafts} drafts", markup=False)
    out.print(tables.to_table(trained.measurements), markup=False)
    if report is not None:
        trained.write_report(report)
