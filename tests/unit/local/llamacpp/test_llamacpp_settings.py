"""What the settings of a local llama.cpp become, and what is said of them before it is started."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.local.factory import to_upstream_settings
from gateway.local.preparation import check_local, locate_draft
from gateway.local.settings import LocalEngine, select_local_engine
from gateway.settings import load_settings
from policies.loading.yaml_files import ConfigError

NGRAM = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3}


def load(tmp_path: Path, local: str) -> LocalEngine:
    path = tmp_path / "smallfirst.yaml"
    path.write_text(f"local:\n  {local}\n")
    engine = load_settings(path).local
    assert engine is not None
    return engine


def test_paths_stand_beside_the_settings_file(tmp_path: Path):
    engine = load(
        tmp_path,
        "arguments: {lora: [a.gguf, /b.gguf], lora-scaled: c.gguf:0.5, md: d.gguf, chat_template_file: t}",
    )
    assert engine.options == {
        "lora": [str(tmp_path / "a.gguf"), "/b.gguf"],
        "lora-scaled": {str(tmp_path / "c.gguf"): 0.5},
        "spec-draft-model": str(tmp_path / "d.gguf"),
        "chat-template-file": str(tmp_path / "t"),
    }
    assert select_local_engine("other.gguf", engine).options == engine.options


def test_an_error_names_the_section_and_the_option(tmp_path: Path):
    with pytest.raises(
        ConfigError, match=r"smallfirst.yaml:1: local: arguments.n-gpu-layer: .*n-gpu-layers\?"
    ):
        load(tmp_path, "arguments: {n-gpu-layer: 3}")


def test_a_file_that_is_not_there_is_found_before_the_start(tmp_path: Path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    model = str(tmp_path / "model.gguf")
    engine = LocalEngine(model=model, arguments={"lora": str(tmp_path / "none.gguf")})
    with pytest.raises(ConfigError, match=r"local.arguments.lora: there is no file .*none.gguf"):
        check_local(engine, tmp_path)
    draft = {"method": "draft_model", "model": "none.gguf", "num_speculative_tokens": 3}
    with pytest.raises(ConfigError, match=r"local.speculative.model: 'none.gguf' is no GGUF file here"):
        check_local(LocalEngine(model=model, speculative=draft), tmp_path)
    assert check_local(LocalEngine(model=model, arguments={"lora": model}), tmp_path).path == Path(model)


def test_a_look_up_and_a_draft_model_are_options_of_llama_cpp(tmp_path: Path):
    assert LocalEngine(speculative=NGRAM).options == {
        "spec-type": ["ngram-simple"],
        "spec-ngram-simple-size-m": 4,
        "spec-ngram-simple-size-n": 3,
    }
    draft = {"method": "draft_model", "model": "smollm2-135m-instruct", "num_speculative_tokens": 3}
    path = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    path.touch()
    engine = locate_draft(LocalEngine(speculative=draft, arguments={"spec-draft-p-min": 0.5}), tmp_path)
    assert engine.options == {
        "spec-type": ["draft-simple"],
        "spec-draft-model": str(path),
        "spec-draft-n-max": 3,
        "spec-draft-p-min": 0.5,
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"speculative": {"method": "suffix"}}, "llama.cpp has ngram and draft_model, not 'suffix'"),
        (
            {"speculative": NGRAM | {"prompt_lookup_min": 2}},
            "speculative.prompt_lookup_min: in llama.cpp, ngram takes num_speculative_tokens, prompt_lookup_max",
        ),
        (
            {"speculative": NGRAM | {"prompt_lookup_max": "x"}},
            "speculative.prompt_lookup_max: expected an integer",
        ),
        (
            {"speculative": NGRAM, "arguments": {"spec-type": "ngram-mod"}},
            "arguments.spec-type: speculative is there too",
        ),
        (
            {"speculative": NGRAM, "arguments": {"spec-ngram-simple-size-m": 2}},
            "arguments.spec-ngram-simple-size-m: speculative is there too",
        ),
    ],
)
def test_speculation_that_llama_cpp_lacks_is_refused(fields: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        LocalEngine(**fields)


@pytest.mark.parametrize(
    ("fields", "speculates"),
    [
        ({}, False),
        ({"arguments": {"spec-type": "none"}}, False),
        ({"arguments": {"spec-type": "ngram-mod"}}, True),
        ({"arguments": {"md": "draft.gguf"}}, True),
        ({"speculative": NGRAM}, True),
    ],
)
def test_an_engine_that_speculates_offers_no_log_probabilities(fields: dict[str, Any], speculates: bool):
    """It says 0 of every token that was drafted: tests/live/llamacpp/test_llamacpp_arguments.py."""
    engine = LocalEngine(**fields)
    assert engine.speculates is speculates
    assert to_upstream_settings(engine, 1).capabilities.logprobs is (False if speculates else None)
