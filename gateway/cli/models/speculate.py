"""smallfirst models speculate: computes when speculation pays (see routers/fragments/speedup.py)."""

import json
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import typer

from gateway.cli.output import fail, out
from routers.cost import Price
from routers.fragments.speedup import (
    MAX_BLOCK,
    Costs,
    Forecast,
    best_block,
    break_even,
    expected_tokens,
    forecast,
    in_engine_speedup_of_pair,
)

BLOCKS = (1, 2, 4, 8, 16, 32, 64)
MIN_SPEED = 1e-3

Row = dict[str, str | float]


class SpeculationReport(NamedTuple):
    """The command's result: a row for each block length, the break-even acceptance, and whether it pays."""

    rows: Sequence[Row]
    break_even: float | None
    pays: bool
    sentence: str


def speculate(
    accept: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Probability that a drafted token is kept.")
    ],
    draft_speed: Annotated[
        float, typer.Option(min=MIN_SPEED, help="Tokens a second the small model writes.")
    ],
    target_speed: Annotated[
        float, typer.Option(min=MIN_SPEED, help="Tokens a second the large model writes.")
    ],
    prefill_speed: Annotated[
        float, typer.Option(min=MIN_SPEED, help="Tokens a second the large model reads.")
    ],
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 500,
    answer: Annotated[int, typer.Option(min=1, max=20_000, help="Tokens of the answer.")] = 200,
    block: Annotated[
        str, typer.Option(help="Tokens drafted at a time; auto: several are shown, and the best.")
    ] = "auto",
    draft_call: Annotated[float, typer.Option(min=0.0, help="Seconds of a draft beside its tokens.")] = 0.01,
    verify_call: Annotated[
        float, typer.Option(min=0.0, help="Seconds of a verification beside its tokens.")
    ] = 0.02,
    draft_prefill_speed: Annotated[
        float | None,
        typer.Option(min=MIN_SPEED, help="Tokens a second the small model reads; without it, at once."),
    ] = None,
    input_price: Annotated[float, typer.Option(min=0.0, help="The large model's, USD per million.")] = 0.0,
    output_price: Annotated[float, typer.Option(min=0.0, help="Likewise.")] = 0.0,
    llm_hour: Annotated[float, typer.Option(min=0.0, help="USD for an hour of one call to it.")] = 0.0,
    slm_hour: Annotated[float, typer.Option(min=0.0, help="The same of the small model.")] = 0.0,
    within: Annotated[
        bool, typer.Option("--inside", help="Both models in one engine (vLLM's speculative decoding).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say whether speculation pays: tokens a call, time and dollars by block length, and the break-even acceptance."""
    size = _parse_block(block)
    costs = Costs(
        decode_token=1.0 / target_speed,
        verify_call=verify_call,
        verify_token=1.0 / prefill_speed,
        draft_call=draft_call,
        draft_token=1.0 / draft_speed,
        draft_prefill=1.0 / draft_prefill_speed if draft_prefill_speed else 0.0,
        llm=Price(input=input_price, output=output_price, per_hour=llm_hour),
        slm=Price(per_hour=slm_hour),
    )
    report = (
        _forecast_inside(accept, costs, size)
        if within
        else _forecast_across(accept, costs, prompt, answer, size)
    )
    if as_json:
        out.print_json(json.dumps(report._asdict()))
        return
    for line in (*_format_table(report.rows), "", report.sentence):
        out.print(line, markup=False)


def _parse_block(block: str) -> int | None:
    if block == "auto":
        return None
    if not block.isdecimal() or not int(block):
        fail(f"--block {block}: expected auto, or a number of tokens from 1")
    return int(block)


def _forecast_across(
    accept: float, costs: Costs, prompt: int, answer: int, size: int | None
) -> SpeculationReport:
    def forecast_block(block: int | None, accept: float = accept) -> Forecast:
        return forecast(accept, costs, prompt, answer, block)

    chosen = forecast_block(size)
    low, high = (best_block(accept, costs, length) for length in (prompt, prompt + answer))
    best = {f"best: {low}" if low == high else f"best: {low} to {high}": chosen}
    by_label = (
        {str(size): chosen} if size else {**{str(block): forecast_block(block) for block in BLOCKS}, **best}
    )
    min_acceptance = break_even(lambda tried: forecast_block(size, tried).speedup)
    steps = [costs.verify_seconds(length, 0) / costs.decode_token for length in (prompt, prompt + answer)]
    reading = "A verification takes the time of {:.1f} to {:.1f} tokens of the large model's own.".format(
        *steps
    )
    sentences = [f"{_describe_time(chosen.speedup, min_acceptance)}.", reading, *_describe_cost(chosen)]
    rows = [
        _build_row_alone(answer, chosen),
        *(_build_row(block, answer, figures) for block, figures in by_label.items()),
    ]
    return SpeculationReport(rows, min_acceptance, chosen.speedup > 1.0, " ".join(sentences))


def _build_row_alone(answer: int, figures: Forecast) -> Row:
    return {
        "block": "none",
        "tokens_a_call": 1.0,
        "calls": float(answer),
        "steps_saved": 0.0,
        "seconds": figures.alone_seconds,
        "speedup": 1.0,
        "dollars": figures.alone_dollars,
    }


def _build_row(block: str, answer: int, figures: Forecast) -> Row:
    return {
        "block": block,
        "tokens_a_call": answer / figures.calls,
        "calls": figures.calls,
        "steps_saved": figures.steps_saved,
        "seconds": figures.seconds,
        "speedup": figures.speedup,
        "dollars": figures.dollars,
    }


def _forecast_inside(accept: float, costs: Costs, size: int | None) -> SpeculationReport:
    def find_best(accept: float) -> tuple[float, int]:
        return max((in_engine_speedup_of_pair(accept, costs, block), block) for block in blocks)

    blocks = [size] if size else range(1, MAX_BLOCK + 1)
    speedup, block = find_best(accept)
    rows: list[Row] = [
        {
            "block": str(length),
            "tokens_a_step": expected_tokens(accept, length),
            "speedup": in_engine_speedup_of_pair(accept, costs, length),
        }
        for length in ([size] if size else sorted({*BLOCKS, block}))
    ]
    min_acceptance = break_even(lambda accept: find_best(accept)[0])
    return SpeculationReport(
        rows,
        min_acceptance,
        speedup > 1.0,
        f"{_describe_time(speedup, min_acceptance)}, here with blocks of {block}.",
    )


def _describe_time(speedup: float, min_acceptance: float | None) -> str:
    if speedup > 1.0:
        return f"It pays: {speedup:.2f} times as fast, and does from an acceptance of {min_acceptance or 0.0:.2f} on"
    slow = f"It does not pay: it takes {1.0 / speedup:.2f} times as long"
    if min_acceptance is None:
        return f"{slow}, and would take longer even if every drafted token were accepted"
    return f"{slow}; it would pay from an acceptance of {min_acceptance:.2f} on"


def _describe_cost(figures: Forecast) -> list[str]:
    if not figures.alone_dollars:
        return []
    return [f"It costs {figures.dollars / figures.alone_dollars:.2f} times what the large model alone does."]


def _format_table(rows: Sequence[Row]) -> list[str]:
    names = [name.replace("_", " ") for name in rows[0]]
    cells = [names, *([_format_cell(name, value) for name, value in row.items()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]


def _format_cell(name: str, value: str | float) -> str:
    formats = {"calls": "{:.1f}", "steps_saved": "{:.0%}", "dollars": "{:.6f}"}
    return value if isinstance(value, str) else formats.get(name, "{:.2f}").format(value)
