"""What a judge said, kept in the user's cache folder as it comes: a run that was broken off goes on."""

import json
from pathlib import Path
from typing import Any

import platformdirs

KEPT = Path(platformdirs.user_cache_dir("smallfirst")) / "evaluators"


class Kept:
    """Rows of one file, by the answer's id."""

    def __init__(self, name: str) -> None:
        self._path = KEPT / f"{name.replace(':', '.')}.jsonl"
        self._rows: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            rows = map(json.loads, self._path.read_text(encoding="utf-8").splitlines())
            self._rows = {row["item"]: row for row in rows}

    def __contains__(self, item: str) -> bool:
        return item in self._rows

    def __getitem__(self, item: str) -> dict[str, Any]:
        return self._rows[item]

    def add(self, item: str, row: dict[str, Any]) -> None:
        self._rows[item] = {"item": item, **row}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(self._rows[item])}\n")
