"""Reads the repository's Markdown: its pages, their prose, their links."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("benchmarks", "deploy", "docs", "gateway", "policies", "routers", "tests", "tools")

_GENERATED = re.compile(r"<!-- (generated:[\w-]+|/generated) -->")
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
_LINK = re.compile(r"\[([^\[\]]*)\]\(([^()\s]+)\)")


class Line(NamedTuple):
    number: int
    text: str


class Link(NamedTuple):
    line: int
    text: str
    target: str


def pages(root: Path = ROOT) -> list[Path]:
    """All Markdown files of the repository, in order."""
    return sorted(
        [*root.glob("*.md"), *(page for folder in FOLDERS for page in (root / folder).rglob("*.md"))]
    )


def prose(text: str) -> Iterator[Line]:
    """The lines that a person wrote: none of code blocks or of generated sections, inline code left out."""
    fence = ""
    generated = False
    for number, line in enumerate(text.splitlines(), 1):
        opening = re.match(r"\s*(`{3,}|~{3,})", line)
        if opening and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else opening[1]
        elif marker := _GENERATED.search(line):
            generated = marker[1] != "/generated"
        elif not fence and not generated:
            yield Line(number, _CODE.sub("", line))


def links(text: str) -> Iterator[Link]:
    """The links of the lines that a person wrote."""
    for number, line in prose(text):
        for found in _LINK.finditer(line):
            yield Link(number, found[1], found[2])


def anchors(text: str) -> set[str]:
    """The fragments that a page's headings can be linked by, as GitHub makes them."""
    found = (re.match(r"#{1,6}\s+(.*)", line) for line in text.splitlines())
    return {
        re.sub(r"[^\w\- ]", "", title[1].strip().casefold()).replace(" ", "-") for title in found if title
    }


def fenced(text: str, info: str) -> list[str]:
    """The contents of the code blocks that are marked so: ```` ```yaml policy ```` has the info `yaml policy`."""
    blocks = re.findall(r"^```([^`\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [content for marked, content in blocks if marked == info]
