"""What llama.cpp's options in the settings become, held against llama.cpp's own parser of options."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from gateway.local.llamacpp.arguments import BATCH_OPTIONS, choose_batch, parse_arguments
from gateway.local.llamacpp.option_types import (
    Adapters,
    Choice,
    Choices,
    File,
    FileContent,
    Integer,
    Number,
    Numbers,
    ScaledAdapters,
    Switch,
    TemplateArguments,
    Text,
)
from gateway.local.llamacpp.options import BY_NAME, OPTIONS, Option
from gateway.local.llamacpp.refused_options import REFUSED
from gateway.local.llamacpp.startup_log import StartupLog, find_warnings

PARSER = Path(__file__).parents[3] / "support" / "llamacpp_parser.py"
SAMPLES: dict[str, Any] = {
    "override-tensor": r"blk\.0\.ffn.*=CPU",
    "spec-draft-override-tensor": r"blk\.0\.ffn.*=CPU",
    "spec-draft-device": "none",
    "chat-template": "chatml",
    "mirostat": 1,
}


def run_parser(tmp_path: Path, *words: str, given: str = "") -> str:
    """No variable and no file of the user's changes what the parser does."""
    environment = {"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run(
        [sys.executable, str(PARSER), *words],
        input=given, capture_output=True, text=True, env=environment, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def list_names(help_text: str) -> set[str]:
    """Names of the options: what begins with a dash before an option's description."""
    names: set[str] = set()
    for line in help_text.splitlines():
        if line.startswith("-") and not line.startswith("-----"):
            for part in re.split(r",\s*", line):
                found = re.match(r"--?([A-Za-z][\w.-]*)", part.strip())
                if found is None:
                    break
                names.add(found[1])
                if " " in part.strip():
                    break
    return names


SAMPLES_BY_TYPE: dict[type, list[Any]] = {
    Switch: [True, False],
    File: ["some/file.gguf"],
    Adapters: [["a.gguf", "b.gguf"]],
    ScaledAdapters: [{"a.gguf": 0.5, "b.gguf": 2.0}],
    Numbers: [[3, 1], [2048]],
    TemplateArguments: [{"enable_thinking": False, "effort": "low"}],
    Text: ["some text"],
}


def list_samples(option: Option, template: Path) -> list[Any]:
    """Values as they stand in YAML."""
    if option.name in SAMPLES:
        return [SAMPLES[option.name]]
    match option.type:
        case Integer(minimum=least, words=words):
            return [max(3, least or 0), 40, *words]
        case Number(minimum=least):
            return [max(0.25, least), 2]
        case Choice(values=values):
            return list(values)
        case Choices(choice=choice):
            return [[name] for name in choice.values]
        case FileContent():
            return [str(template)]
        case _:
            return SAMPLES_BY_TYPE[type(option.type)]


def to_words(option: Option, value: Any) -> list[str] | None:
    """The command line for a value, or None if llama.cpp has none, as for a switch that cannot be turned off."""
    name = f"--{option.name}"
    if isinstance(option.type, Switch):
        if value:
            return [name]
        return [f"--{option.negative[0]}"] if option.negative else None
    if isinstance(option.type, TemplateArguments):
        return [name, json.dumps(value)]
    if isinstance(value, Mapping):
        return [name, ",".join(f"{key}:{item}" for key, item in value.items())]
    return [name, ",".join(map(str, value)) if isinstance(value, list) else str(value)]


def test_each_option_sets_what_llama_cpps_own_parser_sets(tmp_path: Path):
    template = tmp_path / "template.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    cases = []
    for option in OPTIONS:
        if option.name in BATCH_OPTIONS:
            continue  # the gateway sets both sizes at once
        for value in list_samples(option, template):
            words = to_words(option, value)
            if words is not None:
                cases.append((words, parse_arguments({option.name: value})))
    assert len(cases) > len(OPTIONS)
    assert json.loads(run_parser(tmp_path, given=json.dumps(cases)).splitlines()[-1]) == []


def test_each_option_of_llama_cpp_is_known_or_refused_with_a_reason(tmp_path: Path):
    names = list_names(run_parser(tmp_path, "--help"))
    assert len(names) > 300
    assert names <= BY_NAME.keys() | REFUSED.keys()
    replaced = {name for name, reason in REFUSED.items() if "replaced" in reason}
    assert (BY_NAME.keys() | REFUSED.keys()) - replaced <= names
    assert not BY_NAME.keys() & REFUSED.keys()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ngl": 20}, {"n-gpu-layers": 20}),
        ({"--n_gpu_layers": "all"}, {"n-gpu-layers": "all"}),
        ({"fa": True}, {"flash-attn": "on"}),
        ({"no-kv-offload": True}, {"kv-offload": False}),
        ({"tensor-split": "3,1"}, {"tensor-split": [3.0, 1.0]}),
        ({"tensor-split": 2}, {"tensor-split": [2.0]}),
        ({"lora": "a.gguf, b.gguf"}, {"lora": ["a.gguf", "b.gguf"]}),
        ({"lora-scaled": "a.gguf:0.5"}, {"lora-scaled": {"a.gguf": 0.5}}),
        ({"md": "draft.gguf"}, {"spec-draft-model": "draft.gguf"}),
        ({"spec-type": "ngram-mod"}, {"spec-type": ["ngram-mod"]}),
    ],
)
def test_names_and_values_are_taken_as_llama_cpp_takes_them(given: dict[str, Any], expected: dict[str, Any]):
    assert parse_arguments(given) == expected
    assert parse_arguments(expected) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"n-gpu-layer": 3},
            r"n-gpu-layer: .* did you mean n-gpu-layers\? docs/llamacpp-options.md lists all",
        ),
        ({"zzz": 1}, "zzz: llama.cpp has no such option: docs/llamacpp-options.md lists all"),
        (
            {"n-gpu-layers": "many"},
            "n-gpu-layers: expected an integer of at least 0, or auto, or all, not 'many'",
        ),
        ({"main-gpu": True}, "main-gpu: expected an integer"),
        ({"main-gpu": 2**31}, "main-gpu: expected an integer"),
        ({"swa-full": "yes"}, "swa-full: expected true or false"),
        ({"cache-type-k": "q3"}, "cache-type-k: expected one of f32, f16, bf16"),
        ({"rope-freq-base": "high"}, "rope-freq-base: expected a number"),
        ({"rope-freq-base": 10**400}, "rope-freq-base: expected a number"),
        ({"rope-freq-base": float("nan")}, "rope-freq-base: expected a number"),
        ({"rope-scale": 0}, "rope-scale: expected a number"),
        ({"tensor-split": "a,b"}, "tensor-split: expected a list of numbers"),
        ({"lora": []}, "lora: expected a path"),
        ({"lora-scaled": "a.gguf"}, "lora-scaled: expected a mapping"),
        ({"chat-template-kwargs": "x"}, "chat-template-kwargs: expected a mapping"),
        ({"ngl": 1, "gpu-layers": 2}, "gpu-layers: n-gpu-layers is set twice"),
        ({"batch-size": 64, "ubatch-size": 32}, "batch-size and ubatch-size must be equal"),
        ({"ctx-size": 4096}, "ctx-size: use local.context"),
        ({"parallel": 2}, "parallel: use local.slots"),
        ({"api-key": "x"}, "api-key: the gateway sets it"),
        ({"no-mmap": True}, "no-mmap: llama.cpp has replaced it; use load-mode"),
        ({"device": "CUDA0"}, "device: .* use main-gpu with split-mode: none"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_right(given: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=rf"^arguments(\.|: ){message}"):
        parse_arguments(given)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)


