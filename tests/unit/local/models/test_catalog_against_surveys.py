"""The catalog against the two surveys it grew from, in the folder of data that SMALLFIRST_DATA names.

A row may differ from a survey if its note says why.
"""

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.local.models.card import ModelCard
from gateway.local.models.catalog import ModelCatalog

DATA = Path(os.environ.get("SMALLFIRST_DATA") or Path(__file__).parents[5] / "shared" / "data")
CATALOG = ModelCatalog.load()
BASELINES = {
    "Llama-7B [For Baseline]": "llama-7b",
    "Llama-2-7B [For Baseline]": "llama-2-7b",
    "Llama-3-7B [For Baseline]": "llama-3-8b",
    "Llama-3.1-7B [For Baseline]": "llama-3.1-8b",
}
"""The rows by which the survey compares; it names the two later ones after a size that they don't have."""
FAMILIES = {"bloombloomz": "bloom"}
PARADIGMS = {
    "Pre-train": "pre-trained",
    "Continous Training": "continued",
    "Instruction tuning": "instruction-tuned",
    "Instruction Tuning": "instruction-tuned",
    "Distillation": "distilled",
    "Pruning and Distillation": "pruned-and-distilled",
}
DOMAINS = {"Generic": "general", "Coding": "code", "Scientific": "science", "Generic (math)": "mathematics"}


EXPLAINED = {
    "fox-1-1.6b.vocabulary",
    "gemma-2-2b.ffn_size",
    "gemma-2b.activation",
    "h2o-danube2-1.8b-base.released",
    "h2o-danube2-1.8b-base.training_tokens",
    "minicpm-1b-sft.context",
    "minicpm-2b-128k.attention",
    "mobilellama-1.4b-base.attention",
    "mobilellama-1.4b-base.ffn_size",
    "mobillama-0.5b.attention",
    "mobillama-1b.attention",
    "olmo-1b.released",
    "openelm-3b.attention",
    "phi-3-mini-4k-instruct.attention",
    "phi-3.5-mini-instruct.context",
    "phi-3.5-mini-instruct.released",
    "qwen-1.8b.ffn_size",
    "qwen1.5-0.5b.context",
    "qwen1.5-0.5b.ffn_size",
    "qwen1.5-1.8b.context",
    "qwen1.5-1.8b.ffn_size",
    "qwen1.5-4b.context",
    "qwen1.5-4b.ffn_size",
    "qwen2-0.5b.context",
    "qwen2-1.5b.context",
    "recurrentgemma-2b.ffn_size",
    "stablelm-zephyr-3b.context",
    "stablelm-zephyr-3b.training_tokens",
}
"""Cells that differ from the survey of architectures. The note of each row says why."""
EXPLAINED_FAMILIES = {
    "Cerebras-GPT": {"released"},
    "Fox-1": {"released", "vocabulary"},
    "GPT-Neo": {"released"},
    "MiniCPM": {"paradigm"},
    "MiniMA-2": {"paradigm"},
    "MiniMix": {"paradigm"},
    "Phi-1": {"released"},
    "Phi-3": {"paradigm"},
    "Phi-3.5": {"paradigm", "released", "context"},
    "Phi-4-Mini": {"paradigm", "released"},
    "Qwen 1": {"released"},
    "Qwen 1.5": {"context"},
    "Qwen 2": {"context"},
    "Rene": {"released"},
    "SmolLM-2": {"released"},
    "Specialized FlanT5": {"paradigm"},
    "StableLM": {"released", "context"},
    "StableLM 2": {"released"},
    "T5": {"released"},
    "TinyLlama": {"released"},
}
"""What no row of a family has as the survey of families has it. A note in the family says why."""


def read_survey(name: str) -> list[dict[str, str]]:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"no {name} in {DATA}: SMALLFIRST_DATA names the folder of data")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def find_model(row: dict[str, str]) -> ModelCard | None:
    name = row["Model"]
    return CATALOG.find(BASELINES.get(name, name)) or CATALOG.find(f"meta-llama/{name}")


def reduce_name(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.casefold())


def read_count(text: str) -> int | None:
    """Read `180B Token Dataset`, `3T`, `128k` or `2048`; None if there is no number or more than one."""
    found = re.match(r"([\d.]+) ?([kBT]?)", text)
    if not found or "-" in text:
        return None
    unit = {"": 1, "k": 1024, "B": 10**9, "T": 10**12}[found[2]]
    return round(float(found[1]) * unit)


def read_month(text: str) -> str:
    year, month = text.split(".")
    return f"{year}-{int(month):02}"


