"""The command line `smallfirst`: each subcommand has a file of its own."""

from typing import Annotated

import typer

from gateway import __version__

from .models import weights
from .policies import policy, replay, tune
from .records import collect, export
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
app.add_typer(policy.app, name="policy")
app.add_typer(weights.app, name="models")
