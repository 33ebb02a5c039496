"""smallfirst compress: compresses a text with the small model."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.output import ConfigOption, err, fail
from gateway.settings import Settings, default_config_path, load_settings
from policies.loading.yaml_files import ConfigError

MAX_READ_S = 3600.0
"""Maximum seconds that the small model may read."""


def compress(
    file: Annotated[Path, typer.Argument(help="The text, in UTF-8; - reads standard input.")],
    target_ratio: Annotated[float | None, typer.Option(help="Tokens to keep, as a share.")] = None,
    target_tokens: Annotated[int | None, typer.Option(help="Tokens to keep, as a number.")] = None,
    question: Annotated[str, typer.Option(help="What is asked of the text: what tells of it stays.")] = "",
    keep: Annotated[
        list[str] | None, typer.Option(help="A word or phrase that stays; may be given again.")
    ] = None,
    drop_numbers: Annotated[
        bool, typer.Option("--drop-numbers", help="Blocks that are left out take their numbers with them.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Compress a text: it goes to standard output, what became of it to standard error."""
    import openai  # takes longer to load than all the rest of the command line

    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        text = data.decode()
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except UnicodeDecodeError as error:
        fail(f"{file}: not UTF-8: byte {error.start} is no part of a character")
    targets = {"target_ratio": target_ratio, "target_tokens": target_tokens}
    body = {"text": text, "keep": keep or [], "drop_numbers": drop_numbers, "seconds": MAX_READ_S, **targets}
    try:
        settings = load_settings(config or default_config_path())
        answer = asyncio.run(_post_compress(settings, body | ({"question": question} if question else {})))
    except (ConfigError, openai.APIError) as error:
        fail(getattr(error, "message", error))
    typer.echo(answer["text"], nl=False)
    for name, value in answer["account"].items():
        if value is not None and not isinstance(value, list):
            err.print(f"{name}: {value}", markup=False)


async def _post_compress(settings: Settings, body: dict[str, Any]) -> dict[str, Any]:
    import openai

    from gateway.cli.loopback_gateway import run_gateway  # likewise

    async with (
        run_gateway(settings, shows_start=True) as server,
        openai.AsyncOpenAI(base_url=server.url, api_key="none", timeout=MAX_READ_S, max_retries=0) as client,
    ):
        answer: dict[str, Any] = await client.post("/compress", body=body, cast_to=dict[str, Any])
        return answer
