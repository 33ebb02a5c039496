"""Tables of docs/results/relevance.json, for the page of the filter."""

from typing import Any

from tools.docs.measured.results import found_in
from tools.docs.table import table

NAME = "relevance"
JUDGES = {
    "words": "none: common words (BM25)",
    "small_likelihood": "SmolLM2-135M, likelihood",
    "small_verdict": "SmolLM2-135M, verdict",
    "large_verdict": "Qwen2.5-Coder-1.5B, verdict",
}
WRITERS = {"small": "SmolLM2-135M", "large": "Qwen2.5-Coder-1.5B"}
SHOWN = {
    "all": "all passages",
    "filtered": "those that SmolLM2-135M keeps by likelihood",
    "filtered_by_verdict": "by verdict",
    "gold": "the gold ones alone",
}


def judges_table() -> str:
    """How often a passage that answers stands over one that does not, and what the default filter leaves."""
    found = found_in(NAME)
    rows = [(told, *_judge(found[key], f"/{key}")) for key, told in JUDGES.items() if key in found]
    head = (
        "judge",
        "questions",
        "AUROC within a question",
        "over all passages",
        "the same, not calibrated",
        "gold kept",
        "distractors kept",
        "words kept",
        "seconds a passage",
    )
    return table(head, rows)


def _judge(row: dict[str, Any], at: str) -> list[str]:
    raw, seconds = row.get("auroc_uncalibrated"), row.get("seconds_a_passage")
    return [
        _linked(str(row["questions"]), f"{at}/questions"),
        _interval(row["auroc"]["within"], f"{at}/auroc/within"),
        _interval(row["auroc"]["all"], f"{at}/auroc/all"),
        _interval(raw["all"], f"{at}/auroc_uncalibrated/all") if raw else "",
        *(_share(row["left"][what], f"{at}/left/{what}") for what in ("gold", "distractors", "words")),
        _linked(f"{seconds:.1f}", f"{at}/seconds_a_passage") if seconds else "",
    ]


def answers_table() -> str:
    """Questions answered right, by what of the passages the writer is shown."""
    found = found_in(NAME)
    rows = []
    for writer, told in WRITERS.items():
        keys = [f"{writer}_answers_{shown}" for shown in SHOWN]
        rights = [_percent(found[key]["right"], f"/{key}/right") if key in found else "" for key in keys]
        if any(rights):
            asked = f"{writer}_answers_all"
            rows.append((told, _linked(str(found[asked]["questions"]), f"/{asked}/questions"), *rights))
    return table(("answers by", "questions", *SHOWN.values()), rows)


def _interval(values: list[float], pointer: str) -> str:
    value, low, high = (_linked(f"{one:.2f}", f"{pointer}/{at}") for at, one in enumerate(values))
    return f"{value} ({low} to {high})"


def _percent(values: list[float], pointer: str) -> str:
    value, low, high = (_share(one, f"{pointer}/{at}") for at, one in enumerate(values))
    return f"{value} ({low} to {high})"


def _share(value: Any, pointer: str) -> str:
    return _linked(f"{value:.0%}".replace("%", " %"), pointer)


def _linked(text: str, pointer: str) -> str:
    return f"[{text}](../results/{NAME}.json#{pointer})"
