"""The table of docs/results/overhead.json."""

from tools.docs.measured.results import found_in, linked
from tools.docs.table import table


def overhead_table() -> str:
    """CPU of the gateway's process a request, and its ratio to the bare pass-through."""
    report = found_in("overhead")["lines"]
    rows = []
    for scenario in ("plain", "stream_saturated", "stream_paced"):
        for row, found in report[scenario].items():
            if not found["cpu"]:
                continue
            at = f"/lines/{scenario}/{row}"
            cpu, ratio = found["cpu"], found["ratio"]
            rows.append(
                (
                    scenario.replace("_", " "),
                    row.replace("_", " "),
                    linked(f"{cpu['median']:.0f}", "overhead", f"{at}/cpu/median"),
                    linked(f"{ratio['median']:.2f}", "overhead", f"{at}/ratio/median"),
                    _range(ratio, f"{at}/ratio"),
                )
            )
    return table(("scenario", "gateway", "CPU, µs a request", "ratio to bare", "over the rounds"), rows)


def _range(values: dict[str, float], pointer: str) -> str:
    low, high = (linked(f"{values[end]:.2f}", "overhead", f"{pointer}/{end}") for end in ("low", "high"))
    return f"{low} to {high}"
