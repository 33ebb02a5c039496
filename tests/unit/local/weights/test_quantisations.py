"""Which quantisations the names of files tell, and which is chosen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.local.models.gguf import split_name
from gateway.local.weights.quantisations import (
    choose_weights,
    list_weights,
    read_quantisation,
)
from policies.loading.yaml_files import ConfigError


@pytest.mark.parametrize(
    ("stem", "quantisation"),
    [
        ("qwen2.5-1.5b-instruct-q4_k_m", "Q4_K_M"),
        ("SmolLM2-135M-Instruct.Q4_1", "Q4_1"),
        ("Llama-3.2-1B-Instruct-IQ3_XXS", "IQ3_XXS"),
        ("Qwen3-4B-UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("Phi-3-mini-4k-instruct-fp16", "FP16"),
        ("gemma-3-1b-it-BF16", "BF16"),
        ("model-TQ1_0", "TQ1_0"),
        ("gpt-oss-20b-mxfp4", "MXFP4"),
        ("Meta-Llama-3-8B-Instruct-Q4_0_4_4", "Q4_0_4_4"),
        ("Q8_0/model", "Q8_0"),
        ("Q4_K_M-tuned-Q8_0", "Q8_0"),
        ("Q4ever/my-model", "my-model"),
        ("model", "model"),
    ],
)
def test_a_name_tells_the_quantisation(stem: str, quantisation: str):
    assert read_quantisation(stem) == quantisation


FILES = [
    "README.md",
    "m-Q2_K.gguf",
    "m-Q4_K_M.gguf",
    "mmproj-m-F16.gguf",
    "m.imatrix.gguf",
    "m-Q8_0-00002-of-00002.gguf",
    "m-Q8_0-00001-of-00002.gguf",
    "m-F16-00001-of-00003.gguf",
]


@pytest.mark.parametrize(
    ("wanted", "files"),
    [
        (None, ("m-Q4_K_M.gguf",)),
        ("q2_k", ("m-Q2_K.gguf",)),
        ("m-Q2_K", ("m-Q2_K.gguf",)),
        ("Q8_0", ("m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf")),
    ],
)
def test_a_quantisation_is_chosen_with_all_its_parts(wanted: str | None, files: tuple[str, ...]):
    assert choose_weights(FILES, wanted, "u/m").files == files


def test_the_only_quantisation_needs_no_name():
    assert choose_weights(["m-Q6_K.gguf"], None, "u/m").quantisation == "Q6_K"


def test_a_publishers_prefix_may_be_left_out_unless_both_are_there():
    assert choose_weights(["m-UD-Q4_K_XL.gguf"], "Q4_K_XL", "u/m").quantisation == "UD-Q4_K_XL"
    both = ["m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf"]
    assert choose_weights(both, None, "u/m").files == ("m-Q4_K_M.gguf",)


@pytest.mark.parametrize(
    ("names", "wanted", "said"),
    [
        (
            FILES,
            "Q5_K_M",
            "u/m has no quantisation Q5_K_M; there are: F16, Q2_K, Q4_K_M, Q8_0; name one, as in u/m:",
        ),
        (["m-Q2_K.gguf", "m-Q6_K.gguf"], None, "no quantisation Q4_K_M; there are: Q2_K, Q6_K"),
        (FILES, "F16", "is one of 3 parts, and 1 of them are there; all are needed"),
        (
            ["a-Q4_0.gguf", "b-Q4_0.gguf"],
            "Q4_0",
            "several files of quantisation Q4_0: a-Q4_0.gguf, b-Q4_0.gguf",
        ),
        (["model.safetensors"], None, "u/m holds no GGUF file"),
    ],
)
def test_what_is_not_there_is_explained_by_what_is(names: list[str], wanted: str | None, said: str):
    with pytest.raises(ConfigError, match=said):
        choose_weights(names, wanted, "u/m")


@given(
    st.lists(st.text(alphabet="aQ4_K-0of1.gGuF/", max_size=30).map(lambda name: name + ".gguf"), unique=True)
)
def test_each_file_belongs_to_one_model(names: list[str]):
    weights = list_weights(names)
    assert sorted(name for each in weights for name in each.files) == sorted(names)
    assert all(len({split_name(name) for name in each.files}) == 1 for each in weights)
