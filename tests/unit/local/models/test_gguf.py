"""Metadata of GGUF files: what `gguf` writes is read as it is, and damaged files are refused."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gguf_files import write_gguf

from gateway.local.models.gguf import (
    LongArray,
    list_parts,
    read_gguf_metadata,
    read_gguf_tensors,
    read_quantisation,
)

KEYS = st.text("abc._", min_size=1, max_size=8)
TEXTS = st.text(min_size=1, max_size=20)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(width=32, allow_nan=False),
    TEXTS,
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=5),
    st.lists(st.booleans(), min_size=1, max_size=5),
    st.lists(TEXTS, min_size=1, max_size=5),
)
METADATA = st.dictionaries(KEYS, VALUES, max_size=6)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf") / "file.gguf"


@given(METADATA)
@settings(max_examples=15)
def test_what_gguf_writes_is_read(file: Path, metadata: dict[str, Any]) -> None:
    write_gguf(file, metadata)
    assert read_gguf_metadata(file) == {"general.architecture": "llama", **metadata}


@pytest.fixture(scope="module")
def content(file: Path) -> bytes:
    write_gguf(
        file, {"llama.block_count": 2, "tokenizer.chat_template": "{{ x }}", "a.b": [True, False], "c": ["d"]}
    )
    return file.read_bytes()


@given(st.data())
@settings(max_examples=40)
def test_a_damaged_file_is_read_or_refused_by_name(file: Path, content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content[: data.draw(st.integers(0, len(content)))])
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        damaged[at : at + 1] = data.draw(st.binary(min_size=1, max_size=8))
    file.write_bytes(damaged)
    for read in (read_gguf_metadata, read_gguf_tensors):
        assert find_refusal(read, file).startswith(str(file))


def find_refusal(read: Callable[[Path], object], file: Path) -> str:
    """Return the error, or the file's name if there is none."""
    try:
        read(file)
    except ValueError as error:
        return str(error)
    return str(file)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (struct.pack("<IQ", 8, 2**63), "string of"),
        (struct.pack("<IIQ", 9, 8, 2**63), "damaged"),
        (struct.pack("<IIQ", 9, 4, 2**63), "ends within"),
        (struct.pack("<IIQ", 9, 9, 2**63), "arrays"),
        (struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 1000, "too deep"),
        (struct.pack("<I", 77), "damaged"),
    ],
)
def test_hostile_lengths_and_types_are_refused_at_once(tmp_path: Path, entry: bytes, what: str) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(struct.pack("<4sIQQQ", b"GGUF", 3, 0, 2**63, 1) + b"a" + entry)
    with pytest.raises(ValueError, match=what):
        read_gguf_metadata(file)


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"GGML" + bytes(40), struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), b"<html>" * 20]
)
def test_what_is_no_gguf_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.gguf: is"):
        read_gguf_metadata(file)


def test_a_vocabulary_is_not_read(tmp_path: Path) -> None:
    tokens = [f"t{number}" for number in range(5000)]
    file = write_gguf(tmp_path / "x.gguf", {"tokens": tokens, "scores": [0.5] * 5000, "last": 7})
    metadata = read_gguf_metadata(file)
    assert metadata["tokens"] == metadata["scores"] == LongArray(5000)
    assert metadata["last"] == 7


@pytest.mark.parametrize(
    ("file_type", "name"), [(15, "Q4_K_M"), (0, "F32"), (3, "Q4_1"), (4711, None), ("x", None)]
)
def test_the_quantisation_is_named(file_type: Any, name: str | None) -> None:
    assert read_quantisation({"general.file_type": file_type}) == name


def test_tensors_are_found_where_gguf_puts_them(tmp_path: Path) -> None:
    import numpy as np

    writer = GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_custom_alignment(64)
    writer.add_tensor("a", np.full((2, 8), 3.0, np.float32))
    writer.add_tensor("b", np.full((4,), 5.0, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    content = (tmp_path / "x.gguf").read_bytes()
    tensors = read_gguf_tensors(tmp_path / "x.gguf")
    assert tensors["a"].shape == (2, 8)
    assert content[tensors["b"].at :][:16] == np.full(4, 5.0, np.float32).tobytes()


def test_the_parts_of_a_split_file_lie_beside_the_first():
    first = Path("/m/x-00001-of-00002.gguf")
    assert list_parts(first) == [first, Path("/m/x-00002-of-00002.gguf")]
    assert list_parts(Path("/m/x.gguf")) == [Path("/m/x.gguf")]
    assert list_parts(Path("/blobs/sha256-00")) == [Path("/blobs/sha256-00")]
