"""Prints which of our packages import which, and exits 1 if the imports form a circle: `python -m tools.imports`.

A node is a part of `gateway`, `policies` or `routers`: a sub-package (`gateway.engine`), or a module beside them
(`gateway.errors`). Only what sub-packages import is printed; circles are looked for among all nodes. Every import
statement counts, also one inside a function or under TYPE_CHECKING.
"""

import ast
import sys
from collections import Counter, deque
from collections.abc import Iterator, Set
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gateway", "policies", "routers")
Graph = dict[str, Counter[str]]
"""Each node, the nodes that it imports, and by how many statements."""


def read_graph(root: Path) -> Graph:
    """The import graph of the packages that lie in `root`."""
    files = {
        _module(path.relative_to(root)): path for name in PACKAGES for path in (root / name).rglob("*.py")
    }
    graph: Graph = {_node(module): Counter() for module in sorted(files)}
    for module, path in files.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            imported = {_node(name) for name in _imported(statement, package, files.keys())}
            graph[_node(module)].update(imported - {_node(module)})
    return graph


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _node(module: str) -> str:
    """`gateway.engine.streams.relay` -> `gateway.engine`."""
    return ".".join(module.split(".")[:2])


def _imported(statement: ast.AST, package: str, modules: Set[str]) -> Iterator[str]:
    """Our modules that the statement imports. In `from a import b`, `b` may be a module or a name in `a`."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names if alias.name in modules)
    elif isinstance(statement, ast.ImportFrom):
        source = _absolute(statement, package)
        for alias in statement.names:
            name = f"{source}.{alias.name}"
            yield from (name,) if name in modules else (source,) if source in modules else ()


def _absolute(statement: ast.ImportFrom, package: str) -> str:
    """`from ..x import y` in the package `a.b` -> `a.x`."""
    if not statement.level:
        return statement.module or ""
    above = package.split(".")[: len(package.split(".")) - statement.level + 1]
    return ".".join([*above, *filter(None, [statement.module])])


def _is_subpackage(root: Path, node: str) -> bool:
    return "." in node and root.joinpath(*node.split("."), "__init__.py").is_file()


def find_circles(graph: Graph) -> list[tuple[str, ...]]:
    """For each node that imports itself through others the shortest such circle, each circle once, short ones first."""
    circles = {_rotate(circle) for node in graph if (circle := _shortest_circle(graph, node))}
    return sorted(circles, key=lambda circle: (len(circle), circle))


def _shortest_circle(graph: Graph, start: str) -> tuple[str, ...]:
    paths: deque[tuple[str, ...]] = deque([(start,)])
    seen: set[str] = set()
    while paths:
        path = paths.popleft()
        for node in sorted(graph[path[-1]]):
            if node == start:
                return path
            if node not in seen:
                seen.add(node)
                paths.append((*path, node))
    return ()


def _rotate(circle: tuple[str, ...]) -> tuple[str, ...]:
    """The circle from its first node in the alphabet."""
    place = circle.index(min(circle))
    return circle[place:] + circle[:place]


def main(root: Path = ROOT) -> int:
    """Prints the graph of sub-packages, then the circles. Returns the exit status."""
    graph = read_graph(root)
    for node in filter(lambda node: _is_subpackage(root, node), graph):
        shown = ", ".join(f"{name} {count}" for name, count in sorted(graph[node].items()))
        print(f"{node} -> {shown or 'nothing'}")
    circles = find_circles(graph)
    for circle in circles:
        print(f"circle: {' -> '.join([*circle, circle[0]])}", file=sys.stderr)
    return 1 if circles else 0


if __name__ == "__main__":
    sys.exit(main())