def differing_cells(row: dict[str, str], card: ModelCard) -> Iterator[str]:
    """Yield what the survey of architectures says of a model and its row does not."""
    pairs: list[tuple[str, object, object]] = [
        ("layers", read_count(row["LayerNumber"]), card.layers),
        ("hidden_size", read_count(row["HiddenSize"]), card.hidden_size),
        ("heads", read_count(row["HeadNum"]), card.heads),
        ("vocabulary", read_count(row["VocabularySize"]), card.vocabulary),
        ("context", read_count(row["MaxContextWindow"]), card.context),
        ("training_tokens", read_count(row["TrainingTokens"]), card.training_tokens),
        ("attention", row["AttentionType"].casefold(), card.attention),
        ("activation", row["Activation"], card.activation),
        ("released", read_month(row["ReleaseDate"]) if row["ReleaseDate"] else "", card.released),
    ]
    yield from (f"{card.name}.{name}" for name, theirs, ours in pairs if theirs and theirs != ours)
    ratio = read_count(row["FFNratio"]) and float(row["FFNratio"])
    if ratio and card.ffn_size and card.hidden_size and abs(card.ffn_size / card.hidden_size - ratio) > 0.06:
        yield f"{card.name}.ffn_size"


def test_every_model_of_the_survey_has_a_row() -> None:
    rows = read_survey("slm_arch.csv")
    assert len(rows) == 72
    assert [row["Model"] for row in rows if find_model(row) is None] == []


def test_a_cell_that_differs_from_the_survey_is_explained() -> None:
    found = [(card, row) for row in read_survey("slm_arch.csv") if (card := find_model(row))]
    assert {cell for card, row in found for cell in differing_cells(row, card)} == EXPLAINED
    assert [card.name for card, row in found if any(differing_cells(row, card)) and not card.note] == []


def test_cells_that_the_survey_is_known_to_have_wrong_are_not_taken_from_it() -> None:
    right = {
        "bloom-560m": ("training_data", "ROOTS"),
        "phi-3-mini-4k-instruct": ("attention", "mha"),
        "qwen2-0.5b": ("attention", "gqa"),
        "openelm-3b": ("attention", "gqa"),
        "minicpm-1b-sft": ("context", 4096),
        "fox-1-1.6b": ("vocabulary", 256_000),
    }
    for name, (cell, value) in right.items():
        card = CATALOG.find(name)
        assert getattr(card, cell) == value, name


def test_the_scores_are_those_of_the_survey() -> None:
    columns = {
        "Commonsensereasoning": "commonsense_reasoning",
        "Problemsolving": "problem_solving",
        "Math": "mathematics",
    }
    for row in read_survey("slm_arch.csv"):
        card = find_model(row)
        assert card is not None
        published = {
            name: round(float(row[column]), 4)
            for column, name in columns.items()
            if row[column] not in ("", "None")
        }
        assert card.scores.get("TinyLLMLeaderBoard", {}) == published, card.name


def differing_family_cells(row: dict[str, str], cards: tuple[ModelCard, ...]) -> Iterator[str]:
    """Yield what the survey of families says and none of a family's rows does."""
    listed = re.split(r" / |/", f"{row['vocab']} / {row['max_context']}")
    numbers = {read_count(text) for text in listed if text}
    pairs: list[tuple[str, set[object]]] = [
        ("paradigm", {PARADIGMS[row["paradigm"]]}),
        ("domain", {DOMAINS[row["domain"]]}),
        ("released", {read_month(row["date"])}),
        ("vocabulary", numbers if row["vocab"] else set()),
        ("context", numbers if row["max_context"] else set()),
    ]
    for name, theirs in pairs:
        if theirs and theirs.isdisjoint(getattr(card, name) for card in cards):
            yield name


def test_every_family_of_the_survey_has_rows_and_what_differs_is_explained() -> None:
    families = {reduce_name(family): CATALOG.list_family(family) for family in CATALOG.list_families()}
    rows = read_survey("slm_catalog.csv")
    assert len(rows) == 46
    found = {}
    for row in rows:
        name = reduce_name(row["model"])
        found[row["model"]] = families.get(FAMILIES.get(name, name), ())
    assert [model for model, cards in found.items() if not cards] == []
    differing = {row["model"]: set(differing_family_cells(row, found[row["model"]])) for row in rows}
    assert {model: cells for model, cells in differing.items() if cells} == EXPLAINED_FAMILIES
    assert [model for model in EXPLAINED_FAMILIES if not any(card.note for card in found[model])] == []
