"""Chooses vLLM's parser of tool calls by the model's family."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from gateway.local.models.catalog import ModelCatalog
from gateway.local.settings import LocalEngine

AUTO = "auto"
"""The value of `local.tool_parser` that stands for the choice by family."""


class ToolDialect(NamedTuple):
    """How a family of models writes tool calls. `parser` is vLLM's name of what reads them.

    `names` matches the names of repositories, `model_types` are those of config.json. `marker` is a text that the
    chat template of such a model holds: families share model types, and fine-tunes have dialects of their own.
    """

    parser: str
    families: str
    names: str
    model_types: frozenset[str]
    marker: str = ""


def _types(names: str) -> frozenset[str]:
    return frozenset(names.split())


DIALECTS = (
    ToolDialect(
        "qwen3_coder",
        "Qwen3-Coder, Qwen3.5",
        r"qwen3-coder|qwen3\.[5-9]",
        _types("qwen3 qwen3_moe qwen3_next qwen3_5 qwen3_5_moe"),
        "<function=",
    ),
    ToolDialect("xlam", "xLAM", r"xlam", frozenset()),
    ToolDialect("pythonic", "ToolACE", r"toolace", frozenset()),
    ToolDialect(
        "hermes",
        "Qwen2.5, QwQ, Qwen3, Hermes 2 Pro and 3, SmolLM3, EXAONE 4",
        r"qwen2\.5|qwq|qwen3|hermes-[23]|smollm3|exaone-4",
        _types("qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next llama mistral smollm3 exaone4"),
        "<tool_call>",
    ),
    ToolDialect(
        "llama3_json",
        "Llama 3.1, 3.2 and 3.3",
        r"llama-?3\.[123]",
        _types("llama mllama"),
        '"parameters": dictionary',
    ),
    ToolDialect(
        "mistral",
        "Mistral from 7B Instruct v0.3 on, Ministral",
        r"mistral-7b-instruct-v0\.3|mistral-(nemo|small|large)|ministral",
        _types("mistral mistral3 ministral ministral3"),
        "[TOOL_CALLS]",
    ),
    ToolDialect("granite4", "Granite 4", r"granite-4", _types("granite granitemoehybrid"), "<tool_call>"),
    ToolDialect(
        "granite", "Granite 3", r"granite-3", _types("granite granitemoe granitemoeshared"), "<|tool_call|>"
    ),
    ToolDialect("minicpm5", "MiniCPM5", r"minicpm5", _types("llama"), "<function name="),
    ToolDialect("phi4_mini_json", "Phi-4-mini", r"phi-4-mini", _types("phi3"), "<|tool|>"),
    ToolDialect("lfm2", "LFM2, LFM2.5", r"lfm2", _types("lfm2 lfm2_moe")),
    ToolDialect("gemma4", "Gemma 4", r"gemma-4", _types("gemma4 gemma4_text")),
    ToolDialect(
        "functiongemma", "FunctionGemma", r"functiongemma", _types("gemma3_text"), "<start_function_call>"
    ),
    ToolDialect("olmo3", "OLMo 3", r"olmo-?3", _types("olmo3")),
    ToolDialect("internlm", "InternLM 2.5", r"internlm2_5", _types("internlm2"), "<|action_start|>"),
    ToolDialect("apertus", "Apertus", r"apertus", _types("apertus")),
    ToolDialect("jamba", "Jamba", r"jamba", _types("jamba"), "<tool_calls>"),
    ToolDialect("openai", "gpt-oss", r"gpt-oss", _types("gpt_oss")),
)
"""The first that fits is chosen."""


def choose_tool_parser(local: LocalEngine) -> str | None:
    """Return vLLM's name of the parser of tool calls, or None if the model gets no tools."""
    if local.tool_parser != AUTO:
        return local.tool_parser
    folder = Path(local.model).expanduser()
    if (folder / "config.json").is_file():
        return _choose_by_folder(folder, _find_template(local.arguments))
    if (card := ModelCatalog.load().find(local.model)) is not None:
        return card.tool_parser
    return next((each.parser for each in DIALECTS if re.search(each.names, local.model, re.IGNORECASE)), None)


def explain_missing_tools(local: LocalEngine) -> str:
    """Return why the model gets no tools, and which key would change that."""
    if local.tool_parser is None:
        return "local.tool_parser is null"
    return "no parser of tool calls is known for this model and its chat template: set local.tool_parser"


def _choose_by_folder(folder: Path, given_template: str | None) -> str | None:
    """Choose by the model type and the chat template. A template that has no tools never shows them to the model.

    Without a template in Jinja, as Mistral's tokenizers have none, the model type decides.
    """
    model_type = _read_object(folder / "config.json").get("model_type")
    template = given_template if given_template is not None else _read_template(folder)
    for dialect in DIALECTS:
        fits = template is None or (dialect.marker in template and "tools" in template)
        if model_type in dialect.model_types and fits:
            return dialect.parser
    return None


def _find_template(arguments: dict[str, Any]) -> str | None:
    """Return the chat template of vLLM's arguments: the text itself, or a file that holds it."""
    for key, value in arguments.items():
        if key.replace("_", "-").removeprefix("--") == "chat-template" and isinstance(value, str):
            return value if "{" in value else _read_text(Path(value).expanduser())
    return None


def _read_template(folder: Path) -> str | None:
    """Return the chat template of a model's folder, where transformers look for it; None if there is none."""
    if (text := _read_text(folder / "chat_template.jinja")) is not None:
        return text
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = _read_object(folder / name).get("chat_template")
        if isinstance(template, list):  # several by name, of which one may be for tools
            return " ".join(str(each.get("template")) for each in template if isinstance(each, dict))
        if isinstance(template, str):
            return template
    return None


def _read_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _read_object(path: Path) -> dict[str, Any]:
    """Return a file's JSON object; an empty one if it holds none. The checks before the start report bad JSON."""
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}
