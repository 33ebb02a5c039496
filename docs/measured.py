"""Tables of what was measured, from docs/results/."""

import json
from typing import Any

from .markdown import ROOT
from .tables import code, table

RESULTS = ROOT / "docs" / "results"


def found_in(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_bytes())
    return found


def linked(text: str, name: str, pointer: str) -> str:
    return f"[{text}](results/{name}.json#{pointer})"


def _interval(values: list[float], name: str, pointer: str, scale: float = 1.0, digits: int = 2) -> str:
    parts = [
        linked(f"{value * scale:.{digits}f}", name, f"{pointer}/{index}")
        for index, value in enumerate(values)
    ]
    return f"{parts[0]} ({parts[1]} to {parts[2]})"


def _range(values: dict[str, float], pointer: str) -> str:
    low, high = (linked(f"{values[end]:.2f}", "overhead", f"{pointer}/{end}") for end in ("low", "high"))
    return f"{low} to {high}"


def confidence_table() -> str:
    """The stock calibrator on held-out templates: all kinds, each kind, and each kind left out of training."""
    return _held_out(found_in("small-model")["Q4_1"], "/Q4_1")


def scorer_table() -> str:
    """A scorer of prompts, likewise."""
    return _held_out(found_in("small-model")["Q4_1"]["difficulty"], "/Q4_1/difficulty")


def _held_out(report: dict[str, Any], pointer: str) -> str:
    sets = [("all", report["all"], f"{pointer}/all")]
    sets += [(kind, found, f"{pointer}/kinds/{kind}") for kind, found in report["kinds"].items()]
    sets += [
        (f"{kind}, trained without it", found, f"{pointer}/leaving_kind_out/{kind}")
        for kind, found in report["leaving_kind_out"].items()
    ]
    rows = [
        (
            name,
            str(found["drafts"]),
            linked(f"{found['right']:.0%}".replace("%", " %"), "small-model", f"{at}/right"),
            _interval(found["auroc"], "small-model", f"{at}/auroc"),
            _interval(found["calibration_error"], "small-model", f"{at}/calibration_error"),
            linked(f"{found['brier']:.2f}", "small-model", f"{at}/brier"),
        )
        for name, found, at in sets
    ]
    return table(("held-out drafts", "n", "right", "AUROC", "calibration error", "Brier score"), rows)


def formats_table() -> str:
    """The weight formats side by side."""
    report = found_in("small-model")
    rows = []
    for name in ("Q4_1", "F16"):
        found = report[name]
        at = f"/{name}"
        rows.append(
            (
                name,
                linked(str(found["bytes"]), "small-model", f"{at}/bytes"),
                linked(f"{found['right']:.1%}".replace("%", " %"), "small-model", f"{at}/right"),
                _interval(found["all"]["auroc"], "small-model", f"{at}/all/auroc"),
                linked(
                    f"{found['prompt_tokens_per_second']:.0f}",
                    "small-model",
                    f"{at}/prompt_tokens_per_second",
                ),
                linked(
                    f"{found['answer_tokens_per_second']:.0f}",
                    "small-model",
                    f"{at}/answer_tokens_per_second",
                ),
            )
        )
    head = ("format", "bytes", "right", "AUROC, held out", "prompt tokens a second", "answer tokens a second")
    return table(head, rows)


def pair_table() -> str:
    """The cascade against random escalation of the same share."""
    report = found_in("pair")
    rows = []
    for part in ("all", "sample"):
        for share in ("30", "50"):
            found, at = report[part][f"share_{share}"], f"/{part}/share_{share}"
            rows.append(
                (
                    str(report[part]["items"]),
                    share,
                    linked(f"{found['random']:.1%}".replace("%", " %"), "pair", f"{at}/random"),
                    linked(f"{found['cascade']:.1%}".replace("%", " %"), "pair", f"{at}/cascade"),
                    _interval(found["gain"], "pair", f"{at}/gain", digits=3),
                )
            )
    return table(("held-out items", "percent escalated", "random", "cascade", "gain"), rows)


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


def evaluators_table() -> str:
    """What each evaluator is worth on each model that was measured as a judge; for a page of docs/skills/."""
    rows = []
    for model, kinds in found_in("evaluators")["judges"].items():
        for kind, scores in kinds.items():
            at = f"/judges/{model}/{kind}"
            rows.append(
                (
                    model,
                    code(kind),
                    str(scores["answers"]),
                    _interval(scores["auroc"], "evaluators", f"{at}/auroc"),
                    _interval(scores["calibration_error"], "evaluators", f"{at}/calibration_error"),
                    "no better than chance" if scores["chance"] else "",
                )
            )
    head = ("judge", "evaluator", "answers", "AUROC", "calibration error", "")
    return table(head, rows).replace("](results/", "](../results/")
