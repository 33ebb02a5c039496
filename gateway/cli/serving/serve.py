"""smallfirst serve: runs the gateway in the foreground."""

import logging
import socket
from typing import Annotated

import typer
from pydantic import ValidationError

from gateway.api.settings import Listen
from gateway.cli.fetching import fetch_model
from gateway.cli.output import ConfigOption, fail
from gateway.cli.records.calibrate import calibrate_if_needed
from gateway.local.supervision.supervisor import EngineFailed
from gateway.local.weights.reference import add_sha256
from gateway.settings import Settings, default_config_path, load_settings
from policies.loading.yaml_files import ConfigError


def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    slm: Annotated[
        str | None,
        typer.Option(
            help="Run this small model here, and fetch it first if it is absent: a name of the catalog,"
            " user/repo-GGUF:QUANT, hf.co/user/repo, an https URL of a .gguf file, ollama/NAME, a file or a folder."
        ),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="The checksum of the file, if --slm is an https URL.")
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="First calibrate the small model, unless it has a calibrator of its own: see `smallfirst calibrate`.",
        ),
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="With --calibrate: on a sample, for at most eight minutes.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what the engine and upstreams do.")
    ] = False,
) -> None:
    """Serve the OpenAI-compatible endpoint."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        reference = add_sha256(slm, sha256) if slm else None
        settings = override_listen(load_settings(config or default_config_path(), reference), host, port)
        with _bind_listener(settings.listen.host, settings.listen.port) as listener:
            settings = fetch_model(settings)
            if calibrate:
                calibrate_if_needed(settings, quick=quick)
            from .server import run_server  # imported here, since it loads the whole gateway

            run_server(settings, listener)
    except ConfigError as error:
        fail(error)
    except EngineFailed as error:
        fail(f"{error}\n`smallfirst serve --verbose` shows its whole log", 1)


def override_listen(settings: Settings, host: str | None, port: int | None) -> Settings:
    """Return the settings with the address of the command line. Raises ConfigError."""
    options = {"host": host, "port": port}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        listen = Listen.model_validate(settings.listen.model_dump() | given)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--{' and --'.join(given)}: {reason}") from error
    return settings.model_copy(update={"listen": listen})


def _bind_listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # asyncio sets TCP_NODELAY only if the protocol is named
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port with --port or listen.port"
        ) from error
    return listener
