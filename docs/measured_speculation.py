"""Tables of docs/results/speculation.json."""

from .measured import found_in, linked
from .tables import table

NAME = "speculation"
KINDS = {
    "verify": "verification of a block, by `prompt_logprobs`",
    "again": "the same once more",
    "each": "the same block, one prompt a position",
    "prefill": "one token after an unseen text",
}


def verification_table() -> str:
    """Seconds of the large model's calls by what stands before the block, median, lowest and highest."""
    report = found_in(NAME)
    rows = [
        (told, *(_seconds(report[kind][length], f"/{kind}/{length}") for length in report[kind]))
        for kind, told in KINDS.items()
    ]
    decode = _seconds(report["decode"], "/decode")
    lengths = [f"{length} tokens before it" for length in report["verify"]]
    return table(("seconds", *lengths), [*rows, ("one token of its own", decode, *[""] * (len(lengths) - 1))])


def _seconds(values: dict[str, float], pointer: str) -> str:
    median, low, high = (
        linked(f"{values[end]:.3f}", NAME, f"{pointer}/{end}") for end in ("median", "low", "high")
    )
    return f"{median} ({low} to {high})"


def forecast_table() -> str:
    """What the model foretold of played answers, beside what was measured."""
    rows = []
    for index, row in enumerate(found_in(NAME)["games"]):
        at = f"/games/{index}"
        accept = linked(f"{row['accept']:.2f}", NAME, f"{at}/accept")
        pairs = [
            linked(f"{row[what][kind]:.{digits}f}", NAME, f"{at}/{what}/{kind}")
            for what, digits in (("calls", 1), ("seconds", 2), ("speedup", 2))
            for kind in ("forecast", "measured")
        ]
        rows.append((str(row["prompt"]), accept, str(row["block"]), *pairs))
    head = ("prompt", "acceptance", "block", "calls, forecast", "measured", "seconds, forecast", "measured")
    return table((*head, "speed-up, forecast", "measured"), rows)
