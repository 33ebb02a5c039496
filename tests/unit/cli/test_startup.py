"""What a command loads before it runs: the OpenAI client takes longer than all the rest, and few commands use it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LOADED = """
import sys
{code}
print([name for name in sys.modules if name.partition(".")[0] == "openai"])
"""


@pytest.mark.parametrize(
    "code",
    [
        "import gateway.cli",
        "from gateway.cli import app; app(['--help'], standalone_mode=False)",
        "from gateway.cli import app; app(['serve', '--help'], standalone_mode=False)",
        "from gateway.cli import app; app(['policy', 'list'], standalone_mode=False)",
        "from gateway.app import create_app; from gateway.settings import load_settings; create_app(load_settings())",
    ],
    ids=["import", "help", "serve --help", "policy list", "the app"],
)
def test_the_openai_client_is_not_loaded(tmp_path: Path, code: str) -> None:
    url = "http://127.0.0.1:9/v1"
    upstreams = [{"name": tier, "tier": tier, "url": url, "model": tier} for tier in ("slm", "llm")]
    (tmp_path / "smallfirst.yaml").write_text(json.dumps({"local": None, "upstreams": upstreams}))
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(code=code)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
