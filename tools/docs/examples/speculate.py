"""What `smallfirst models speculate` prints for the examples of a page."""

from typer.testing import CliRunner

from gateway.cli import app

PAIR = "--draft-speed 60 --target-speed 15 --prefill-speed 2000"
ACROSS = (
    f"models speculate --accept 0.7 {PAIR} --prompt 500 --answer 200 --input-price 0.5 --output-price 1.5"
)
SHORTER = f"models speculate --accept 0.85 {PAIR} --prompt 60 --answer 200"
INSIDE = f"models speculate --accept 0.7 {PAIR} --inside"


def printed(arguments: str) -> str:
    """The command and what it prints, as a block."""
    shown = CliRunner().invoke(app, arguments.split(), catch_exceptions=False).stdout
    return f"```console\n$ smallfirst {arguments}\n{shown.rstrip()}\n```"
