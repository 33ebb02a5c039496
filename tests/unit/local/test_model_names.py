"""The name under which a local model stands in metrics, records and requests."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.fake_engine import model_folder

from gateway.local.factory import to_upstream_settings
from gateway.local.model_names import MODEL_NAME, derive_model_name, is_path
from gateway.local.settings import LocalEngine, select_local_engine
from gateway.local.vllm.arguments import build_command
from gateway.settings import load_settings
from policies.loading.yaml_files import ConfigError


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-1.5B-Instruct"),
        ("hf.co/user/repo-GGUF:Q4_K_M", "hf.co/user/repo-GGUF:Q4_K_M"),
        ("/data/my models/Fine tune (v2).Q4_K_M.gguf", "Fine-tune-v2-.Q4_K_M"),
        ("big-00001-of-00003.gguf", "big"),
        ("/data/models/my-finetune/", "my-finetune"),
        ("./no/such/folder", "folder"),
        ("~/models/größe", "gr-e"),
        ("/c/hub/models--Qwen--Qwen3-0.6B/snapshots/9f1c0a", "Qwen/Qwen3-0.6B"),
    ],
)
def test_a_path_is_no_models_name(model: str, name: str):
    assert derive_model_name(model) == name


@given(st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), min_size=1))
def test_a_name_of_a_path_can_stand_in_a_metric(text: str):
    assert re.match(MODEL_NAME, derive_model_name(f"/models/{text}/x{text}"))


def test_a_name_at_hugging_face_is_no_path():
    assert not any(map(is_path, ("gpt2", "org/model", "https://hub.test/x.gguf", "ollama/llama3.2")))
    assert all(map(is_path, ("./x", "../x", "/x", "~/x", "a/b/c", "org/model/", "x.gguf", r"C:\x", ".")))


def test_the_settings_name_it_for_both_engines(tmp_path: Path):
    folder = model_folder(tmp_path / "tiny")
    local = LocalEngine(engine="vllm", model=str(folder), name="desk-1.5B")
    words = build_command(local, port=1)
    assert words[words.index("--served-model-name") + 1] == "desk-1.5B"
    for named in (local, LocalEngine(model="/data/x.gguf", name="desk-1.5B")):
        assert to_upstream_settings(named, 1).model == "desk-1.5B"
    assert select_local_engine(str(folder), local).model_name == "desk-1.5B"
    assert select_local_engine("org/other", local).model_name == "org/other"


@pytest.mark.parametrize("name", ["", "two words", "/data/x", "a\n", "größe", "x" * 129])
def test_what_no_metric_should_hold_is_no_name(name: str):
    with pytest.raises(ValidationError, match="name"):
        LocalEngine(name=name)


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("{name: large}", r"smallfirst.yaml:1: local.name: 'large' is the model of the upstream far"),
        (
            "{engine: vllm, model: a/b, adapters: {large: x/y}}",
            "adapters.large: 'large' is an upstream's model",
        ),
        ("{engine: vllm, model: a/b, name: desk, adapters: {desk: x/y}}", "is the model's own name"),
    ],
)
def test_no_two_models_have_one_name(tmp_path: Path, local: str, expected: str):
    path = tmp_path / "smallfirst.yaml"
    far = "{name: far, tier: llm, url: 'http://127.0.0.1:9/v1', model: large}"
    path.write_text(f"local: {local}\nupstreams: [{far}]\n")
    with pytest.raises(ConfigError, match=expected):
        load_settings(path)
