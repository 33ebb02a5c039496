"""Tables of docs/results/small-model.json and docs/results/pair.json: the stock calibrator, and the cascade by it."""

from typing import Any

from tools.docs.measured.results import found_in, interval, linked
from tools.docs.table import table


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
            interval(found["auroc"], "small-model", f"{at}/auroc"),
            interval(found["calibration_error"], "small-model", f"{at}/calibration_error"),
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
                interval(found["all"]["auroc"], "small-model", f"{at}/all/auroc"),
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
                    interval(found["gain"], "pair", f"{at}/gain", digits=3),
                )
            )
    return table(("held-out items", "percent escalated", "random", "cascade", "gain"), rows)
