"""What the settings of a local vLLM become, and what is said of them before it is started."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.fake_engine import FAKE, FakeVllm, model_folder

from gateway.local.factory import to_upstream_settings
from gateway.local.settings import LocalEngine, Speculative, select_local_engine
from gateway.local.supervision.child_process import inherit_environment
from gateway.local.vllm.arguments import (
    RESERVED_OPTIONS,
    build_command,
    build_environment,
)
from gateway.local.vllm.preflight import check_vllm
from gateway.local.vllm.startup_stages import parse_stage
from gateway.settings import load_settings
from policies.loading.yaml_files import ConfigError


def engine(**fields: object) -> LocalEngine:
    return LocalEngine(**{"engine": "vllm", "model": "org/model"} | fields)


def options_of(local: LocalEngine) -> dict[str, str]:
    """Of a command line, those that have one value."""
    _, *words = build_command(local, port=9)
    pairs = zip(words, [*words[1:], "--"], strict=True)
    return {word: value for word, value in pairs if word.startswith("--") and not value.startswith("--")}


def test_settings_become_options_and_arguments_are_passed_as_they_are():
    local = engine(
        context=512,
        slots=3,
        arguments={"dtype": "float32", "enforce_eager": True, "enable-prefix-caching": False, "seed": 7}
        | {"override-generation-config": {"top_k": 5}, "allowed-origins": ["a", "b"], "revision": None},
    )
    module, *words = build_command(local, port=4321)
    assert module == "vllm.entrypoints.openai.api_server"
    assert words == [
        *(
            "--model",
            "org/model",
            "--served-model-name",
            "org/model",
            "--host",
            "127.0.0.1",
            "--port",
            "4321",
        ),
        *("--max-model-len", "512", "--max-num-seqs", "3", "--disable-uvicorn-access-log"),
        *("--dtype", "float32", "--enforce-eager", "--no-enable-prefix-caching", "--seed", "7"),
        *("--override-generation-config", '{"top_k":5}', "--allowed-origins", "a", "b"),
    ]


def test_adapters_are_loaded_and_are_models_of_the_engine(tmp_path: Path):
    local = engine(adapters={"sql": str(tmp_path), "legal": "org/legal-lora"})
    words = build_command(local, port=1)
    at = words.index("--lora-modules")
    assert words[at - 1 : at + 3] == [
        "--enable-lora",
        "--lora-modules",
        f"sql={tmp_path}",
        "legal=org/legal-lora",
    ]
    assert to_upstream_settings(local, 1).adapters == ("sql", "legal")
    assert "HF_HUB_OFFLINE" not in build_environment(local)


def test_an_adapter_is_not_named_as_the_model_and_is_vllms():
    with pytest.raises(ValidationError, match="is the model's own name"):
        engine(adapters={"org/model": "x"})
    with pytest.raises(ValidationError, match="adapters is a key of vllm"):
        LocalEngine(adapters={"a": "b"})


@given(
    st.sampled_from(sorted(RESERVED_OPTIONS)),
    st.booleans(),
    st.sampled_from(["", "--"]),
    st.one_of(st.text(), st.integers()),
)
def test_an_argument_that_is_ours_is_refused_however_it_is_spelt(
    key: str, underscores: bool, dashes: str, value: str | int
):
    spelt = dashes + (key.replace("-", "_") if underscores else key)
    with pytest.raises(ConfigError, match=f"local.arguments.{key}: "):
        build_command(engine(arguments={spelt: value}), port=1)


def test_a_folder_is_served_under_its_own_name_and_asks_nobody(tmp_path: Path):
    folder = model_folder(tmp_path / "tiny")
    local = engine(model=str(folder))
    assert options_of(local)["--served-model-name"] == "tiny" == to_upstream_settings(local, port=1).model
    assert build_environment(local)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in build_environment(engine())


def test_a_draft_model_of_hugging_face_may_be_fetched(tmp_path: Path):
    speculative = {"method": "draft_model", "model": "org/draft", "num_speculative_tokens": 3}
    local = engine(model=str(model_folder(tmp_path / "tiny")), speculative=speculative)
    assert "HF_HUB_OFFLINE" not in build_environment(local)


def test_speculation_is_passed_as_it_is_and_what_it_cannot_do_is_known():
    speculative = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3}
    local = engine(speculative=speculative)
    assert json.loads(options_of(local)["--speculative-config"]) == speculative
    said = to_upstream_settings(local, port=1).capabilities
    assert (said.min_p, said.logit_bias) == (False, False)
    assert to_upstream_settings(engine(), port=1).capabilities.min_p is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"method": "ngram"}, "ngram needs num_speculative_tokens"),
        ({"method": "draft_model", "num_speculative_tokens": 2}, "draft_model needs a model"),
    ],
)
def test_what_a_method_needs_is_asked_for(fields: dict, expected: str):
    with pytest.raises(ValidationError, match=expected):
        Speculative(**fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"engine": "vllm", "model": "m", "threads": 2},
            "threads is a key of llamacpp, and the engine is vllm",
        ),
        ({"environment": {}}, "environment is a key of vllm, and the engine is llamacpp"),
        ({"engine": "vllm"}, "vllm needs a model"),
    ],
)
def test_a_key_of_the_other_engine_is_refused(fields: dict, expected: str):
    with pytest.raises(ValidationError, match=expected):
        LocalEngine(**fields)


def test_the_model_chooses_the_engine_and_its_other_settings_stay():
    assert select_local_engine("smollm2-135m-instruct", None).engine == "llamacpp"
    assert select_local_engine("some/where/file.gguf", engine()).engine == "llamacpp"
    assert select_local_engine("org/other", engine(slots=9)) == engine(model="org/other", slots=9)
    assert select_local_engine("org/model", LocalEngine(slots=9)) == engine()


def test_the_command_line_names_the_model_instead_of_the_file(tmp_path: Path):
    path = tmp_path / "smallfirst.yaml"
    path.write_text("local: {engine: vllm, model: org/model, slots: 5}\n")
    assert load_settings(path, "org/other").local == engine(model="org/other", slots=5)


@pytest.mark.parametrize("named", ["engine: vllm", "environment: {A: 1}"])
def test_the_command_line_names_the_model_that_the_file_lacks(tmp_path: Path, named: str):
    path = tmp_path / "smallfirst.yaml"
    path.write_text(f"local: {{{named}, slots: 5}}\n")
    local = load_settings(path, "org/other").local
    assert local is not None
    assert (local.engine, local.model, local.slots) == ("vllm", "org/other", 5)
    with pytest.raises(ConfigError, match=r"smallfirst.yaml:1: local: "):
        load_settings(path, "other.gguf")


def test_a_folder_is_meant_from_the_file_it_stands_in(tmp_path: Path):
    model_folder(tmp_path / "tiny")
    path = tmp_path / "smallfirst.yaml"
    path.write_text(
        "local: {engine: vllm, model: tiny,"
        " speculative: {method: draft_model, model: tiny, num_speculative_tokens: 2}}\n"
    )
    local = load_settings(path).local
    assert local is not None
    assert local.speculative is not None
    assert (local.model, local.speculative.model) == (str(tmp_path / "tiny"), str(tmp_path / "tiny"))


def test_secrets_that_the_engine_does_not_need_are_not_inherited():
    secrets = ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN")
    assert inherit_environment(dict.fromkeys(secrets, "secret") | {"HOME": "/h"}) == {"HOME": "/h"}


def test_a_python_that_has_it_is_found(tmp_path: Path):
    assert check_vllm(FakeVllm(tmp_path).engine()) == Path(sys.executable)


def test_without_it_the_message_says_what_it_would_bring_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SMALLFIRST_VLLM", raising=False)
    with pytest.raises(ConfigError) as error:
        check_vllm(engine())
    for word in ("speculative decoding", "pip install 'smallfirst[vllm]'", "SMALLFIRST_VLLM", "models list"):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("python", "speculative", "expected"),
    [
        ("/no/such/python", None, "can't be asked whether it has vLLM"),
        (sys.executable, {"method": "suffix"}, "has no module arctic_inference"),
    ],
)
def test_a_python_that_lacks_something_is_told(python: str, speculative: dict | None, expected: str):
    local = engine(python=python, speculative=speculative, environment={"PYTHONPATH": str(FAKE)})
    with pytest.raises(ConfigError, match=expected):
        check_vllm(local)


@pytest.mark.parametrize(
    ("words", "first", "expected"),
    [(9, "a", "a vocabulary of 9 tokens, and .* one of 8"), (8, "b", "vocabularies of different tokens")],
)
def test_a_draft_model_must_have_the_same_vocabulary(tmp_path: Path, words: int, first: str, expected: str):
    fake = FakeVllm(tmp_path)
    draft = model_folder(tmp_path / "draft", words, first=first)
    speculative = {"method": "draft_model", "model": str(draft), "num_speculative_tokens": 2}
    with pytest.raises(ConfigError, match=expected):
        check_vllm(fake.engine(speculative=speculative))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"model": "{}/none"},
            "local.model: there is no folder {}/none; a model of Hugging Face is named OWNER/NAME",
        ),
        ({"model": "./models/none"}, "local.model: there is no folder models/none"),
        ({"model": "{}/none.gguf"}, "local.model: there is no file {}/none.gguf"),
        ({"model": "{}"}, "local.model: the folder {} holds no config.json or params.json"),
        (
            {"speculative": {"method": "draft_model", "model": "{}/none", "num_speculative_tokens": 2}},
            "local.speculative.model: there is no folder {}/none",
        ),
        ({"adapters": {"sql": "{}/none"}}, "local.adapters.sql: there is no folder {}/none"),
        ({"adapters": {"sql": "{}"}}, "local.adapters.sql: the folder {} holds no adapter_config.json"),
    ],
)
def test_a_path_that_leads_nowhere_is_named_and_no_name_at_hugging_face(
    tmp_path: Path, fields: dict, expected: str
):
    written = json.loads(json.dumps(fields).replace("{}", str(tmp_path)))
    local = FakeVllm(tmp_path).engine(**written)
    with pytest.raises(ConfigError) as error:
        check_vllm(local)
    assert str(error.value).startswith(expected.replace("{}", str(tmp_path)))


def test_paths_are_meant_from_the_file_they_stand_in_also_if_nothing_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lora").mkdir()
    path = Path("smallfirst.yaml")
    path.write_text("local: {engine: vllm, model: ./none, adapters: {sql: lora, legal: org/legal}}\n")
    for named in (path, path.absolute()):
        local = load_settings(named).local
        assert local is not None
        assert (local.model, local.adapters) == (
            str(tmp_path / "none"),
            {"sql": str(tmp_path / "lora"), "legal": "org/legal"},
        )


def test_weights_that_no_memory_holds_are_refused_unless_they_are_made_smaller(tmp_path: Path):
    fake = FakeVllm(tmp_path)
    large = str(model_folder(tmp_path / "large", weights=10**13))
    with pytest.raises(ConfigError, match=r"the weights take 10000\.0 GB, and"):
        check_vllm(fake.engine(model=large))
    assert check_vllm(fake.engine(model=large, arguments={"cpu_offload_gb": 9999}))


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("Fetching 3 files:   0%|          | 0/3 [00:00<?, ?it/s]", "downloading"),
        (
            "(EngineCore pid=7) INFO [core.py:133] Initializing a V1 LLM engine (v0.32.0)",
            "starting the engine",
        ),
        ("(Worker pid=7) INFO [cpu_model_runner.py:68] Starting to load model m...", "loading the weights"),
        ("Loading safetensors checkpoint shards: 100% Completed | 1/1", "loading the weights"),
        (
            "(EngineCore pid=7) INFO [kv_cache_utils.py:2327] CPU KV cache size: 23,296 tokens",
            "making the cache",
        ),
        ("(Worker pid=7) INFO [backends.py:548] Dynamo bytecode transform time: 4.5 s", "compiling"),
        ("Capturing CUDA graphs (decode, FULL):  10%|", "capturing graphs"),
        (
            "(APIServer pid=7) INFO [api_utils.py:286] non-default args: {'host': '127.0.0.1'}",
            "starting the engine's process",
        ),
        ("INFO:     Application startup complete.", "warming up"),
        ("(Worker pid=7) INFO [default_loader.py:501] Loading weights took 1.96 seconds", None),
    ],
)
def test_the_stages_of_a_start_are_read_from_its_log(line: str, stage: str | None):
    found = parse_stage(line)
    assert (found and found.name) == stage
