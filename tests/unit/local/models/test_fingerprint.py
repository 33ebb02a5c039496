"""Fingerprints of models' files: what they say of a model, and that unchanged files are read once."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.gguf_files import write_gguf

from gateway.local.factory import describe_local
from gateway.local.models.fingerprint import read_fingerprint
from gateway.settings import LocalEngine
from routers.confidence.calibration import Fingerprint

TEMPLATE = "{{ messages }}"
METADATA = {"tokenizer.chat_template": TEMPLATE, "general.file_type": 15}


def sha256(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Path]]:
    """What is cached."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return lambda: sorted((tmp_path / "data" / "smallfirst" / "fingerprints").glob("*"))


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "small.gguf", METADATA)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of 2 x 3 + 4 numbers."""
    path = tmp_path / "small"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"torch_dtype": "bfloat16"}))
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    header = {"__metadata__": {"format": "pt"}, "a": {"shape": [2, 3]}, "b": {"shape": [4]}}
    raw = json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + b"weights")
    return path


def test_a_gguf_file_is_known_by_its_bytes(gguf: Path):
    assert read_fingerprint(gguf) == Fingerprint(
        weights=sha256(gguf.read_bytes()), quantisation="Q4_K_M", chat_template=sha256(TEMPLATE), parameters=0
    )


def test_the_parts_of_a_model_are_known_together(tmp_path: Path):
    first, second = (write_gguf(tmp_path / f"small-0000{part}-of-00002.gguf", METADATA) for part in (1, 2))
    before = read_fingerprint(first)
    second.write_bytes(second.read_bytes() + b"more")
    after = read_fingerprint(first)
    assert before is not None
    assert after is not None
    assert before.weights not in (after.weights, sha256(first.read_bytes()))


def test_a_folder_is_known_by_weights_configuration_and_template(folder: Path):
    files = {name: sha256((folder / name).read_bytes()) for name in ("config.json", "model.safetensors")}
    listed = "".join(f"{digest}  {name}\n" for name, digest in files.items())
    assert read_fingerprint(folder) == Fingerprint(
        weights=sha256(listed), quantisation="bfloat16", chat_template=sha256(TEMPLATE), parameters=10
    )


def quantised(folder: Path) -> None:
    config = {"quantization_config": {"quant_method": "awq", "bits": 4}}
    (folder / "config.json").write_text(json.dumps(config))


def templated(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("other")


def templated_by_name(folder: Path) -> None:
    templates = [{"name": "tools", "template": "t"}, {"name": "default", "template": "other"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (quantised, {"quantisation": "awq-4"}),
        (templated, {"chat_template": sha256("other")}),
        (templated_by_name, {"chat_template": sha256("other")}),
    ],
)
def test_a_change_of_a_folder_changes_what_is_known(
    folder: Path, change: Callable[[Path], None], found: dict[str, Any]
):
    before = read_fingerprint(folder)
    change(folder)
    after = read_fingerprint(folder)
    assert before is not None
    assert after is not None
    assert after != before
    assert {name: getattr(after, name) for name in found} == found


def test_a_file_is_read_once_until_it_changes(gguf: Path, cache: Callable[[], list[Path]]):
    before = read_fingerprint(gguf)
    (entry,) = cache()
    marked = json.loads(entry.read_text())
    marked["fingerprint"]["weights"] = "from the cache"
    entry.write_text(json.dumps(marked))
    again = read_fingerprint(gguf)
    assert again is not None
    assert again.weights == "from the cache"
    gguf.write_bytes(gguf.read_bytes())
    assert read_fingerprint(gguf) == before
    assert cache() == [entry]


def test_a_link_is_the_file_that_it_leads_to(gguf: Path, tmp_path: Path, cache: Callable[[], list[Path]]):
    """As in the cache of Hugging Face, where a file's name is a digest that nobody has verified."""
    link = tmp_path / "link.gguf"
    link.symlink_to(gguf)
    assert read_fingerprint(link) == read_fingerprint(gguf)
    assert len(cache()) == 1


@pytest.mark.parametrize("content", [b"", b"{", b'{"stamp": 1}'])
def test_a_broken_cache_is_no_matter(gguf: Path, cache: Callable[[], list[Path]], content: bytes):
    before = read_fingerprint(gguf)
    cache()[0].write_bytes(content)
    assert read_fingerprint(gguf) == before


def test_without_a_place_for_the_cache_the_file_is_read_again(gguf: Path, tmp_path: Path):
    (tmp_path / "data").write_text("a file where the folder would be")
    assert read_fingerprint(gguf) == read_fingerprint(gguf) is not None


@pytest.mark.parametrize("name", ["absent.gguf", "broken.gguf", "folder"])
def test_what_can_not_be_read_has_none(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture):
    (tmp_path / "broken.gguf").write_bytes(b"no model")
    (tmp_path / "folder").mkdir()
    assert read_fingerprint(tmp_path / name) is None
    assert f"{tmp_path / name} has no fingerprint: " in caplog.text


def test_options_of_the_engine_replace_what_the_files_say(folder: Path, tmp_path: Path):
    arguments = {"quantization": "fp8", "chat-template": "other"}
    local = LocalEngine(engine="vllm", model=str(folder), arguments=arguments)
    found = describe_local(local, tmp_path).source.fingerprint
    assert found is not None
    assert (found.quantisation, found.chat_template) == ("fp8", sha256("other"))
    (tmp_path / "template.jinja").write_text("from a file")
    local = local.model_copy(update={"arguments": {"chat_template": str(tmp_path / "template.jinja")}})
    found = describe_local(local, tmp_path).source.fingerprint
    assert found is not None
    assert (found.quantisation, found.chat_template) == ("bfloat16", sha256("from a file"))


def test_an_adapter_for_all_requests_makes_other_weights(folder: Path, tmp_path: Path):
    local = LocalEngine(engine="vllm", model=str(folder))
    names = [
        {},
        {"lora": "a.gguf"},
        {"lora": "b.gguf"},
        {"lora_scaled": "a.gguf:0.5"},
    ]
    engines = [local.model_copy(update={"arguments": name}) for name in names]
    found = [describe_local(engine, tmp_path).source.fingerprint for engine in engines]
    assert len({known.weights for known in found if known is not None}) == len(names)


@pytest.mark.parametrize(
    "local", [LocalEngine(), LocalEngine(engine="vllm", model="org/small")], ids=["llamacpp", "vllm"]
)
def test_a_model_that_is_not_on_this_machine_has_none(local: LocalEngine, tmp_path: Path):
    assert describe_local(local, tmp_path).source.fingerprint is None
