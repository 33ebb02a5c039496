"""What a command loads before it runs: the OpenAI client takes longer than all the rest, and few commands use it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
STEPS = {
    "import": "import gateway.cli",
    "help": "from gateway.cli import app; app(['--help'], standalone_mode=False)",
    "serve --help": "from gateway.cli import app; app(['serve', '--help'], standalone_mode=False)",
    "policy list": "from gateway.cli import app; app(['policy', 'list'], standalone_mode=False)",
    "the app": (
        "from gateway.app import create_app; from gateway.settings import load_settings; create_app(load_settings())"
    ),
}
RUN = """
import json, sys
loaded = []
for step, code in json.loads(sys.argv[1]).items():
    exec(code)
    loaded += [step] if any(name.partition(".")[0] == "openai" for name in sys.modules) else []
print(json.dumps(loaded))
"""
"""Runs the steps in one process, and prints after which of them the client was there: the first one loaded it."""


def test_the_openai_client_is_not_loaded(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/v1"
    upstreams = [{"name": tier, "tier": tier, "url": url, "model": tier} for tier in ("slm", "llm")]
    (tmp_path / "smallfirst.yaml").write_text(json.dumps({"local": None, "upstreams": upstreams}))
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(STEPS)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
