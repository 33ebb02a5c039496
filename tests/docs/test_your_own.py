"""The strategy of docs/strategies/your-own.md is one: its test passes, it is found, it runs live and in replay."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from support.gateways import gateway_of, settings_of, upstream
from support.scripted_server import Scripted

from policies.records.reader import read_records
from policies.records.replay import replay
from policies.records.schema import Record
from policies.schema.policy import Policy
from routers.plan import Generate, Reason
from routers.strategies.direct import Direct
from tools.docs.markdown import ROOT, fenced

PAGE = (ROOT / "docs" / "strategies" / "your-own.md").read_text(encoding="utf-8")
(ROUTER,), (YAML,), (TEST,), (ENTRY,) = [
    fenced(PAGE, info) for info in ("python router", "yaml brief", "python test", "toml")
]
(EXPLAINED,) = [block for block in fenced(PAGE, "") if "policy explain" in block]


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The page's module."""
    module = ModuleType("brief")
    monkeypatch.setitem(sys.modules, "brief", module)
    exec(compile(ROUTER, "brief.py", "exec"), module.__dict__)  # noqa: S102
    return module


def statements(source: str) -> list[str]:
    """The lines of a module but for imports, docstrings and blank lines."""
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or isinstance(node, ast.Import | ast.ImportFrom):
            skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return [
        line for number, line in enumerate(source.splitlines(), 1) if line.strip() and number not in skipped
    ]


def test_it_has_thirty_lines_and_no_more() -> None:
    assert len(statements(ROUTER)) <= 30


def page_tests() -> list[str]:
    return [node.name for node in ast.parse(TEST).body if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("name", page_tests())
def test_its_own_tests_pass(brief: ModuleType, name: str) -> None:
    namespace: dict[str, Callable[[], None]] = {}
    exec(compile(TEST, "test_brief.py", "exec"), namespace)  # noqa: S102
    namespace[name]()


async def recorded(slm: Scripted, llm: Scripted, folder: Path) -> Record:
    """A draft of three tokens, that another policy followed."""
    follow = Policy(name="follow", description="For tests.", router=Direct(tier="slm", follow=True))
    slm.says("It is cold.")
    settings = settings_of(upstream(slm, "slm"), upstream(llm, "llm"))
    async with gateway_of(settings, folder, [follow]) as served, aiohttp.ClientSession() as http:
        body = {"model": "follow", "messages": [{"role": "user", "content": "Ice?"}]}
        async with http.post(f"{served.url}/chat/completions", json=body) as response:
            assert response.status == 200
    (record,) = read_records(folder)
    return record


async def test_it_replays_drafts_that_another_policy_recorded(
    brief: ModuleType, slm: Scripted, llm: Scripted, tmp_path: Path
) -> None:
    record = await recorded(slm, llm, tmp_path)
    served = replay(record, brief.Brief(most=3)).answer
    assert served is not None
    assert (served.route, served.reason) == ("slm", Reason.POLICY)
    longer = replay(record, brief.Brief(most=2))
    assert longer.missing == Generate("llm", because=Reason.TRUNCATED)
    assert longer.is_escalated


LIVE = """
import asyncio, json, sys
from pathlib import Path
import aiohttp
from support.scripted_server import scripted
from support.gateways import gateway_of, settings_of, upstream
from typer.testing import CliRunner
from gateway.cli import app
from policies.loading.loader import load_policy

async def asked():
    async with scripted("small") as slm, scripted("large") as llm:
        slm.says("Cold.", " ".join(["so"] * 99))
        llm.says("It is cold.")
        settings = settings_of(upstream(slm, "slm"), upstream(llm, "llm"))
        policy = load_policy(Path("policies/brief.yaml"))
        async with gateway_of(settings, Path("records"), [policy]) as served, aiohttp.ClientSession() as http:
            for _ in range(2):
                body = {"model": "brief", "messages": [{"role": "user", "content": "Ice?"}]}
                async with http.post(f"{served.url}/chat/completions", json=body) as response:
                    yield [response.headers["x-smallfirst-" + name] for name in ("route", "reason")]

async def main():
    answers = [answer async for answer in asked()]
    arguments = ["policy", "explain", "request.json", "--policy", "brief", "--config", "smallfirst.yaml"]
    explained = CliRunner().invoke(app, arguments)
    print(json.dumps({"answers": answers, "explained": explained.output}))

asyncio.run(main())
"""
"""Two requests under the policy; the gateway proves at its end that their records replay."""
CONFIG = {
    "local": None,
    "upstreams": [
        {"name": model, "tier": tier, "url": "http://127.0.0.1:1/v1", "model": model}
        for tier, model in (("slm", "small"), ("llm", "large"))
    ],
    "policies": {"folder": "policies"},
}


def installed(folder: Path) -> None:
    """As pip would install a package with the page's module and entry point."""
    (folder / "brief.py").write_text(ROUTER)
    info = folder / "brief-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brief\nVersion: 1.0\n")
    group, entry = ENTRY.strip().split("\n")
    assert group == '[project.entry-points."smallfirst.routers"]'
    (info / "entry_points.txt").write_text(f"[smallfirst.routers]\n{entry.replace(chr(34), '')}\n")


@pytest.fixture
def ran(tmp_path: Path) -> dict[str, Any]:
    """What `LIVE` prints in a process that has the page's package installed."""
    installed(tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "brief.yaml").write_text(YAML)
    (tmp_path / "smallfirst.yaml").write_text(json.dumps(CONFIG))
    (tmp_path / "request.json").write_text('{"messages": [{"role": "user", "content": "Ice?"}]}')
    path = os.pathsep.join(map(str, [tmp_path, ROOT, ROOT / "tests"]))
    done = subprocess.run(
        [sys.executable, "-c", LIVE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_installed_package_offers_it_live_and_to_every_command(ran: dict[str, Any]) -> None:
    assert ran["answers"] == [["slm", "policy"], ["llm", "truncated"]]
    command, _, printed = EXPLAINED.partition("\n")
    assert command == "$ smallfirst policy explain request.json --policy brief"
    assert ran["explained"] == printed
