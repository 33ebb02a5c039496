"""The command line `smallfirst`: each subcommand has a file of its own, which is imported when it is run."""

from typing import Annotated

import typer

from .lazy_group import LazyCommand, lazy_group

ROOT = lazy_group(
    LazyCommand("serve", "serving.serve:serve", "Serve the OpenAI-compatible endpoint."),
    LazyCommand(
        "chat",
        "serving.chat:chat",
        "Talk to a running gateway; shows route, confidence and cost under each answer.",
    ),
    LazyCommand(
        "check",
        "serving.check:check",
        "Validate the configuration and the policies; contacts nothing unless asked to.",
    ),
    LazyCommand(
        "calibrate",
        "records.calibrate:calibrate",
        "Make the calibrator of a small model: draft a graded set, train on it, and say what the result is worth.",
    ),
    LazyCommand(
        "collect",
        "records.collect:collect",
        "Ask the small model every item of a graded set, and keep records and grades for `smallfirst tune`.",
    ),
    LazyCommand(
        "compress",
        "serving.compress:compress",
        "Compress a text: it goes to standard output, what became of it to standard error.",
    ),
    LazyCommand(
        "tune",
        "records.tune:tune",
        "Train a calibrator on a record set's training split, and measure it on the held-out split.",
    ),
    LazyCommand(
        "replay", "records.replay:replay", "Replay records through the same plan and watch that ran live."
    ),
    LazyCommand(
        "export",
        "records.export:export",
        "Make a fine-tuning set of the escalated exchanges in records whose content was recorded.",
    ),
)
POLICY = lazy_group(
    LazyCommand(
        "list",
        "policies.show:list_policies",
        "Show each policy's name, kind and description, and why it can't be served or is uncalibrated.",
    ),
    LazyCommand(
        "show",
        "policies.show:show",
        "Print a policy whole, as YAML, with what it extends; comments name file and line of each key.",
    ),
    LazyCommand(
        "diff", "policies.show:diff", "Print each path at which two policies differ, and both values."
    ),
    LazyCommand(
        "explain",
        "policies.explain:explain",
        "Print what would be done with a request, by what may come of each call; makes none.",
    ),
)
MODELS = lazy_group(
    LazyCommand(
        "speculate",
        "models.speculate:speculate",
        "Say whether speculation pays: tokens a call, time and dollars by block length, and the break-even acceptance.",
    ),
    LazyCommand(
        "bench",
        "models.bench:bench",
        "Measure tokens per second without speculative decoding, with it, and without again, on your own prompts.",
    ),
    LazyCommand(
        "list",
        "models.catalog:list_models",
        "Show the small models of the catalog, and whether their weights are here.",
    ),
    LazyCommand(
        "show",
        "models.catalog:show_model",
        "Show all that the catalog knows of a model; what no source confirms ends with a question mark.",
    ),
    LazyCommand(
        "compare",
        "models.catalog:compare_models",
        "Compare models property by property; those that differ are marked ≠.",
    ),
    LazyCommand("pull", "models.weights:pull", "Fetch a model's weights and check them."),
    LazyCommand(
        "recommend",
        "models.recommend:recommend",
        "Rank the models that fit a memory, with their weights, KV cache and total, and how to serve them.",
    ),
    LazyCommand(
        "rm",
        "models.weights:remove",
        "Delete a model's weights that were fetched; says what it would delete, and asks first.",
    ),
)

app = typer.Typer(
    cls=ROOT,
    help="An OpenAI-compatible gateway: a small model of your own first, a large one when it is worth it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(
    typer.Typer(
        cls=POLICY,
        help="What the policies are, how they came to be, and what they would do.",
        no_args_is_help=True,
    ),
    name="policy",
)
app.add_typer(
    typer.Typer(cls=MODELS, help="The local models that are known, and their weights.", no_args_is_help=True),
    name="models",
)


def _print_version(requested: bool) -> None:
    if requested:
        from gateway import __version__

        typer.echo(f"smallfirst {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass
