"""Which parser of tool calls a model gets from vLLM, and what it means to have none."""

import json
from pathlib import Path

import pytest
from support.fake_engine import FAKE, FakeVllm, model_folder

from gateway.local.factory import build_local_engine, to_upstream_settings
from gateway.local.models.catalog import ModelCatalog
from gateway.local.settings import LocalEngine
from gateway.local.vllm.arguments import build_command
from gateway.local.vllm.parser_registry import read_reasoning_parsers, read_tool_parsers
from gateway.local.vllm.preflight import check_vllm
from gateway.local.vllm.tool_parsers import choose_tool_parser
from gateway.wire.requirements import Requirements
from policies.loading.yaml_files import ConfigError

QWEN = "{% if tools %}{{ '<tool_call>' }}{% endif %}"
LLAMA = '{% if tools %}Respond with {"name": function name, "parameters": dictionary of names and values}{% endif %}'
PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"


def engine(model: str | Path = "org/model", **fields: object) -> LocalEngine:
    return LocalEngine(engine="vllm", model=str(model), **fields)


def folder(
    path: Path, model_type: str, template: str | None, name: str = "chat_template.jinja", **more: object
) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    if template is not None:
        (path / name).write_text(json.dumps({"chat_template": template}) if "json" in name else template)
    return path


@pytest.mark.parametrize(
    ("model_type", "template", "parser"),
    [
        ("qwen2", QWEN, "hermes"),
        ("qwen3", QWEN, "hermes"),
        ("qwen3_moe", "{% if tools %}<tool_call><function=x>{% endif %}", "qwen3_coder"),
        ("llama", LLAMA, "llama3_json"),
        ("llama", QWEN, "hermes"),  # a fine-tune with a dialect of its own
        ("llama", PLAIN, None),
        ("qwen2", PLAIN, None),
        ("mistral", "{% if tools %}[TOOL_CALLS]{% endif %}", "mistral"),
        ("mistral3", None, "mistral"),  # its tokenizer has no template in Jinja
        ("granitemoehybrid", QWEN, "granite4"),
        ("granite", "{% if tools %}<|tool_call|>{% endif %}", "granite"),
        ("phi3", "{% if tools %}<|tool|>{% endif %}", "phi4_mini_json"),
        ("phi3", PLAIN, None),
        ("lfm2", "{% if tools %}List of tools{% endif %}", "lfm2"),
        ("unheard_of", QWEN, None),
    ],
)
def test_a_folders_model_type_and_template_choose_it(
    tmp_path: Path, model_type: str, template: str | None, parser: str | None
):
    assert choose_tool_parser(engine(folder(tmp_path / "m", model_type, template))) == parser


