"""smallfirst collect: makes a graded record set with the configured small model."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from gateway.cli.output import INTERRUPTED, ConfigOption, err, fail, out, warn
from gateway.local.supervision.supervisor import EngineFailed
from gateway.settings import Settings, default_config_path, load_settings
from policies.loading.yaml_files import ConfigError
from policies.tuning.collection.grades import Grade
from policies.tuning.starter_set import Item, load_items


def collect(
    into: Annotated[Path, typer.Argument(help="A new folder for the records and their grades.")],
    items: Annotated[Path | None, typer.Option(help="Graded items; default: the starter set.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest draft.")] = 256,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a set that was interrupted: same model, items, length."),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Ask the small model every item of a graded set, and keep records and grades for `smallfirst tune`."""
    from .drafting import CollectionFailed  # imported here, since it loads the whole gateway

    try:
        settings = load_settings(config or default_config_path())
        questions = load_items(items)
        grades = asyncio.run(collect_drafts(settings, into, questions, max_tokens, resume=resume))
    except (ConfigError, ValueError, OSError) as error:
        fail(error)
    except (EngineFailed, CollectionFailed) as error:
        fail(f"{error}; what is done stays: --resume goes on with it", 1)
    except KeyboardInterrupt:
        fail(f"interrupted; `smallfirst collect {into} --resume` goes on where it stopped", INTERRUPTED)
    right = sum(grade.right for grade in grades)
    share = f", {right / len(grades):.1%} right" if grades else ""
    out.print(f"{len(grades)} drafts{share}, in {into}", markup=False)


async def collect_drafts(
    settings: Settings, into: Path, items: Sequence[Item], max_tokens: int, *, resume: bool = False
) -> list[Grade]:
    """Ask the configured small model each item, greedily; write records and grades into the folder `into`.

    Returns the grades in the order of `items`. Raises ConfigError if the small model cannot be served, RecordError if
    the folder holds something else, EngineFailed and CollectionFailed if the small model does not answer."""
    from .drafting import Collection, describe_progress  # imported here, since it loads the whole gateway

    collection = Collection(settings, into, items, max_tokens)
    progress = collection.open(resume=resume)
    if resume:
        err.print(describe_progress(progress, len(items)), markup=False)
    bar = Progress(console=err)
    collection.on_ready = bar.start  # not before, since the start of the engine is shown in its place
    task = bar.add_task("drafting", total=len(items), completed=len(progress.done))
    try:
        grades = await collection.draft(items, progress, lambda _: bar.advance(task))
    finally:
        bar.stop()
    if collection.failed:
        warn(f"the model refused {len(collection.failed)} items, such as {collection.failed[0]}")
    return grades
