"""The table of docs/results/evaluators.json."""

from tools.docs.measured.results import found_in, interval
from tools.docs.table import code, table


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
                    interval(scores["auroc"], "evaluators", f"{at}/auroc"),
                    interval(scores["calibration_error"], "evaluators", f"{at}/calibration_error"),
                    "no better than chance" if scores["chance"] else "",
                )
            )
    head = ("judge", "evaluator", "answers", "AUROC", "calibration error", "")
    return table(head, rows).replace("](results/", "](../results/")
