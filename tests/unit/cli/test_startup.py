"""What a command loads before it runs: only its own module, and neither the OpenAI client nor the gateway."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway.cli import app
from gateway.cli.lazy_group import LazyCommand

ROOT = Path(__file__).resolve().parents[3]
LOADED = """
import sys
{code}
print([name for name in {packages} if name in sys.modules])
"""
SERVER = ("fastapi", "openai", "uvicorn", "gateway.app", "gateway.cli.loopback_gateway")
CALL = "from gateway.cli import app; app({words}, standalone_mode=False)"


def print_loaded(folder: Path, code: str, packages: tuple[str, ...]) -> str:
    """What Python prints that runs `code`; the last line names those of `packages` that it then has loaded."""
    url = "http://127.0.0.1:9/v1"
    upstreams = [{"name": tier, "tier": tier, "url": url, "model": tier} for tier in ("slm", "llm")]
    (folder / "smallfirst.yaml").write_text(json.dumps({"local": None, "upstreams": upstreams}))
    return subprocess.run(
        [sys.executable, "-c", LOADED.format(code=code, packages=packages)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_app_does_not_load_the_openai_client(tmp_path: Path) -> None:
    code = "from gateway.app import create_app; from gateway.settings import load_settings; create_app(load_settings())"
    assert print_loaded(tmp_path, code, ("openai",)).splitlines()[-1] == "[]"


def iterate_commands(group: Any, *words: str) -> Iterator[tuple[list[str], LazyCommand]]:
    """Each command below the group, with the words by which it is called."""
    for name, command in group.commands.items():
        if isinstance(command, LazyCommand):
            yield [*words, name], command
        else:
            yield from iterate_commands(command, *words, name)


COMMANDS = {" ".join(words): command for words, command in iterate_commands(typer.main.get_command(app))}


def test_no_help_loads_the_gateway_or_the_openai_client(tmp_path: Path) -> None:
    """One process asks for all of them: what one had loaded, it would have at the end."""
    helps = [CALL.format(words=[*name.split(), "--help"]) for name in ("", *COMMANDS)]
    assert print_loaded(tmp_path, "\n".join(helps), SERVER).splitlines()[-1] == "[]"


def test_commands_that_serve_nothing_load_neither(tmp_path: Path) -> None:
    commands = (["check"], ["policy", "list"], ["policy", "show", "auto"], ["models", "list"])
    calls = [CALL.format(words=words) for words in commands]
    assert print_loaded(tmp_path, "\n".join(calls), SERVER).splitlines()[-1] == "[]"


def test_the_help_of_a_group_loads_no_command(tmp_path: Path) -> None:
    calls = [
        CALL.format(words=words)
        for words in (["--help"], ["--version"], ["policy", "--help"], ["models", "--help"])
    ]
    modules = (*{command.load().callback.__module__ for command in COMMANDS.values()}, "policies", "routers")
    assert print_loaded(tmp_path, "\n".join(calls), modules).splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_group_says_of_a_command_what_the_command_says_of_itself(name: str) -> None:
    command = COMMANDS[name]
    assert command.help == " ".join(command.load().help.partition("\n\n")[0].split())