def test_the_template_is_read_where_transformers_look_for_it(tmp_path: Path):
    for name in ("tokenizer_config.json", "chat_template.json"):
        assert choose_tool_parser(engine(folder(tmp_path / name, "qwen2", QWEN, name))) == "hermes"
        assert choose_tool_parser(engine(folder(tmp_path / f"plain-{name}", "qwen2", PLAIN, name))) is None
    several = [{"name": "default", "template": PLAIN}, {"name": "tool_use", "template": QWEN}]
    named = folder(tmp_path / "named", "llama", None)
    (named / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert choose_tool_parser(engine(named)) == "hermes"


def test_a_template_of_the_arguments_is_the_one_that_counts(tmp_path: Path):
    plain = folder(tmp_path / "plain", "llama", PLAIN)
    (tmp_path / "tools.jinja").write_text(QWEN)
    for template in (QWEN, str(tmp_path / "tools.jinja")):
        assert choose_tool_parser(engine(plain, arguments={"chat_template": template})) == "hermes"


@pytest.mark.parametrize(
    ("model", "parser"),
    [
        ("Qwen/Qwen2.5-1.5B-Instruct", "hermes"),
        ("Qwen/Qwen3-0.6B", "hermes"),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3_coder"),
        ("Qwen/Qwen2-1.5B-Instruct", None),
        ("meta-llama/Llama-3.2-1B-Instruct", "llama3_json"),
        ("mistralai/Ministral-8B-Instruct-2410", "mistral"),
        ("ibm-granite/granite-3.3-2b-instruct", "granite"),
        ("ibm-granite/granite-4.0-micro", "granite4"),
        ("microsoft/Phi-4-mini-instruct", "phi4_mini_json"),
        ("microsoft/Phi-3.5-mini-instruct", None),
        ("HuggingFaceTB/SmolLM3-3B", "hermes"),
        ("HuggingFaceTB/SmolLM2-1.7B-Instruct", None),
        ("LiquidAI/LFM2-1.2B", "lfm2"),
        ("Salesforce/Llama-xLAM-2-8b-fc-r", "xlam"),
        ("openbmb/MiniCPM5-1B", "minicpm5"),
        ("Qwen/Qwen3-0.6B-Base", None),  # by its row of the catalog
        ("org/unheard-of", None),
    ],
)
def test_a_name_at_hugging_face_chooses_it(model: str, parser: str | None):
    assert choose_tool_parser(engine(model)) == parser


def test_it_is_passed_to_vllm_and_null_turns_tools_off():
    words = build_command(engine("Qwen/Qwen3-0.6B", reasoning_parser="qwen3"), port=1)
    at = words.index("--enable-auto-tool-choice")
    assert words[at : at + 5] == [
        "--enable-auto-tool-choice",
        *("--tool-call-parser", "hermes"),
        *("--reasoning-parser", "qwen3"),
    ]
    assert "pythonic" in build_command(engine(tool_parser="pythonic"), port=1)
    off = engine("Qwen/Qwen3-0.6B", tool_parser=None)
    assert "--tool-call-parser" not in build_command(off, port=1)
    assert to_upstream_settings(off, 1).capabilities.tools is False
    assert to_upstream_settings(engine(tool_parser="pythonic"), 1).capabilities.tools is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({}, "set local.tool_parser"), ({"tool_parser": None}, "local.tool_parser is null")],
)
async def test_without_one_the_refusal_names_the_key(tmp_path: Path, fields: dict, reason: str):
    local = FakeVllm(tmp_path).engine(**fields)
    upstream, supervisor = build_local_engine(local, tmp_path, lambda: None, lambda step: None)
    mismatch = upstream.find_mismatch(Requirements(frozenset({"tools"})))
    await supervisor.stop()
    await upstream.close()
    assert mismatch is not None
    assert mismatch.why == "incapable"
    assert reason in str(mismatch)


def test_vllm_itself_says_which_there_are(tmp_path: Path):
    fake = FakeVllm(tmp_path)
    assert read_tool_parsers(FAKE / "vllm") == {"hermes", "pythonic"}
    assert read_reasoning_parsers(FAKE / "vllm") == frozenset()  # another version may keep them elsewhere
    assert check_vllm(fake.engine(tool_parser="hermes", reasoning_parser="any"))
    with pytest.raises(
        ConfigError, match=r"local.tool_parser: .* no parser 'hermse'; it has: hermes, pythonic"
    ):
        check_vllm(fake.engine(tool_parser="hermse"))
    assert check_vllm(fake.engine(tool_parser="mine", arguments={"tool_parser_plugin": "mine.py"}))


def test_a_model_of_a_cut_file_gets_none(tmp_path: Path):
    cut = model_folder(tmp_path / "cut")
    (cut / "config.json").write_text("{")
    assert choose_tool_parser(engine(cut)) is None


def test_a_family_has_the_parser_of_its_rows_in_the_catalog():
    for card in ModelCatalog.load().cards:
        if card.tool_parser is not None and card.safetensors is not None:
            tuned = f"someone/{card.safetensors.partition('/')[2]}-tuned"
            assert choose_tool_parser(engine(tuned)) == card.tool_parser, card.name
