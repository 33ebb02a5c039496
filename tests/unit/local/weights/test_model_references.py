"""What a reference of a model names, and what is said of one that names nothing."""

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.local.settings import LocalEngine
from gateway.local.weights.reference import (
    CatalogReference,
    FileReference,
    FolderReference,
    HubReference,
    OllamaReference,
    UrlReference,
    add_sha256,
    names_path,
    parse_reference,
)
from gateway.settings import load_settings
from policies.loading.yaml_files import ConfigError

DIGEST = "0123456789abcdef" * 4
Q4 = HubReference("user/Model-GGUF", "Q4_K_M")


@pytest.mark.parametrize(
    ("text", "reference", "engine", "name"),
    [
        ("user/Model-GGUF", HubReference("user/Model-GGUF"), "llamacpp", "Model-Q4_K_M"),
        ("user/model-gguf:Q8_0", HubReference("user/model-gguf", "Q8_0"), "llamacpp", "model-Q8_0"),
        ("user/Model-GGUF:Q4_K_M", Q4, "llamacpp", "Model-Q4_K_M"),
        ("user/model:Q4_0", HubReference("user/model", "Q4_0"), "llamacpp", "model-Q4_0"),
        ("user/model", HubReference("user/model"), "vllm", "user/model"),
        ("hf.co/user/model", HubReference("user/model"), "vllm", "user/model"),
        ("hf.co/user/Model-GGUF:Q4_K_M", Q4, "llamacpp", "Model-Q4_K_M"),
        ("huggingface.co/user/Model-GGUF:Q4_K_M", Q4, "llamacpp", "Model-Q4_K_M"),
        ("https://huggingface.co/user/model", HubReference("user/model"), "vllm", "user/model"),
        ("https://huggingface.co/user/model/", HubReference("user/model"), "vllm", "user/model"),
        ("https://hf.co/user/Model-GGUF:Q4_K_M", Q4, "llamacpp", "Model-Q4_K_M"),
        ("https://hf.co/user/m/tree/v1", HubReference("user/m", None, "v1"), "vllm", "user/m"),
        (
            "https://huggingface.co/user/m-GGUF/blob/main/sub/m.Q2_K.gguf?download=true",
            HubReference("user/m-GGUF", None, "main", "sub/m.Q2_K.gguf"),
            "llamacpp",
            "m.Q2_K",
        ),
        (
            f"https://example.org/a/My%20Model.gguf?x=1#sha256={DIGEST.upper()}",
            UrlReference("https://example.org/a/My%20Model.gguf?x=1", DIGEST),
            "llamacpp",
            "My-Model",
        ),
        ("weights/m.Q4_K_M.gguf", FileReference(Path("weights/m.Q4_K_M.gguf")), "llamacpp", "m.Q4_K_M"),
        ("/models/tuned", FolderReference(Path("/models/tuned")), "vllm", "tuned"),
        ("./tuned", FolderReference(Path("tuned")), "vllm", "tuned"),
        ("ollama/llama3.2", OllamaReference("llama3.2"), "llamacpp", "llama3.2"),
        ("ollama/llama3.2:1b", OllamaReference("llama3.2", "1b"), "llamacpp", "llama3.2-1b"),
        ("ollama/hf.co/u/r:Q4_0", OllamaReference("hf.co/u/r", "Q4_0"), "llamacpp", "r-Q4_0"),
    ],
)
def test_a_reference_names_where_a_model_is_and_what_runs_it(
    text: str, reference: object, engine: str, name: str
):
    parsed = parse_reference(text)
    assert parsed == reference
    assert (parsed.engine, parsed.model_name) == (engine, name)
    assert LocalEngine(model=text).engine == engine


