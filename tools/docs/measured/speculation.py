"""Tables of docs/results/speculation.json."""

from tools.docs.measured.results import found_in, linked
from tools.docs.table import table

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


PAIRS = "greedy"


def pairs_table() -> str:
    """Drafts of a real target: texts, acceptance, steps saved and time, with the model's forecast."""
    found = found_in(PAIRS)["drafts"]

    def told(draft: str, what: str, shape: str) -> str:
        value = found[draft]
        for key in what.split("/"):
            value = value[key]
        return linked(shape.format(value).replace("%", " %"), PAIRS, f"/drafts/{draft}/{what}")

    shown = {
        "prompts": ("prompts", "{:.0f}"),
        "equal texts": ("same", "{:.0f}"),
        "equal but for ties": ("same_but_for_ties", "{:.0f}"),
        "tokens of the answers": ("tokens", "{:.0f}"),
        "blocks": ("blocks", "{:.0f}"),
        "drafted": ("drafted", "{:.0f}"),
        "accepted": ("accepted", "{:.0f}"),
        "accepted of those tried": ("model/accept", "{:.2f}"),
        "decode steps saved": ("steps_saved", "{:.0%}"),
        "seconds": ("seconds", "{:.0f}"),
        "of these drafting": ("slm_seconds", "{:.0f}"),
        "and verifying": ("llm_seconds", "{:.0f}"),
        "seconds of the target alone": ("alone_seconds", "{:.0f}"),
        "speed-up, forecast": ("model/speedup/forecast", "{:.2f}"),
        "speed-up, measured": ("model/speedup/measured", "{:.2f}"),
    }
    rows = [(name, *(told(draft, *what) for draft in found)) for name, what in shown.items()]
    return table(("drafts by", *found), rows)


METHODS = {
    "alone": "without",
    "ngram": "`ngram`",
    "29-layers": "`draft_model`, its first 29 of 30 layers",
    "itself": "`draft_model`, itself",
    "again": "without, again",
}


def inside_table() -> str:
    """Methods of vLLM's own speculation: what was accepted and saved, and what it took."""
    found = found_in("inside")["methods"]
    columns = {
        "accepted_share": "{:.0%}",
        "steps_saved": "{:.0%}",
        "same": "{:.0f}",
        "tokens_per_second": "{:.1f}",
    }

    def told(method: str, what: str, shape: str) -> str:
        if what not in found[method]:
            return ""
        said = shape.format(found[method][what]).replace("%", " %")
        return linked(said, "inside", f"/methods/{method}/{what}")

    rows = [
        (name, *(told(method, *column) for column in columns.items())) for method, name in METHODS.items()
    ]
    return table(
        ("drafts by", "accepted of drafted", "decode steps saved", "equal texts", "tokens a second"), rows
    )


def ties_table() -> str:
    """Where a text differed: the target's two likeliest tokens, and their natural log-probabilities."""
    rows = []
    for draft, found in found_in(PAIRS)["drafts"].items():
        for index, one in enumerate(found["differences"]):
            at = f"/drafts/{draft}/differences/{index}"
            values = [
                f"`{token!r}` {linked(f'{logprob:.4f}', PAIRS, f'{at}/likeliest/{place}/1')}"
                for place, (token, logprob) in enumerate(one["likeliest"])
            ]
            gap = linked(f"{one['gap']:.4f}", PAIRS, f"{at}/gap")
            rows.append((draft, f"`…{one['after'][-24:]!r}`", *values, gap))
    if not rows:
        return "There is none."
    return table(("drafts by", "after", "likeliest", "second", "apart, nats"), rows)


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
