"""The table of vLLM's parsers of tool calls."""

from gateway.local.vllm.tool_parsers import DIALECTS
from tools.docs.table import table


def tool_parsers_table() -> str:
    """Return vLLM's parser by family of models."""
    rows = [(each.families, f"`{each.parser}`", _list_types(each.model_types)) for each in DIALECTS]
    return table(("models", "parser", "`model_type`"), rows)


def _list_types(model_types: frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(model_types)) or "only by its name at Hugging Face"
