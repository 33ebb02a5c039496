"""`smallfirst models list`, `show` and `compare`, as they are typed."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli import app
from gateway.cli.models.comparison import compare_cards
from gateway.local.models.catalog import ModelCatalog

DEFAULT = "smollm2-135m-instruct"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No smallfirst.yaml of a checkout, no weights of a user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMALLFIRST_MODELS_FOLDER", str(tmp_path / "models"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


def test_list_shows_a_line_for_each_model_that_meets_all_conditions() -> None:
    result = run("list", "--attention", "gqa", "--max-params", "1b", "--context-min", "64k", "--tools")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [words[0] for words in lines] == ["qwen3.5-0.8b"]
    assert lines[0][1:] == ["752M", "gqa", "262144", "2026-03", "Apache-2.0", "not", "here"]


def test_list_says_where_no_model_is_like_that() -> None:
    result = run("list", "--family", "nonsense")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no model in the catalog is like that" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-params", "3x"), "write for example 500m or 1.5b"),
        (("--context-min", "long"), "write for example 8192 or 32k"),
        (("--where", "colour=red"), "is not of the form CELL=VALUE"),
    ],
)
def test_list_says_how_a_condition_is_written(arguments: tuple[str, str], message: str) -> None:
    result = run("list", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_list_prints_json_with_whether_the_weights_are_here(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / FILE).touch()
    (card,) = json.loads(run("list", "--here", "--json").stdout)
    assert (card["name"], card["here"], card["kv_heads"]) == (DEFAULT, True, 3)
    assert json.loads(run("list", "--family", "nonsense", "--json").stdout) == []


def test_show_marks_what_no_source_confirms_and_leaves_out_what_is_null() -> None:
    result = run("show", "SmolLM2")
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert lines["name"].split() == ["name", DEFAULT]
    assert lines["kv_heads"].split() == ["kv_heads", "3"]
    assert lines["released"].endswith(" ?")
    assert "sliding_window" not in lines
    assert "layer_scaling" not in lines


def test_show_prints_ranges_of_what_differs_by_layer_and_scores_with_their_source() -> None:
    output = run("show", "openelm-270m").stdout
    assert "heads: 12 to 20; kv_heads: 3 to 5; ffn_size: 768 to 5120" in output
    assert "commonsense_reasoning (TinyLLMLeaderBoard)" in output
    assert json.loads(run("show", "openelm-270m", "--json").stdout)["layer_scaling"]["heads"][0] == 12


def test_an_unknown_name_is_an_error_with_names_like_it() -> None:
    result = run("show", "smollm3-4b")
    assert result.exit_code == 2
    assert "'smollm3-4b' is not in the catalog; near it: " in result.stderr
    assert "smollm3-3b" in result.stderr
    assert "see: smallfirst models list" in run("show", "?!").stderr


def test_compare_marks_what_differs() -> None:
    result = run("compare", "smollm2-135m", "pythia-160m")
    lines = {line.split()[-3]: line for line in result.stdout.splitlines() if len(line.split()) >= 3}
    assert lines["attention"].split() == ["≠", "attention", "gqa", "mha"]
    assert lines["domain"].split() == ["domain", "general", "general"]
    assert "domain" not in run("compare", "smollm2-135m", "pythia-160m", "--differing").stdout


def test_compare_prints_json_of_each_property() -> None:
    result = run("compare", "smollm2-135m", "openelm-270m", "llama-3.2-1b", "--json")
    cells = json.loads(result.stdout)
    assert cells["layers"] == {"smollm2-135m": "30", "openelm-270m": "16", "llama-3.2-1b": "16"}
    assert cells["layer_scaling"]["smollm2-135m"] == ""


def test_compare_needs_two_models() -> None:
    result = run("compare", "smollm2")
    assert result.exit_code == 2
    assert "two models or more" in result.stderr


def test_compare_draws_a_bar_for_each_model_and_number(tmp_path: Path) -> None:
    result = run("compare", "smollm2-135m", "rene-v0.1-1.3b", "--picture", tmp_path / "bars.svg")
    assert result.exit_code == 0
    picture = ElementTree.fromstring((tmp_path / "bars.svg").read_text(encoding="utf-8"))  # noqa: S314
    space = "{http://www.w3.org/2000/svg}"
    widths = [float(bar.get("width", "")) for bar in picture.iter(f"{space}rect")]
    texts = [text.text for text in picture.iter(f"{space}text")]
    assert len(widths) == 2 * texts.count("smollm2-135m")
    assert widths[0] / widths[1] == pytest.approx(134_515_008 / 1_300_000_000, rel=0.01)
    assert texts.count("not known") == texts.count("smollm2-135m") - 2


def test_a_property_that_no_model_has_is_not_compared() -> None:
    catalog = ModelCatalog.load()
    cards = [card for name in ("smollm2-135m", "pythia-160m") if (card := catalog.find(name))]
    names = [cell.name for cell in compare_cards(cards)]
    assert "kv_lora_rank" not in names
    assert "sources" not in names
    assert "layers" in names
