"""Reads which parsers an installed vLLM has, without importing it, which takes many seconds."""

import ast
from pathlib import Path


def read_tool_parsers(vllm_folder: Path) -> frozenset[str]:
    """Return the names of the parsers of tool calls; none if this version of vLLM keeps them elsewhere."""
    return _read_names(vllm_folder / "tool_parsers" / "__init__.py", "_TOOL_PARSERS_TO_REGISTER")


def read_reasoning_parsers(vllm_folder: Path) -> frozenset[str]:
    """Return the names of the parsers of reasoning; none if this version of vLLM keeps them elsewhere."""
    return _read_names(vllm_folder / "reasoning" / "__init__.py", "_REASONING_PARSERS_TO_REGISTER")


def _read_names(module: Path, variable: str) -> frozenset[str]:
    """Return the keys of a dictionary that a module assigns to a variable."""
    try:
        tree = ast.parse(module.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    tables = [
        statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Dict)
        and any(isinstance(target, ast.Name) and target.id == variable for target in statement.targets)
    ]
    return frozenset(
        key.value
        for table in tables
        for key in table.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    )
