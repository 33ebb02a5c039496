"""Models that are here already, or at a web server that is no hub: Ollama's store, files, folders, URLs."""

import hashlib
import json
from pathlib import Path

import pytest
from support.loopback_hub import HubFile, LoopbackHub

from gateway.local.settings import LocalEngine
from gateway.local.weights.download import FetchFailed, NotFetched
from gateway.local.weights.fetching import fetch_local_model
from gateway.local.weights.resolution import find_local_model
from policies.loading.yaml_files import ConfigError

GGUF = b"GGUF" + b"weights" * 100
MODEL = "application/vnd.ollama.image.model"


def add_to_store(store: Path, name: str, *layers: str, content: bytes = GGUF) -> Path:
    """Write a model as Ollama's server does, with one blob for all of its layers."""
    digest = hashlib.sha256(content).hexdigest()
    blob = store / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    manifest = store / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    kinds = layers or (MODEL, "application/vnd.ollama.image.license")
    made = [{"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)} for kind in kinds]
    manifest.write_text(json.dumps({"schemaVersion": 2, "config": {}, "layers": made}))
    return blob


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    return tmp_path / "ollama"


def find(reference: str, folder: Path = Path()) -> tuple[str, Path]:
    model = find_local_model(LocalEngine(model=reference), folder)
    return model.name, model.path


@pytest.mark.parametrize(
    ("reference", "manifest", "name"),
    [
        ("ollama/llama3.2:1b", "registry.ollama.ai/library/llama3.2/1b", "llama3.2-1b"),
        ("ollama/llama3.2", "registry.ollama.ai/library/llama3.2/latest", "llama3.2"),
        ("ollama/me/tuned", "registry.ollama.ai/me/tuned/latest", "tuned"),
        ("ollama/hf.co/u/m-GGUF:Q4_0", "hf.co/u/m-GGUF/Q4_0", "m-GGUF-Q4_0"),
    ],
)
def test_a_model_of_ollama_is_found_in_its_store(store: Path, reference: str, manifest: str, name: str):
    blob = add_to_store(store, manifest)
    assert find(reference) == (name, blob)


def test_a_model_that_ollama_does_not_have_is_told_with_those_that_it_has(store: Path):
    with pytest.raises(ConfigError, match="which holds no model; fetch it with: ollama pull qwen3:4b"):
        find("ollama/qwen3:4b")
    add_to_store(store, "registry.ollama.ai/library/llama3.2/1b")
    add_to_store(store, "registry.ollama.ai/me/tuned/latest")
    with pytest.raises(ConfigError, match=r"which holds ollama/llama3\.2:1b, ollama/me/tuned; fetch"):
        find("ollama/qwen3")


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (("application/vnd.ollama.image.tensor",), "consists of single tensors instead of a GGUF file"),
        (
            (MODEL, "application/vnd.ollama.image.adapter"),
            "consists of a LoRA adapter, which is not supported",
        ),
        ((MODEL, MODEL), "consists of 2 model files, and one is expected"),
        (("application/vnd.ollama.image.license",), "consists of 0 model files"),
    ],
)
def test_what_of_ollama_does_not_run_here_is_told(store: Path, layers: tuple[str, ...], said: str):
    add_to_store(store, "registry.ollama.ai/library/m/latest", *layers)
    with pytest.raises(ConfigError, match=said):
        find("ollama/m")


def test_a_damaged_store_is_told(store: Path):
    blob = add_to_store(store, "registry.ollama.ai/library/m/latest")
    blob.unlink()
    with pytest.raises(ConfigError, match="is missing or can't be read; fetch it again"):
        find("ollama/m")
    (store / "manifests/registry.ollama.ai/library/m/latest").write_text("no JSON")
    with pytest.raises(ConfigError, match="its manifest in Ollama's store can't be read"):
        find("ollama/m")


def test_a_file_and_a_folder_are_looked_at(tmp_path: Path):
    path = tmp_path / "m.gguf"
    with pytest.raises(ConfigError, match="there is no file"):
        find(str(path))
    path.write_bytes(b"<html>")
    with pytest.raises(ConfigError, match="is no GGUF file: it does not begin as one"):
        find(str(path))
    path.write_bytes(GGUF)
    assert find(str(path)) == ("m", path)
    with pytest.raises(ConfigError, match=r"has no config\.json; it holds m\.gguf: name the file"):
        find(str(tmp_path))
    with pytest.raises(ConfigError, match="there is no folder"):
        find(str(tmp_path / "none"))
    (tmp_path / "config.json").write_text("{}")
    assert find(str(tmp_path)) == (tmp_path.name, tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "a.safetensors"}}')
    with pytest.raises(ConfigError, match=r"lacks a\.safetensors, which its index names"):
        find(str(tmp_path))


def test_an_engine_that_does_not_run_the_model_is_told(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        ConfigError, match=r"local\.engine: llamacpp does not run .*, and vllm does: leave the key out"
    ):
        find_local_model(LocalEngine(engine="llamacpp", model=str(tmp_path)), tmp_path)
    path = tmp_path / "m.gguf"
    path.write_bytes(GGUF)
    assert find_local_model(LocalEngine(engine="vllm", model=str(path)), tmp_path).engine == "vllm"


def test_a_split_file_needs_all_its_parts(tmp_path: Path):
    first, second = (tmp_path / f"m-0000{part}-of-00002.gguf" for part in (1, 2))
    first.write_bytes(GGUF)
    with pytest.raises(ConfigError, match=rf"there is no file {second}"):
        find(str(first))
    second.write_bytes(GGUF)
    assert find(str(first))[1] == first


def test_a_url_is_fetched_checked_and_found(hub: LoopbackHub, tmp_path: Path):
    hub.plain["/plain/My%20Model.gguf".replace("%20", " ")] = file = HubFile(GGUF)
    local = LocalEngine(model=f"{hub.content_url}/plain/My%20Model.gguf?key=hunter2#sha256={file.sha256}")
    with pytest.raises(NotFetched, match="fetch them with: smallfirst models pull 'http://") as error:
        find_local_model(local, tmp_path)
    assert "hunter2" not in str(error.value)
    lines: list[str] = []
    model = fetch_local_model(local, tmp_path, lines.append)
    assert (model.name, model.path.read_bytes()) == ("My-Model", GGUF)
    assert model.path == tmp_path / file.sha256[:12] / "My Model.gguf"
    assert find_local_model(local, tmp_path) == model
    assert len(hub.downloads()) == 1
    assert all(request.authorization is None for request in hub.requests)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/plain/wrong.gguf", r"wrong\.gguf: the checksum is wrong"),
        ("/plain/none.gguf", r"has no such file or revision of none\.gguf \(status 404\)"),
    ],
)
def test_a_url_that_gives_something_else_is_told(hub: LoopbackHub, tmp_path: Path, path: str, said: str):
    hub.plain["/plain/wrong.gguf"] = HubFile(b"GGUF other")
    local = LocalEngine(model=f"{hub.content_url}{path}#sha256={hashlib.sha256(GGUF).hexdigest()}")
    with pytest.raises(FetchFailed, match=said) as error:
        fetch_local_model(local, tmp_path, print)
    assert "\n" not in str(error.value)


def test_a_token_for_the_hub_goes_to_no_other_server(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_may_read")
    hub.plain["/plain/m.gguf"] = file = HubFile(GGUF)
    fetch_local_model(
        LocalEngine(model=f"{hub.content_url}/plain/m.gguf#sha256={file.sha256}"), tmp_path, print
    )
    assert {request.authorization for request in hub.requests if request.path == "/plain/m.gguf"} == {None}
