"""Every relative link in a Markdown file leads somewhere."""

from pathlib import Path
from urllib.parse import unquote

import pytest

from tools.docs.markdown import ROOT, anchors, links, pages, prose


def broken(page: Path) -> list[str]:
    found = []
    for line, _, target in links(page.read_text(encoding="utf-8")):
        file, _, fragment = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        there = page.parent / unquote(file) if file else page
        if not there.exists():
            found.append(f"{page.name}:{line}: {target}: there is no such file")
        elif (
            there.suffix == ".md" and fragment and fragment not in anchors(there.read_text(encoding="utf-8"))
        ):
            found.append(f"{page.name}:{line}: {target}: there is no such heading")
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A title, `coded`\n[here](#a-title-coded) [there](other.md) [up](../nowhere)\n"
        "[no](#absent) [web](https://example.org/x) `[code](absent.md)`\n```\n[code](absent.md)\n```\n"
    )
    (tmp_path / "other.md").write_text("text")
    assert broken(page) == [
        "page.md:2: ../nowhere: there is no such file",
        "page.md:3: #absent: there is no such heading",
    ]


def test_prose_leaves_out_code_and_generated_sections() -> None:
    text = "one `x` 1\n~~~\ncode\n~~~\n<!-- generated:a -->\nmade\n<!-- /generated -->\n````\n```\n````\nlast"
    assert [(line.number, line.text) for line in prose(text)] == [(1, "one  1"), (11, "last")]
