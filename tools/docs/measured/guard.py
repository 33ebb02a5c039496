"""The table of docs/results/guard.json."""

from typing import Any

from tools.docs.measured.results import found_in
from tools.docs.table import table

NAME = "guard"
MODELS = {"small": "SmolLM2-135M-Instruct", "large": "Qwen2.5-Coder-1.5B-Instruct"}
PARTS = {"input": "requests", "output": "answers"}


def guard_table() -> str:
    """What each judge is worth on each part."""
    found = found_in(NAME)
    rows = [_row(found[model][part], model, part) for model in MODELS for part in PARTS]
    return table(("judge", "of", "AUROC", "", "harmful flagged", "harmless flagged"), rows)


def _row(found: dict[str, Any], model: str, part: str) -> list[str]:
    def linked(text: str, *keys: str) -> str:
        return f"[{text}](../results/{NAME}.json#/{model}/{part}/{'/'.join(keys)})"

    value, low, high = (linked(f"{each:.2f}", "auroc", str(at)) for at, each in enumerate(found["auroc"]))
    flagged = [
        linked(f"{found[name]:.0%}".replace("%", " %"), name)
        for name in ("flagged_harmful", "flagged_harmless")
    ]
    chance = "" if found["better_than_chance"] else "no better than chance"
    return [MODELS[model], PARTS[part], f"{value} ({low} to {high})", chance, *flagged]