@examples(max_examples=30)
@given(st.dictionaries(st.sampled_from(sorted(BY_NAME)) | st.just("another"), VALUES, max_size=2))
def test_any_argument_is_parsed_for_good_or_refused(given: dict[str, Any]):
    try:
        values = parse_arguments(given)
    except ValueError:
        return
    assert parse_arguments(json.loads(json.dumps(values))) == values


def test_the_batch_is_what_the_user_chose():
    assert choose_batch({}) == 512
    assert choose_batch(parse_arguments({"ub": 64})) == choose_batch(parse_arguments({"b": 64})) == 64


class Device:
    def __init__(self, name: str) -> None:
        self.name = name


def test_what_an_option_does_not_bring_is_a_warning():
    cpu, gpu = Device("GGML_BACKEND_DEVICE_TYPE_CPU"), Device("GGML_BACKEND_DEVICE_TYPE_GPU")
    options = {"n-gpu-layers": 99, "spec-draft-ngl": "auto"}
    (warning,) = find_warnings(options, lambda: [{"type": cpu}])
    assert warning == "no usable GPU found: n-gpu-layers is ignored"
    assert find_warnings(options, lambda: [{"type": cpu}, {"type": gpu}]) == []
    assert find_warnings({"n-gpu-layers": "auto"}, lambda: [{"type": cpu}]) == []
    (warning,) = find_warnings({"spec-type": ["ngram-mod"]}, lambda: [{"type": cpu}])
    assert "policies that judge its drafts by log-probabilities are not served" in warning
    log = StartupLog()
    assert (log.parse_line("warning: no GPU"), log.parse_line("no warning: here")) == (("no GPU", ""), None)
