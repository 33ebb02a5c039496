"""Names that say nothing are refused: of functions, classes, parameters, fields, and variables of a module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REFUSED = frozenset(("told", "found", "one", "asked", "looked", "kept", "whole"))
FILES = sorted(path for name in ("gateway", "routers", "policies") for path in (ROOT / name).rglob("*.py"))

PUBLISHED_FIELDS = {
    "Limits.whole": "a key of smallfirst.yaml",
    "DraftingCounts.whole": "a key of what `smallfirst models bench --json` writes",
    "Request.whole": "a router of one's own reads it, and the record has it under this name",
    "RequestLine.whole": "a key of records",
    "Draft.kept": "a router of one's own reads it, and the record has it under this name",
    "Call.kept": "written to the record under this name",
    "CallLine.kept": "a key of records",
    "ReplayedCall.kept": "compared with the record's key of this name",
}
"""Fields that keep their name, and why."""

Names = Iterator[tuple[int, str]]


def defined_names(tree: ast.Module) -> Names:
    """The line and name of each function, method, class, parameter, field, and variable of the module.

    A field's name is preceded by that of its class.
    """
    yield from stored_names(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (
                (inner.lineno, inner.arg) for inner in ast.walk(node.args) if isinstance(inner, ast.arg)
            )
        if isinstance(node, ast.ClassDef):
            yield from ((line, f"{node.name}.{name}") for line, name in stored_names(node.body))


def stored_names(body: list[ast.stmt]) -> Names:
    """The line and name of each variable that the statements of a module or class assign or annotate."""
    for statement in body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.lineno, node.id


def refused_names(source: str) -> Names:
    for line, name in defined_names(ast.parse(source)):
        if name.rpartition(".")[2].strip("_") in REFUSED and name not in PUBLISHED_FIELDS:
            yield line, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_says_nothing(path: Path) -> None:
    refused = refused_names(path.read_text(encoding="utf-8"))
    assert [f"{path}:{line}: {name}" for line, name in refused] == []


def test_each_published_field_exists() -> None:
    names = {name for path in FILES for _, name in defined_names(ast.parse(path.read_text(encoding="utf-8")))}
    assert PUBLISHED_FIELDS.keys() - names == set()


@pytest.mark.parametrize(
    "source",
    [
        "def told(): ...",
        "async def _found(): ...",
        "class one: ...",
        "class A:\n    def asked(self): ...",
        "def f(a, /, b, *looked): ...",
        "def f(a, *, kept=1, **b): ...",
        "f = 1\n\ndef g():\n    def one(): ...",
        "whole = 1",
        "a, kept = 1, 2",
        "class A:\n    whole: int = 1",
    ],
)
def test_each_kind_of_name_is_refused(source: str) -> None:
    assert len([*refused_names(source)]) == 1


def test_local_variables_and_names_that_only_contain_a_word_are_not_refused() -> None:
    source = "def find_one(kept_answers):\n    found = kept_answers[0]\n    return found\n"
    assert [*refused_names(source)] == []
