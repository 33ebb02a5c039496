"""Whether a model fits, before it is downloaded."""

from pathlib import Path

import pytest

from gateway.local.models.catalog import ModelCatalog
from gateway.local.models.geometry import card_geometry
from gateway.local.settings import LocalEngine
from gateway.local.sizing.fit import Model
from gateway.local.sizing.machine import read_machine
from gateway.local.weights.download import FetchFailed, build_progress, count_missing_bytes, format_bytes
from gateway.local.weights.space import check_space


def test_weights_that_no_memory_holds_are_refused(tmp_path: Path):
    memory = read_machine("llamacpp").max_bytes
    check_space(Model("m", memory), 0, tmp_path, LocalEngine())
    with pytest.raises(
        FetchFailed, match=r"m: the weights take .* GB, and this machine.* has .* take a smaller"
    ):
        check_space(Model("m", memory + 1), 0, tmp_path, LocalEngine())


def test_a_cache_that_no_memory_holds_is_refused_if_the_geometry_is_known(tmp_path: Path):
    card = ModelCatalog.load().find("smollm2-1.7b-instruct")
    assert card is not None
    local = LocalEngine(context=8192, slots=10**6)
    check_space(Model("m", 1), 0, tmp_path, local)
    with pytest.raises(FetchFailed, match=r"m needs .* the KV cache of 1000000 slots of 8192 tokens"):
        check_space(Model("m", 1, card_geometry(card)), 0, tmp_path, local)


def test_the_disk_of_a_folder_that_is_not_there_yet_is_looked_at(tmp_path: Path):
    folder = tmp_path / "a" / "b"
    check_space(Model("m", 1), 1, folder, LocalEngine())
    with pytest.raises(FetchFailed, match=rf"and the disk of {tmp_path} has"):
        check_space(Model("m", 1), 10**18, folder, LocalEngine())
    assert not folder.exists()


def test_what_has_arrived_is_not_counted_again(tmp_path: Path):
    target = tmp_path / "m"
    assert count_missing_bytes(10, target) == 10
    (tmp_path / "m.incomplete").write_bytes(b"1234")
    assert count_missing_bytes(10, target) == 6
    target.write_bytes(b"")
    assert count_missing_bytes(10, target) == 0


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 B"), (98_362_432, "98 MB"), (4_683_000_000, "4.7 GB")]
)
def test_sizes_are_written_as_hubs_write_them(count: int, text: str):
    assert format_bytes(count) == text


def test_progress_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch):
    now = iter([0.0, 1.0, 6.0, 7.0, 12.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    lines: list[str] = []
    with build_progress("m.gguf", lines.append)(total=100e6, initial=40e6, desc="m", unit="B") as progress:
        for _ in range(4):
            progress.update(10e6)
    assert lines == [
        "m.gguf: 60% of 100 MB, 3 MB/s, 12 s left",
        "m.gguf: 80% of 100 MB, 3 MB/s, 6 s left",
    ]
