from collections.abc import Iterator
from pathlib import Path

import pytest
from support.loopback_hub import LoopbackHub, run_hub, use_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A hub on loopback that this process uses, with a cache of its own."""
    with run_hub() as running:
        use_hub(monkeypatch, running.url, tmp_path / "hf")
        yield running
