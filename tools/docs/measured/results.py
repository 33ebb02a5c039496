"""Reads docs/results/NAME.json, and links a number in a page to the value that it was rounded from."""

import json
from typing import Any

from tools.docs.markdown import ROOT

RESULTS = ROOT / "docs" / "results"


def found_in(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_bytes())
    return found


def linked(text: str, name: str, pointer: str) -> str:
    return f"[{text}](results/{name}.json#{pointer})"


def interval(values: list[float], name: str, pointer: str, scale: float = 1.0, digits: int = 2) -> str:
    parts = [
        linked(f"{value * scale:.{digits}f}", name, f"{pointer}/{index}")
        for index, value in enumerate(values)
    ]
    return f"{parts[0]} ({parts[1]} to {parts[2]})"
