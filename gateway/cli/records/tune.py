"""smallfirst tune: trains a calibrator or a scorer of prompts from graded records, and measures it."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import err, fail, out, warn
from gateway.wire.prompt_text import extract_recorded_features
from policies.records.reader import LeftOut
from policies.records.schema import RecordError

from .reading import read_with_warning


def tune(
    records: Annotated[Path, typer.Argument(help="A folder that `smallfirst collect` wrote.")],
    made: Annotated[Path, typer.Option("--out", help="The JSON file of what is trained.")],
    model: Annotated[
        str | None, typer.Option(help="The small model that wrote the drafts. Default: as the records say.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="The engine it ran on. Default: as the set's manifest says; sets without one need it."
        ),
    ] = None,
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
    from policies.tuning import report as tables  # imported here, since scikit-learn loads slowly
    from policies.tuning import training
    from policies.tuning.collection.source import find_source

    fit = training.fit_scorer_and_predictor if difficulty else training.fit_calibrator_and_predictor
    left_out = LeftOut()
    try:
        source = find_source(records, model, engine)
        made_for = source.model_copy(update={"mode": "constrained" if constrained else "free"})
        trained = training.train(
            records, made_for, fit, extract_recorded_features, read_with_warning, left_out
        )
    except (RecordError, ValueError) as error:
        fail(error)
    if text := str(left_out):
        warn(text)
    trained.write_model(made)
    err.print(
        f"{made}: made for {made_for}, trained on {trained.model.trained_on.drafts} drafts", markup=False
    )
    out.print(tables.to_table(trained.measurements), markup=False)
    if report is not None:
        trained.write_report(report)
