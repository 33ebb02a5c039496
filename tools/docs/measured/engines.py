"""Tables of docs/results/engines.json: the same model on vLLM and on llama.cpp."""

from typing import Any

from tools.docs.measured.results import found_in, linked
from tools.docs.table import table

ENGINES = {
    "F16_vllm": "llama.cpp in 16 bits, vLLM in 32",
    "Q4_1_vllm": "llama.cpp as shipped, vLLM in 32",
    "Q4_1_F16": "llama.cpp as shipped, llama.cpp in 16",
}


def engines_table() -> str:
    """The same prompts on two engines: absolute differences."""
    report = found_in("engines")
    rows = [
        (
            name,
            *(
                linked(f"{_at(report[key], pointer):.{digits}f}", "engines", f"/{key}/{pointer}")
                for pointer, digits in (
                    ("equal_texts", 0),
                    ("logprob/mean", 4),
                    ("logprob/max", 3),
                    ("signal_max", 3),
                    ("running_confidence/max", 4),
                    ("confidence/max", 4),
                    ("other_decisions", 0),
                    ("other_decisions_of_equal_texts", 0),
                )
            ),
        )
        for key, name in ENGINES.items()
    ]
    head = (
        "compared",
        "equal texts",
        "token, mean",
        "token, largest",
        "signal, largest",
        "running confidence, largest",
        "final confidence of equal texts, largest",
        "other decisions",
        "of equal texts",
    )
    return table(head, rows)


def schema_table() -> str:
    """One answer under a schema on each engine."""
    report = found_in("engines")["schema"]
    rows = [
        (
            name,
            linked(f"{report[key]['likeliest_first']:.2f}", "engines", f"/schema/{key}/likeliest_first"),
            linked(f"{report[key]['logprobs'][0]:.2f}", "engines", f"/schema/{key}/logprobs/0"),
            linked(f"{report[key]['mean']:.2f}", "engines", f"/schema/{key}/mean"),
        )
        for key, name in (("vllm", "vLLM"), ("F16", "llama.cpp in 16 bits"), ("Q4_1", "llama.cpp as shipped"))
    ]
    head = ("engine", "probability of the five likeliest first tokens", "first token, nats", "mean, nats")
    return table(head, rows)


def _at(found: Any, pointer: str) -> float:
    for key in pointer.split("/"):
        found = found[key]
    return float(found)