@pytest.mark.parametrize("text", ["smollm2-135m-instruct", "SmolLM2", "smollm2:135m"])
def test_the_catalog_knows_names_and_aliases(text: str):
    parsed = parse_reference(text)
    assert isinstance(parsed, CatalogReference)
    assert parsed.model_name == "smollm2-135m-instruct"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "smolm2",
            "did you mean smollm2",
        ),
        ("", "'' names no model"),
        ("a/b/c", "names no model"),
        ("a/..", "names no model"),
        ("ollama/../../etc/passwd", "expected ollama/NAME or ollama/NAME:TAG"),
        ("https://example.org/m.gguf", "its checksum is missing: add #sha256="),
        ("https://example.org/m.gguf?key=hunter2#sha256=12", "its checksum is missing"),
        (f"http://example.org/m.gguf#sha256={DIGEST}", "expected an https URL that ends in .gguf"),
        (f"https://example.org/m.zip#sha256={DIGEST}", "expected an https URL that ends in .gguf"),
        ("https://joe:hunter2@example.org/m.gguf", "must not hold a name or password"),
        ("https://huggingface.co/user", "expected hf.co/user/repo"),
        ("hf.co/user/repo/tree/..", "expected hf.co/user/repo"),
        ("hf.co/user/repo/resolve/main/model.safetensors", "or a .gguf file there"),
        ("~nobody-of-that-name/m.gguf", "home directory"),
    ],
)
def test_what_names_no_model_is_explained(text: str, said: str):
    with pytest.raises(ConfigError, match=re.escape(said)) as error:
        parse_reference(text)
    assert "hunter2" not in str(error.value)


@example("https://[")
@example("~\0/x")
@example("a" * 5000)
@given(st.one_of(st.text(), st.text(alphabet="ab/.:-~#=@ghfco[")))
def test_any_text_is_a_reference_or_an_error_that_explains(text: str):
    with suppress(ConfigError):
        assert parse_reference(text).model_name


PART = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)


@given(PART, PART, st.none() | st.from_regex(r"[A-Z0-9_]{1,8}", fullmatch=True))
def test_a_hubs_reference_is_written_as_it_is_read(user: str, name: str, quantisation: str | None):
    reference = HubReference(f"{user}/{name}", quantisation)
    assert parse_reference(f"hf.co/{user}/{name}" + (f":{quantisation}" if quantisation else "")) == reference
    assert parse_reference(f"https://hf.co/{user}/{name}") == HubReference(f"{user}/{name}")


def test_the_checksum_of_the_command_line_takes_the_place_of_the_urls():
    assert add_sha256("https://a/b.gguf#sha256=0", DIGEST) == f"https://a/b.gguf#sha256={DIGEST}"
    assert add_sha256("user/repo", None) == "user/repo"


def test_only_paths_are_meant_from_the_folder_of_the_settings_file(tmp_path: Path):
    (tmp_path / "tuned").mkdir()
    (tmp_path / "org" / "model").mkdir(parents=True)
    for text in ("tuned", "org/model", "m.gguf", "./x", "../x", "/x"):
        assert names_path(text, tmp_path), text
    for text in ("org/other", "smollm2", "hf.co/u/r/resolve/main/m.gguf", "https://x/m.gguf", "ollama/m"):
        assert not names_path(text, tmp_path), text


def test_the_settings_file_takes_the_same_references(tmp_path: Path):
    path = tmp_path / "smallfirst.yaml"
    for text, engine in (("user/m-GGUF:Q8_0", "llamacpp"), ("user/model", "vllm"), ("ollama/m", "llamacpp")):
        path.write_text(f"local: {{model: '{text}'}}\n")
        local = load_settings(path).local
        assert local is not None
        assert (local.model, local.engine, local.chosen_engine) == (text, engine, None)


def test_a_reference_in_the_settings_file_that_names_nothing_is_an_error_with_its_place(tmp_path: Path):
    path = tmp_path / "smallfirst.yaml"
    path.write_text("listen: {port: 9000}\nlocal: {model: gpt-9}\n")
    with pytest.raises(ConfigError, match=r"smallfirst\.yaml:2: local: .*'gpt-9' names no model"):
        load_settings(path)


def test_an_engine_that_is_named_is_kept_and_vllm_takes_names_without_a_slash():
    assert parse_reference("gpt-none", "vllm") == HubReference("gpt-none")
    assert LocalEngine(engine="llamacpp", model="user/model").chosen_engine == "llamacpp"
