"""The calculator of speculation, as it is typed."""

import json

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli import app
from routers.cost import Price
from routers.fragments.speedup import Costs, forecast

PAIR = ["--draft-speed", "60", "--target-speed", "15", "--prefill-speed", "2000"]
COSTS = Costs(1 / 15, 0.02, 1 / 2000, 0.01, 1 / 60, llm=Price(input=0.5, output=1.5))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", "speculate", *PAIR, *map(str, arguments)])


def test_it_shows_each_block_and_the_best():
    result = run(
        "--accept", 0.7, "--prompt", 500, "--answer", 200, "--input-price", 0.5, "--output-price", 1.5
    )
    assert result.exit_code == 0, result.output
    head, *rows = [line.split("  ") for line in result.stdout.splitlines() if line]
    assert next(cell.strip() for cell in head if cell) == "block"
    names = [next(cell.strip() for cell in row if cell) for row in rows[:-1]]
    assert names == ["none", "1", "2", "4", "8", "16", "32", "64", "best: 5 to 6"]
    assert f"{forecast(0.7, COSTS, 500, 200, 4).dollars:.6f}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--accept", 0.7], "it would pay from an acceptance of 0.91 on."),
        (["--accept", 0.7, "--block", 4], "longer even if every drafted token were accepted."),
        (["--accept", 0.9, "--prompt", 50], "It pays: 1."),
        (
            ["--accept", 0.7, "--inside"],
            "It pays: 1.45 times as fast, and does from an acceptance of 0.26 on",
        ),
        (["--accept", 0.2, "--inside"], "It does not pay"),
    ],
)
def test_one_sentence_says_whether_it_pays_and_what_would_make_it(arguments: list[object], said: str):
    assert said in run(*arguments).stdout


def test_it_says_what_the_verifications_cost_only_where_something_has_a_price():
    paid, free = (run("--accept", 0.7, *more).stdout for more in (["--input-price", 0.5], []))
    assert "times what the large model alone does" in paid
    assert "times what the large model alone does" not in free


def test_as_json_it_is_the_forecast():
    prices = ["--input-price", 0.5, "--output-price", 1.5]
    told = json.loads(run("--accept", 0.7, "--block", 4, "--prompt", 500, *prices, "--json").stdout)
    expected = forecast(0.7, COSTS, 500, 200, 4)
    alone, row = told["rows"]
    assert row["seconds"] == pytest.approx(expected.seconds)
    assert row["dollars"] == pytest.approx(expected.dollars)
    assert alone["seconds"] == pytest.approx(expected.alone_seconds)
    assert (told["pays"], told["break_even"]) == (False, None)


@pytest.mark.parametrize("block", ["0", "-1", "many"])
def test_a_block_that_is_none_is_refused(block: str):
    result = run("--accept", 0.7, f"--block={block}")
    assert result.exit_code == 2
    assert "expected auto, or a number of tokens from 1" in result.stderr


def test_an_acceptance_over_one_is_refused():
    assert run("--accept", 1.2).exit_code == 2
