"""`python -m tools.imports`: the graph of packages, and its circles."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.imports import find_circles, main, read_graph

Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a tree of modules; every folder is a package."""

    def tree(modules: dict[str, str]) -> Path:
        for name, source in modules.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
            for folder in path.relative_to(tmp_path).parents[:-1]:
                (tmp_path / folder / "__init__.py").touch()
        return tmp_path

    return tree


def test_statements_are_counted_by_the_package_that_they_import(write: Write) -> None:
    root = write(
        {
            "gateway/app.py": "import os, policies.loader\nfrom . import wire\nfrom .http.sse import read\n",
            "gateway/http/sse.py": "from ..wire import Body, Endpoint\nfrom gateway import wire\nfrom .sse import x\n",
            "gateway/wire.py": "import json\nfrom routers import plan\n",
            "policies/loader.py": "from routers.plan import Tier\n\ndef f():\n    import routers.plan\n",
            "routers/plan.py": "import routerslike\n",
        }
    )
    assert read_graph(root) == {
        "gateway": {},
        "gateway.app": {"policies.loader": 1, "gateway.wire": 1, "gateway.http": 1},
        "gateway.http": {"gateway.wire": 2},
        "gateway.wire": {"routers.plan": 1},
        "policies": {},
        "policies.loader": {"routers.plan": 2},
        "routers": {},
        "routers.plan": {},
    }


def test_a_tree_without_a_circle_passes_and_its_packages_are_printed(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(
        {
            "gateway/app.py": "from .a import x\nfrom .b.inner import deep\n",
            "gateway/a/x.py": "from ..b.inner.deep import D\nfrom gateway import errors\n",
            "gateway/b/inner/deep.py": "from policies.p.m import P",
            "gateway/errors.py": "from routers.r import m",
            "policies/p/m.py": "from .n import Q",
            "policies/p/n.py": "from .m import P",
            "routers/r/m.py": "",
        }
    )
    assert main(root) == 0
    assert capsys.readouterr().out.splitlines() == [
        "gateway.a -> gateway.b 1, gateway.errors 1",
        "gateway.b -> policies.p 1",
        "policies.p -> nothing",
        "routers.r -> nothing",
    ]


@pytest.mark.parametrize("top", ["gateway", "policies", "routers"])
def test_a_circle_through_a_module_beside_the_packages_fails(
    write: Write, capsys: pytest.CaptureFixture[str], top: str
) -> None:
    root = write({f"{top}/errors.py": "from .a import x", f"{top}/a/x.py": f"from {top}.errors import E"})
    assert main(root) == 1
    assert capsys.readouterr().err == f"circle: {top}.a -> {top}.errors -> {top}.a\n"


@pytest.mark.parametrize(
    "back",
    [
        "from gateway.http import sse",
        "import gateway.http.sse",
        "from ..http.sse import read",
        "def f():\n    from gateway.http import sse",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..http import sse",
    ],
)
def test_a_circle_fails_and_is_named(write: Write, capsys: pytest.CaptureFixture[str], back: str) -> None:
    root = write(
        {
            "gateway/http/sse.py": "from gateway.wire import Body",
            "gateway/wire.py": "from .upstreams.pool import Pool",
            "gateway/upstreams/pool.py": back,
            "gateway/alone.py": "from . import wire",
        }
    )
    assert main(root) == 1
    assert (
        capsys.readouterr().err
        == "circle: gateway.http -> gateway.wire -> gateway.upstreams -> gateway.http\n"
    )


def test_each_circle_is_named_once_and_the_shortest_first(write: Write) -> None:
    root = write(
        {
            "gateway/a.py": "from . import b, c",
            "gateway/b.py": "from . import d",
            "gateway/c.py": "from . import a",
            "gateway/d.py": "from . import a",
        }
    )
    assert find_circles(read_graph(root)) == [
        ("gateway.a", "gateway.c"),
        ("gateway.a", "gateway.b", "gateway.d"),
    ]
