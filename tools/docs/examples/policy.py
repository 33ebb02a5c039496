"""The example policy of docs/policies.md, and what `smallfirst policy` prints of it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from typer.testing import CliRunner

from gateway.cli import app

POLICY = """\
description: As auto, for the help desk; asks the large model more often.
extends: auto
router:
  accept: 0.7
"""
CONFIG = """\
local: null
upstreams:
  - {name: local, tier: slm, engine: llamacpp, url: "http://127.0.0.1:8001/v1", model: smollm2-135m-instruct}
  - {name: openai, tier: llm, url: "https://api.openai.com/v1", model: gpt-5-mini, key: none}
policies: {folder: policies}
"""
REQUEST = '{"messages": [{"role": "user", "content": "What is the opposite of hot?"}]}'
ASKED = ("list", "show help-desk", "diff auto help-desk")
EXPLAINED = ("explain request.json --policy help-desk",)


def extending() -> str:
    return f"```yaml\n{POLICY}```"


def asked() -> str:
    return _printed(ASKED)


def explained() -> str:
    return _printed(EXPLAINED)


def _printed(commands: tuple[str, ...]) -> str:
    with TemporaryDirectory() as folder:
        (Path(folder) / "policies").mkdir()
        (Path(folder) / "policies" / "help-desk.yaml").write_text(POLICY)
        (Path(folder) / "smallfirst.yaml").write_text(CONFIG)
        (Path(folder) / "request.json").write_text(REQUEST)
        parts = "\n\n".join("\n".join(_session(command, folder)) for command in commands)
    return f"```\n{parts}\n```"


def _session(command: str, folder: str) -> Iterator[str]:
    yield f"$ smallfirst policy {command}"
    words = command.replace("request.json", f"{folder}/request.json").split()
    result = CliRunner().invoke(app, ["policy", *words, "--config", f"{folder}/smallfirst.yaml"])
    if result.exit_code:
        raise RuntimeError(f"smallfirst policy {command}: {result.output}")
    yield result.stdout.replace(f"{folder}/", "").rstrip()
