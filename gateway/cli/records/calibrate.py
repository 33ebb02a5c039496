"""smallfirst calibrate: makes the calibrator of a small model, and says what it is worth."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.fetching import fetch_model
from gateway.cli.output import INTERRUPTED, ConfigOption, err, fail, out, warn
from gateway.local.supervision.supervisor import EngineFailed
from gateway.settings import Settings, default_config_path, load_settings
from policies.loading.yaml_files import ConfigError


def calibrate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[REF]",
            help="The small model, as for `smallfirst serve --slm`, which is fetched if absent. Default: the"
            " configured one.",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Draft a sample, for at most eight minutes. Without it, all items."),
    ] = False,
    items: Annotated[Path | None, typer.Option(help="Graded items; default: the starter set.")] = None,
    min_right: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Share of the accepted drafts that the suggested `accept` wants right."
        ),
    ] = 0.9,
    config: ConfigOption = None,
) -> None:
    """Make the calibrator of a small model: draft a graded set, train on it, and say what the result is worth.

    A run that was interrupted goes on where it stopped."""
    try:
        settings = fetch_model(load_settings(config or default_config_path(), model))
    except ConfigError as error:
        fail(error)
    calibrate_model(settings, items=items, quick=quick, min_right=min_right)


def calibrate_if_needed(settings: Settings, *, quick: bool) -> None:
    """Calibrate the configured small model, unless `smallfirst calibrate` did it before. Ends the command as
    `calibrate_model` does."""
    from gateway.catalog.calibrators import Calibrators  # imported here, since it loads the whole gateway

    from .drafting import find_source

    try:
        path = Calibrators().path_for(find_source(settings))
    except ConfigError as error:
        fail(error)
    if path.exists():
        err.print(f"calibrated already: {path}; `smallfirst calibrate` makes it anew", markup=False)
    else:
        calibrate_model(settings, quick=quick)


def calibrate_model(
    settings: Settings, *, items: Path | None = None, quick: bool = False, min_right: float = 0.9
) -> None:
    """Calibrate the configured small model. Ends the command with a message if that fails or is interrupted."""
    from .calibration import Calibration, CollectionFailed  # imported here, since it loads the whole gateway
    from .worth import describe_worth  # likewise scikit-learn

    try:
        calibration = Calibration.prepare(settings, items, quick=quick)
        err.print(calibration.describe(), markup=False)
        result = calibration.run()
    except (ConfigError, ValueError, OSError) as error:
        fail(error)
    except (EngineFailed, CollectionFailed) as error:
        fail(f"{error}; what is done stays: the same command goes on with it", 1)
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on where it stopped", INTERRUPTED)
    for warning in result.warnings:
        warn(warning)
    right = sum(draft.grade.right for draft in result.drafts) / len(result.drafts)
    out.print(f"{len(result.drafts)} drafts, {right:.1%} right", markup=False)
    for line in describe_worth(result.held_out, min_right):
        out.print(line, markup=False)
    out.print(f"calibrator: {result.path}", markup=False)
