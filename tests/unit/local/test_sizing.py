"""Context, slots and threads: chosen by the model and the machine, unless they are configured."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import model_shapes as shapes

from gateway.local.models.config_geometry import parse_config_geometry
from gateway.local.models.memory import estimate_memory
from gateway.local.settings import LocalEngine
from gateway.local.sizing.choice import MEMORY_SHARE, choose_sizes, read_model
from gateway.local.sizing.fit import Model
from gateway.local.sizing.machine import Machine, count_cores, read_memory
from policies.loading.yaml_files import ConfigError

GIB = 2**30
LLAMA = parse_config_geometry(shapes.LLAMA_8B)
LLAMA_8B = Model("llama", 5 * GIB, LLAMA)
"""At 128 KiB a token, a context of 8192 takes a GiB."""


def choose(memory_gib: float, cores: int = 8, model: Model = LLAMA_8B, **fields: Any) -> tuple[Any, ...]:
    local = choose_sizes(LocalEngine(**fields), model, Machine(int(memory_gib * GIB), cores)).local
    return local.context, local.slots, local.threads


@pytest.mark.parametrize(
    ("memory_gib", "cores", "sizes"),
    [
        (24, 8, (8192, 4, 4)),
        (24, 2, (8192, 2, 1)),
        (24, 1, (8192, 2, 1)),
        (18, 8, (8192, 3, 4)),
        (14.5, 8, (4096, 3, 4)),
        (12, 8, (2048, 2, 4)),
        (8, 8, (2048, 1, 4)),
    ],
)
def test_less_memory_means_fewer_slots_and_then_less_context(
    memory_gib: float, cores: int, sizes: tuple[int, ...]
) -> None:
    assert choose(memory_gib, cores) == sizes


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ({"context": 16384}, (16384, 2, 4)),
        ({"slots": 8}, (4096, 8, 4)),
        ({"threads": 3}, (8192, 4, 3)),
        ({"context": 1000, "slots": 1, "threads": 1}, (1000, 1, 1)),
    ],
)
def test_configured_values_win(fields: dict[str, int], sizes: tuple[int, ...]) -> None:
    assert choose(20, **fields) == sizes


@given(
    st.floats(14, 64),
    st.integers(1, 64),
    st.sampled_from([None, 1024, 8192]),
    st.sampled_from([None, 1, 3, 8]),
)
@settings(max_examples=30)
def test_what_is_chosen_fits_or_is_the_least(memory: float, cores: int, context: Any, slots: Any) -> None:
    chosen_context, chosen_slots, threads = choose(memory, cores, context=context, slots=slots)
    assert (context or chosen_context, slots or chosen_slots) == (chosen_context, chosen_slots)
    assert 1 <= threads <= cores
    is_least = (chosen_context, chosen_slots) == (context or 2048, slots or 1)
    total = estimate_memory(LLAMA, LLAMA_8B.weights_bytes, chosen_context, chosen_slots).total
    assert is_least or total <= memory * GIB * MEMORY_SHARE


def test_no_more_is_chosen_than_the_model_was_trained_for() -> None:
    openelm = Model("openelm", GIB, parse_config_geometry(shapes.OPENELM_270M))
    assert choose(64, model=openelm)[0] == 2048
    assert choose(64, model=Model("unknown", GIB))[0] == 2048
    assert choose(64, model=Model("known", GIB, context=4096))[0] == 4096


def test_more_context_than_the_model_was_trained_for_is_refused() -> None:
    model = Model("tiny", GIB, context=4096)
    with pytest.raises(
        ConfigError, match=r"local\.context: 8192 tokens, and tiny was trained for 4096; set it to 4096"
    ):
        choose(64, model=model, context=8192)
    scaled = {
        "engine": "vllm",
        "context": 8192,
        "arguments": {"rope_scaling": {"factor": 2}},
    }
    local = LocalEngine(model="tiny", **scaled)
    assert choose_sizes(local, model, Machine(64 * GIB, 8)).local.context == 8192


def test_what_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(ConfigError) as refusal:
        choose(8, context=32768, slots=4)
    for number in ("needs 21.3 GiB", "has 8.0 GiB", "weights 5.0 GiB", "4 slots of 32768 tokens 16.0 GiB"):
        assert number in str(refusal.value)
    with pytest.raises(ConfigError, match=r"needs 5\.5 GiB, and this machine has 5\.0 GiB"):
        choose(5)
    with_gpu = Machine(5 * GIB, 8, beside_bytes=8 * GIB)
    assert choose_sizes(LocalEngine(), LLAMA_8B, with_gpu).local.context == 2048


@pytest.mark.parametrize(
    ("memory_gib", "fields", "context"),
    [
        (80, {}, 131072),
        (24, {}, 127744),
        (24, {"arguments": {"gpu_memory_utilization": 0.5}}, 49152),
        (24, {"arguments": {"kv-cache-dtype": "fp8"}}, 131072),
        (6, {}, 2048),
        (24, {"context": 4096}, 4096),
    ],
)
def test_vllm_gets_the_context_that_one_request_can_have(
    memory_gib: int, fields: dict[str, Any], context: int
) -> None:
    local = LocalEngine(**{"engine": "vllm", "model": "llama", **fields})
    sized = choose_sizes(local, LLAMA_8B, Machine(memory_gib * GIB, 8, is_gpu=True)).local
    assert (sized.context, sized.slots, sized.threads) == (context, None, None)


def test_on_a_cpu_vllm_has_the_cache_that_its_variable_names(monkeypatch: pytest.MonkeyPatch) -> None:
    local = LocalEngine(engine="vllm", model="llama", environment={"VLLM_CPU_KVCACHE_SPACE": 2})
    assert choose_sizes(local, LLAMA_8B, Machine(64 * GIB, 8)).local.context == 16384
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    assert (
        choose_sizes(LocalEngine(engine="vllm", model="x"), LLAMA_8B, Machine(64 * GIB, 8)).local.context
        == 8192
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {},
            "8192 tokens of context for each of 4 slots, 4 threads"
            " (trained for 131072 tokens; needs 9.3 GiB of 24.0 GiB; 8 cores)",
        ),
        (
            {"context": 4096, "slots": 1, "threads": 1},
            "4096 tokens of context for 1 slot, 1 thread (context, slots, threads as configured;"
            " trained for 131072 tokens; needs 5.8 GiB of 24.0 GiB; 8 cores)",
        ),
    ],
)
def test_a_sentence_says_what_was_chosen_and_why(fields: dict[str, int], sentence: str) -> None:
    assert choose_sizes(LocalEngine(**fields), LLAMA_8B, Machine(24 * GIB, 8)).sentence == sentence


def test_a_container_has_what_its_limits_leave(tmp_path: Path) -> None:
    cores, memory = count_cores(tmp_path), read_memory(tmp_path)
    assert cores >= 1
    for words, expected in (("max 100000", cores), ("50000 100000", 1), ("100000 100000", 1), ("odd", cores)):
        (tmp_path / "cpu.max").write_text(words)
        assert count_cores(tmp_path) == expected
    for words, bytes_left in (("max", memory), ("1048576", 2**20), (str(2**60), memory), ("", memory)):
        (tmp_path / "memory.max").write_text(words)
        assert read_memory(tmp_path) == bytes_left


def test_the_weights_are_those_of_all_parts_of_a_split_file(tmp_path: Path) -> None:
    for part in (1, 2):
        (tmp_path / f"m-0000{part}-of-00002.gguf").write_bytes(b"x" * part)
    assert read_model("m", tmp_path / "m-00001-of-00002.gguf").weights_bytes == 3
