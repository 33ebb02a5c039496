"""What `models rm` deletes: what was fetched of this model, and nothing else."""

from pathlib import Path

import pytest
from support.loopback_hub import HubFile, LoopbackHub

from gateway.local.settings import LocalEngine
from gateway.local.weights.fetching import fetch_local_model
from gateway.local.weights.removal import Removal, delete_files, plan_removal
from gateway.local.weights.resolution import find_local_model, locate_reference
from policies.loading.yaml_files import ConfigError

GGUF = b"GGUF" + b"weights" * 100


def plan(reference: str, folder: Path) -> Removal:
    local = LocalEngine(model=reference)
    return plan_removal(find_local_model(local, folder), locate_reference(local), folder)


def list_contents(folder: Path) -> list[str]:
    return sorted(
        path.name for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")
    )


def test_one_quantisation_of_several_is_deleted_with_its_content(hub: LoopbackHub, tmp_path: Path):
    other = HubFile(b"GGUF8")
    hub.add("u/m-GGUF", {"m-Q4_0.gguf": GGUF, "m-Q8_0.gguf": other, "m-Q8_1.gguf": other})
    for quantisation in ("Q4_0", "Q8_0", "Q8_1"):
        fetch_local_model(LocalEngine(model=f"u/m-GGUF:{quantisation}"), tmp_path, print)
    removal = plan("u/m-GGUF:Q4_0", tmp_path)
    assert removal.bytes >= len(GGUF)
    delete_files(removal)
    repository = tmp_path / "hf" / "hub" / "models--u--m-GGUF"
    assert list_contents(repository / "blobs") == [other.sha256]
    delete_files(plan("u/m-GGUF:Q8_0", tmp_path))
    assert list_contents(repository / "blobs") == [other.sha256]  # Q8_1 has the same content
    delete_files(plan("u/m-GGUF:Q8_1", tmp_path))
    assert not repository.exists()


def test_a_model_in_the_models_folder_is_deleted_and_nothing_beside_it(hub: LoopbackHub, tmp_path: Path):
    hub.plain["/plain/m.gguf"] = file = HubFile(GGUF)
    reference = f"{hub.content_url}/plain/m.gguf#sha256={file.sha256}"
    models = tmp_path / "models"
    model = fetch_local_model(LocalEngine(model=reference), models, print)
    (models / "other.gguf").write_bytes(GGUF)
    delete_files(plan(reference, models))
    assert not model.path.parent.exists()
    assert list_contents(models) == ["other.gguf"]
    delete_files(plan(str(models / "other.gguf"), models))
    assert list_contents(models) == []
    assert models.is_dir()


def test_what_was_not_fetched_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    models, mine = tmp_path / "models", tmp_path / "mine.gguf"
    models.mkdir()
    mine.write_bytes(GGUF)
    (models / "link.gguf").symlink_to(mine)
    (models / "tuned").mkdir()
    (models / "tuned" / "config.json").write_text("{}")
    for reference in (mine, models / "link.gguf", models / "tuned"):
        with pytest.raises(
            ConfigError, match="is yours, and was not fetched: only what was fetched is deleted"
        ):
            plan(str(reference), models)
