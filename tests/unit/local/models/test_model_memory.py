"""Geometry and memory of published models: a file, a configuration and a catalog row must tell the same."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import model_shapes as shapes
from support.gguf_files import write_gguf

from gateway.local.models.config_geometry import parse_config_geometry, read_config_geometry
from gateway.local.models.geometry import LayerCache, card_geometry
from gateway.local.models.gguf_geometry import parse_gguf_geometry, read_gguf_geometry
from gateway.local.models.memory import (
    KV_BYTES,
    describe_memory,
    estimate_kv_cache,
    estimate_memory,
    kv_bytes_per_token,
)

KIB = 1024


@dataclass
class Row:
    """A catalog row with the cells that decide the memory."""

    parameters: int = 1_000_000_000
    attention: Any = "gqa"
    kernel: str | None = None
    recurrent_parameters: int | None = None
    shared_embeddings: bool | None = None
    layer_scaling: Any = None
    vocabulary: int | None = 1000
    context: int | None = 4096
    layers: int | None = 4
    hidden_size: int | None = 256
    heads: int | None = 8
    kv_heads: int | None = 2
    head_dim: int | None = None
    ffn_size: int | None = None
    sliding_window: int | None = None
    full_attention_every: int = 1
    attention_layers: int | None = None
    kv_shared_layers: int | None = None
    global_head_dim: int | None = None
    kv_lora_rank: int | None = None
    rope_head_dim: int | None = None


@pytest.mark.parametrize(
    ("config", "attention", "per_token"),
    [
        (shapes.LLAMA_8B, "gqa", 128 * KIB),
        (shapes.PHI_3_MINI, "mha", 384 * KIB),
        (shapes.GEMMA_3_1B, "mqa", 26 * KIB),
        (shapes.DEEPSEEK_V2_LITE, "mla", 27 * 576 * 2),
        (shapes.MINICPM_3_4B, "mla", 62 * 2 * 40 * 96 * 2),
        (shapes.LFM2_1B, "gqa", 6 * 2 * 8 * 64 * 2),
        (shapes.QWEN_3_5_LIKE, "gqa", 6 * 2 * 2 * 256 * 2),
        (shapes.MAMBA_130M, "none", 0),
        (shapes.OPENELM_270M, "gqa", 2 * 2 * 64 * (5 * 3 + 7 * 4 + 4 * 5)),
        (shapes.FALCON_7B, "mqa", 32 * 2 * 64 * 2),
    ],
)
def test_a_configuration_tells_the_attention_and_its_cache(
    config: Any, attention: str, per_token: int
) -> None:
    geometry = parse_config_geometry(config)
    assert geometry.attention == attention
    assert kv_bytes_per_token(geometry) == per_token


@pytest.mark.parametrize(
    ("config", "metadata"),
    [
        (shapes.GEMMA_3_1B, shapes.GGUF_GEMMA_3_1B),
        (shapes.DEEPSEEK_V2_LITE, shapes.GGUF_DEEPSEEK_V2_LITE),
        (shapes.QWEN_3_5_LIKE, shapes.GGUF_QWEN_3_5_LIKE),
    ],
)
def test_a_gguf_file_tells_what_the_configuration_tells(config: Any, metadata: Any) -> None:
    by_file, by_config = parse_gguf_geometry(metadata), parse_config_geometry(config)
    for name in (
        "layers",
        "hidden_size",
        "vocabulary",
        "ffn_size",
        "attention",
        "caches",
        "state_values",
        "context",
    ):
        assert getattr(by_file, name) == getattr(by_config, name), name


def test_convolutions_and_states_are_counted_for_each_request() -> None:
    lfm2, mamba = parse_gguf_geometry(shapes.GGUF_LFM2_1B), parse_gguf_geometry(shapes.GGUF_MAMBA_130M)
    assert lfm2.caches == (LayerCache(2 * 8 * 64),) * 6
    assert lfm2.state_values == 10 * 2 * 2048
    assert (mamba.caches, mamba.attention) == ((), "none")
    assert (
        mamba.state_values
        == 24 * (3 * 1536 + 16 * 1536)
        == parse_config_geometry(shapes.MAMBA_130M).state_values
    )
    assert estimate_memory(mamba, 0, 8192, 4).kv_cache == 4 * estimate_memory(mamba, 0, 1024, 1).kv_cache


def test_windows_bound_the_cache() -> None:
    gemma = parse_config_geometry(shapes.GEMMA_3_1B)
    assert [layer.window for layer in gemma.caches[:7]] == [512] * 5 + [None, 512]
    full, windows = 4 * 32768, 22 * (512 + 512)
    assert estimate_kv_cache(gemma, 32768) == (full + windows) * 2 * 256 * 2
    assert estimate_kv_cache(gemma, 256) == 26 * 256 * 2 * 256 * 2


@pytest.mark.parametrize(
    ("changes", "caches"),
    [
        ({}, [LayerCache(2 * 2 * 32)] * 4),
        ({"head_dim": 64}, [LayerCache(2 * 2 * 64)] * 4),
        ({"kv_heads": None}, [LayerCache(2 * 8 * 32)] * 4),
        ({"attention": "none"}, []),
        ({"kv_lora_rank": 512, "rope_head_dim": 64, "attention": "mla"}, [LayerCache(576)] * 4),
        ({"kv_lora_rank": 256, "rope_head_dim": 32, "attention": "mla"}, [LayerCache(256)] * 4),
        ({"attention_layers": 1, "full_attention_every": 4}, [LayerCache(128)]),
        ({"attention_layers": 2, "sliding_window": 64, "full_attention_every": 0}, [LayerCache(128, 64)] * 2),
        (
            {"sliding_window": 128, "full_attention_every": 2},
            [LayerCache(128, 128), LayerCache(128), LayerCache(128, 128), LayerCache(128)],
        ),
        ({"sliding_window": 128, "full_attention_every": 0}, [LayerCache(128, 128)] * 4),
        (
            {"sliding_window": 128, "full_attention_every": 2, "kv_shared_layers": 2, "global_head_dim": 64},
            [LayerCache(128, 128), LayerCache(256)],
        ),
        (
            {"layer_scaling": SimpleNamespace(kv_heads=(1, 2, 3, 4))},
            [LayerCache(64), LayerCache(128), LayerCache(192), LayerCache(256)],
        ),
        ({"layer_scaling": SimpleNamespace(kv_heads=None)}, [LayerCache(128)] * 4),
    ],
)
def test_a_catalog_row_tells_its_cache(changes: dict[str, Any], caches: list[LayerCache]) -> None:
    geometry = card_geometry(Row(**changes))
    assert geometry is not None
    assert list(geometry.caches) == caches


@pytest.mark.parametrize("cell", ["layers", "hidden_size", "heads", "vocabulary"])
def test_a_row_without_what_decides_the_memory_has_no_geometry(cell: str) -> None:
    assert card_geometry(Row(**{cell: None})) is None


@pytest.mark.parametrize(
    ("scaling", "context"),
    [
        (None, 4096),
        ({"rope_type": "linear", "factor": 4.0}, 16384),
        ({"type": "dynamic", "factor": 2}, 8192),
        ({"rope_type": "yarn", "factor": 4.0}, 4096),
        ({"rope_type": "linear", "factor": None}, 4096),
    ],
)
def test_scaled_positions_lengthen_the_context(scaling: Any, context: int) -> None:
    assert parse_config_geometry({**shapes.PHI_3_MINI, "rope_scaling": scaling}).context == context


def test_files_are_read_and_errors_name_them(tmp_path: Path) -> None:
    metadata = {key: value for key, value in shapes.GGUF_LFM2_1B.items() if key != "general.architecture"}
    file = write_gguf(tmp_path / "x.gguf", metadata, "lfm2")
    assert read_gguf_geometry(file) == parse_gguf_geometry(shapes.GGUF_LFM2_1B)
    (tmp_path / "config.json").write_bytes(orjson.dumps(shapes.LLAMA_8B))
    assert read_config_geometry(tmp_path) == parse_config_geometry(shapes.LLAMA_8B)
    (tmp_path / "config.json").write_text('{"num_hidden_layers": "many"}')
    with pytest.raises(ValueError, match=r"config\.json: num_hidden_layers is 'many', expected a number"):
        read_config_geometry(tmp_path)
    with pytest.raises(ValueError, match=r"y\.gguf: has no block_count"):
        read_gguf_geometry(write_gguf(tmp_path / "y.gguf", {}))


ODD_VALUES = st.sampled_from([None, 0, 1, -1, 2**70, 1.5, "x", True, [1, 2], [], {}, ["full_attention"]])


@given(
    st.sampled_from([shapes.GEMMA_3_1B, shapes.QWEN_3_5_LIKE["text_config"], shapes.OPENELM_270M]), st.data()
)
@settings(max_examples=15)
def test_an_odd_configuration_is_read_or_refused(config: dict[str, Any], data: st.DataObject) -> None:
    keys = st.sampled_from(sorted(config))
    odd = {**config, **data.draw(st.dictionaries(keys, ODD_VALUES, min_size=1, max_size=3))}
    try:
        geometry = parse_config_geometry(odd)
    except ValueError:
        return
    assert estimate_memory(geometry, 0, 2048, 2).total >= 0


@given(st.sampled_from([shapes.GGUF_GEMMA_3_1B, shapes.GGUF_LFM2_1B, shapes.GGUF_MAMBA_130M]), st.data())
@settings(max_examples=15)
def test_odd_metadata_are_read_or_refused(metadata: dict[str, Any], data: st.DataObject) -> None:
    keys = st.sampled_from(sorted(metadata))
    odd = {**metadata, **data.draw(st.dictionaries(keys, ODD_VALUES, min_size=1, max_size=3))}
    try:
        geometry = parse_gguf_geometry(odd)
    except ValueError:
        return
    assert estimate_memory(geometry, 0, 2048, 2).total >= 0


def test_the_types_of_the_cache_differ_in_size() -> None:
    llama = parse_config_geometry(shapes.LLAMA_8B)
    sizes = {kind: estimate_kv_cache(llama, 1024, size) for kind, size in KV_BYTES.items()}
    assert sizes["f16"] == sizes["bf16"] == 2 * sizes["fp8"] == sizes["f32"] // 2 == 128 * 2**20
    assert sizes["q8_0"] / sizes["f16"] == 17 / 32
    assert sizes["q4_0"] / sizes["f16"] == 9 / 32


def test_the_estimate_is_printed() -> None:
    lines = list(describe_memory(parse_config_geometry(shapes.LLAMA_8B), 5 * 2**30, 8192, 4))
    assert lines[0].split() == ["weights", "5.0", "GiB"]
    assert lines[1].startswith("KV cache")
    assert lines[1].endswith("4 requests of 8192 tokens, f16, 128.0 KiB a token")
    assert lines[-1].split() == ["total", "9.3", "GiB"]
