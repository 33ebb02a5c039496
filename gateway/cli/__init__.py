"""The command line `smallfirst`: each subcommand has a file of its own."""

from typing import Annotated

import typer

from gateway import __version__

from .models import bench, speculate, weights
from .policies import explain, show
from .records import collect, export, replay, tune
from .serving import chat, check, compress, serve

app = typer.Typer(
    help="An OpenAI-compatible gateway: a small model of your own first, a large one when it is worth it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"smallfirst {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


app.command()(serve.serve)
app.command()(chat.chat)
app.command()(check.check)
app.command()(collect.collect)
app.command()(compress.compress)
app.command()(tune.tune)
app.command()(replay.replay)
app.command()(export.export)

policy_app = typer.Typer(
    help="What the policies are, how they came to be, and what they would do.", no_args_is_help=True
)
policy_app.command("list")(show.list_policies)
policy_app.command()(show.show)
policy_app.command()(show.diff)
policy_app.command()(explain.explain)
app.add_typer(policy_app, name="policy")

models_app = typer.Typer(help="The local models that are known, and their weights.", no_args_is_help=True)
models_app.command()(speculate.speculate)
models_app.command()(bench.bench)
models_app.command("list")(weights.list_models)
models_app.command()(weights.pull)
app.add_typer(models_app, name="models")
