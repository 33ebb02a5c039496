"""Tables of docs/results/compression.json and docs/results/scoring.json, for the page of compression."""

from typing import Any

from tools.docs.measured.results import found_in
from tools.docs.table import table

COMPRESSION, SCORING = "compression", "scoring"

SETS = {
    "gsm8k": "GSM8K, chains of thought",
    "bbh": "BIG-Bench-Hard, all of these",
    "object_counting": "object counting",
    "sports_understanding": "sports understanding",
    "navigate": "navigate",
}
WAYS = {"full": "in full", "compressed": "compressed", "truncated": "cut off", "llmlingua": "by LLMLingua"}
ENGINES = {"llamacpp": "llama.cpp, one thread", "vllm": "vLLM, 32 bits"}
READ = {
    "states": "hidden states",
    "forced": "each token forced",
    "prompt_logprobs": "`prompt_logprobs`",
}


def quality_table() -> str:
    """Right answers of the large model by how its few-shot prompt was made shorter."""
    found = found_in(COMPRESSION)["sets"]
    rows = []
    for name, told in SETS.items():
        one = found.get(name, {"questions": 0})
        if not one["questions"]:
            continue
        questions = _linked(one["questions"], "{:.0f}", COMPRESSION, f"/sets/{name}/questions")
        cells = [_interval(one["accuracy"].get(way), f"/sets/{name}/accuracy/{way}") for way in WAYS]
        rows.append((told, questions, *cells))
    return table(("right answers", "questions", *WAYS.values()), rows)


def _interval(values: list[float] | None, pointer: str) -> str:
    if values is None:
        return ""
    shown = [_linked(value, "{:.0%}", COMPRESSION, f"{pointer}/{at}") for at, value in enumerate(values)]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def prompts_table() -> str:
    """Of each few-shot prompt its lengths, and how many of its tokens were read in a second of the processor's."""
    found = found_in(COMPRESSION)["prompts"]
    rows = []
    for name, ways in found.items():
        lengths = [
            _linked(ways[way]["tokens"], "{:.0f}", COMPRESSION, f"/prompts/{name}/{way}/tokens")
            if way in ways
            else ""
            for way in WAYS
        ]
        what = "tokens_per_processor_second"
        speeds = [
            _linked(ways[way][what], "{:.0f}", COMPRESSION, f"/prompts/{name}/{way}/{what}")
            if way in ways
            else ""
            for way in ("compressed", "llmlingua")
        ]
        rows.append((SETS[name], *lengths, *speeds))
    head = ("tokens", *WAYS.values(), "a second, ours", "a second, LLMLingua")
    return table(head, rows)


def reading_table() -> str:
    """What being told a text's log-probabilities takes, as a multiple of a plain prefill of the same tokens."""
    found = found_in(SCORING)
    rows = []
    for engine, told in ENGINES.items():
        for length, one in found.get(engine, {}).items():
            if "times_prefill" in one:
                rows += [
                    (
                        told,
                        READ[way],
                        _linked(one["tokens"], "{:.0f}", SCORING, f"/{engine}/{length}/tokens"),
                        *(
                            _spread(values, f"/{engine}/{length}/times_prefill/{way}/{what}")
                            for what, values in times.items()
                        ),
                    )
                    for way, times in one["times_prefill"].items()
                ]
    return table(("engine", "by", "tokens", "clock", "processor"), rows)


def _spread(values: dict[str, float], pointer: str) -> str:
    median, low, high = (
        _linked(values[end], "{:.2f}", SCORING, f"{pointer}/{end}") for end in ("median", "low", "high")
    )
    return f"{median} ({low} to {high})"


def _linked(value: Any, shape: str, name: str, pointer: str) -> str:
    return f"[{shape.format(value).replace('%', ' %')}](../results/{name}.json#{pointer})"
