"""`smallfirst models recommend`: what fits is ranked, with how to serve it."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from support import model_shapes as shapes
from support.gguf_files import write_gguf
from typer.testing import CliRunner

from gateway.cli import app
from gateway.local.models.catalog import ModelCatalog
from gateway.local.models.geometry import card_geometry
from gateway.local.models.quantised_size import estimate_weights
from gateway.local.settings import LocalEngine
from gateway.local.sizing.recommendation import describe_card

GIB = 2**30


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["models", "recommend", *arguments])


def rank(*arguments: str) -> list[dict[str, Any]]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_all_that_is_recommended_fits_and_more_requests_need_smaller_models() -> None:
    few, many = (
        rank("--memory", "4GiB", "--concurrency", number, "--limit", "300") for number in ("1", "16")
    )
    for model in (*few, *many):
        parts = (model["weights_bytes"], model["kv_cache_bytes"], model["activations_bytes"])
        assert sum(parts) == model["total_bytes"] <= 4 * GIB
    assert {model["name"] for model in many} < {model["name"] for model in few}


def test_each_comes_with_how_to_serve_it() -> None:
    for model in rank("--memory", "2GiB", "--context", "2048", "--concurrency", "2", "--limit", "300"):
        local = LocalEngine(**yaml.safe_load(model["yaml"])["local"])
        assert (local.engine, local.context, local.slots) == (model["engine"], 2048, 2)
        assert model["command"] == f"smallfirst serve --slm {local.model}"
    assert "smollm2-135m-instruct" in [model["name"] for model in rank("--memory", "1GiB", "--limit", "300")]


def test_conditions_narrow_the_list() -> None:
    everything = ("--memory", "24GiB", "--limit", "300")
    cards = {card.name: card for card in ModelCatalog.load().cards}
    assert all(cards[model["name"]].domain == "code" for model in rank(*everything, "--task", "code"))
    assert all(cards[model["name"]].tool_parser for model in rank(*everything, "--task", "tools"))
    assert {model["engine"] for model in rank(*everything, "--engine", "vllm")} == {"vllm"}
    assert all("Apache" in cards[model["name"]].licence for model in rank(*everything, "--licence", "apache"))
    (family,) = {cards[model["name"]].family for model in rank(*everything, "--family", "smollm2")}
    assert family.casefold() == "smollm2"
    assert len(rank(*everything, "--base")) > len(rank(*everything))


def test_files_and_folders_are_measured_instead(tmp_path: Path) -> None:
    metadata = {key: value for key, value in shapes.GGUF_LFM2_1B.items() if key != "general.architecture"}
    file = write_gguf(tmp_path / "lfm2.gguf", metadata | {"general.file_type": 15}, "lfm2")
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_bytes(orjson.dumps(shapes.LLAMA_8B))
    (folder / "model.safetensors").write_bytes(b"x" * 100_000)
    large, small = rank(
        str(file), str(folder), "--memory", "64GiB", "--context", "1024", "--concurrency", "1"
    )
    assert (large["engine"], large["name"], small["engine"], small["name"]) == (
        "vllm",
        "llama",
        "llamacpp",
        "lfm2",
    )
    assert (small["quantisation"], small["weights_bytes"]) == ("Q4_K_M", file.stat().st_size)
    assert large["kv_cache_bytes"] == 1024 * 128 * 1024
    result = run(str(file), "--memory", "1GB")
    assert "smallfirst serve --slm" in result.output
    assert "weights" in result.output


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("--memory", "lots"), "expected a size such as 8GiB", 2),
        (("--kv-type", "f17"), "expected one of f32, f16", 2),
        (("--memory", "1MiB"), "no model fits 1 MiB with 4 x 8192 tokens", 1),
        (("nowhere.gguf",), "nowhere.gguf: cannot be measured", 2),
    ],
)
def test_what_cannot_be_answered_is_said(arguments: tuple[str, ...], message: str, code: int) -> None:
    result = run(*arguments)
    assert (result.exit_code, message in result.output) == (code, True), result.output


@pytest.mark.parametrize(
    ("name", "quantisation", "published"),
    [
        ("llama-3.2-1b-instruct", "Q4_K_M", 807_694_464),
        ("llama-3.2-1b-instruct", "Q8_0", 1_321_082_880),
        ("llama-3.1-8b-instruct", "Q4_K_M", 4_920_738_944),
        ("qwen2.5-1.5b-instruct", "Q4_K_M", 986_048_768),
        ("smollm2-135m-instruct", "Q4_K_M", 105_454_432),
        ("smollm2-135m-instruct", "Q4_1", 98_362_432),
    ],
)
def test_estimated_files_are_about_as_large_as_published_ones(
    name: str, quantisation: str, published: int
) -> None:
    card = ModelCatalog.load().find(name)
    assert card is not None
    geometry = card_geometry(card)
    assert geometry is not None
    assert estimate_weights(geometry, card.parameters, quantisation) == pytest.approx(published, rel=0.05)
    assert estimate_weights(geometry, card.parameters, "Q77") is None


def test_the_memory_of_a_row_is_printed_if_the_row_tells_it() -> None:
    lines = {card.name: list(describe_card(card)) for card in ModelCatalog.load().cards}
    assert [line[:12].strip() for line in lines["qwen3-0.6b"]] == [
        "weights",
        "KV cache",
        "activations",
        "total",
        "serve",
    ]
    assert lines["qwen3-0.6b"][1].endswith("4 requests of 8192 tokens, f16, 112.0 KiB a token")
    assert lines["qwen3-0.6b"][0].endswith("Q4_K_M") or lines["qwen3-0.6b"][0].endswith("Q8_0")
    assert lines["t5-small"] == []
    shown = CliRunner().invoke(app, ["models", "show", "qwen3-0.6b"]).output
    assert "4 requests of 8192 tokens, f16, 112.0 KiB a token" in shown
