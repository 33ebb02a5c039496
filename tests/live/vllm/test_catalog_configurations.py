"""The catalog against the defaults of the configuration classes in vLLM's environment, and its list of parsers."""

import json
import subprocess

import pytest

from benchmarks.vllm.environment import lacking, python, server_environment
from gateway.local.models.catalog import ModelCatalog

pytestmark = [pytest.mark.heavy, pytest.mark.vllm]

DEFAULTS_OF = {
    "gemma": "gemma-7b",
    "gemma2": "gemma-2-2b",
    "gpt2": "gpt2",
    "gpt_neo": "gpt-neo-1.3b",
    "llama": "llama-7b",
    "minicpm3": "minicpm3-4b",
    "olmo": "olmo-7b",
    "opt": "opt-125m",
    "phi": "phi-1",
    "phi3": "phi-3-mini-4k-instruct",
    "qwen3_5_text": "qwen3.5-9b",
    "recurrent_gemma": "recurrentgemma-2b",
    "smollm3": "smollm3-3b-base",
    "stablelm": "stablelm-3b-4e1t",
    "t5": "t5-small",
    "xglm": "xglm-564m",
}
"""Kinds of models whose configuration's defaults are one model's values. Those of the others are of no model."""
CELLS = {
    "vocabulary": ("vocab_size",),
    "hidden_size": ("hidden_size", "d_model", "n_embd"),
    "layers": ("num_hidden_layers", "num_layers", "n_layer"),
    "heads": ("num_attention_heads", "attention_heads", "num_heads", "n_head"),
    "kv_heads": ("num_key_value_heads",),
    "ffn_size": ("intermediate_size", "ffn_dim", "d_ff"),
    "context": ("max_position_embeddings", "n_positions"),
    "activation": ("hidden_activation", "hidden_act", "activation_function", "feed_forward_proj"),
    "shared_embeddings": ("tie_word_embeddings",),
    "sliding_window": ("sliding_window", "attention_window_size", "window_size"),
    "q_lora_rank": ("q_lora_rank",),
    "kv_lora_rank": ("kv_lora_rank",),
    "rope_head_dim": ("qk_rope_head_dim",),
}
DIFFERING = {
    "qwen3.5-9b.context",
    "recurrentgemma-2b.kv_heads",
    "smollm3-3b-base.context",
}
"""Where the defaults are not the model's: the context was extended, and RecurrentGemma has one key-value head."""
SCRIPT = """
import ast, importlib.util, json, pathlib, sys
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
kinds = json.loads(sys.argv[1])
defaults = {kind: CONFIG_MAPPING[kind]().to_dict() for kind in kinds}
(folder,) = importlib.util.find_spec("vllm").submodule_search_locations
tree = ast.parse((pathlib.Path(folder) / "tool_parsers" / "__init__.py").read_text())
parsers = {key.value for table in ast.walk(tree) if isinstance(table, ast.Dict) for key in table.keys}
print(json.dumps([defaults, sorted(parsers)]))
"""
"""Reads the names of the parsers from vLLM's source, because importing vLLM takes most of a minute."""


@pytest.fixture(scope="module")
def published() -> tuple[dict[str, dict[str, object]], list[str]]:
    """The defaults of each kind, and the names of vLLM's parsers."""
    if why := lacking():
        pytest.skip(why)
    printed = subprocess.run(
        [str(python()), "-c", SCRIPT, json.dumps([*DEFAULTS_OF])],
        env=server_environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    defaults, parsers = json.loads(printed.splitlines()[-1])
    return defaults, parsers


def test_rows_have_the_values_of_the_configuration_classes(
    published: tuple[dict[str, dict[str, object]], list[str]],
) -> None:
    compared, differing = 0, set()
    for kind, name in DEFAULTS_OF.items():
        card = ModelCatalog.load().find(name)
        assert card is not None
        for cell, keys in CELLS.items():
            theirs = next((published[0][kind][key] for key in keys if key in published[0][kind]), None)
            if theirs is not None:
                compared += 1
                if theirs != getattr(card, cell):
                    differing.add(f"{name}.{cell}")
    assert differing == DIFFERING
    assert compared > 120


def test_every_parser_in_the_catalog_is_one_of_vllm(
    published: tuple[dict[str, dict[str, object]], list[str]],
) -> None:
    named = {card.tool_parser for card in ModelCatalog.load().cards if card.tool_parser}
    assert named - set(published[1]) == set()
