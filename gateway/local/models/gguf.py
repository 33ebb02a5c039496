"""Reads metadata and tensors of a GGUF file, without the vocabulary, for which `gguf`'s own reader takes seconds.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

STRING_TYPE, ARRAY_TYPE, BOOL_TYPE = 8, 9, 7
VALUE_LAYOUTS = {
    kind: struct.Struct(f"<{code}")
    for kind, code in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"
    }.items()
}  # fmt: skip
"""Layouts of the value types of fixed length."""
MAX_ARRAY_LENGTH = 1024
"""Maximum number of elements of an array that is read; of a longer one only the length. Arrays of one value a layer
are shorter, those of the vocabulary longer."""
MAX_STRING_BYTES = 1 << 26
MAX_NESTING = 4
"""Maximum depth of arrays in arrays."""
MAX_DIMENSIONS = 8
DEFAULT_ALIGNMENT = 32
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})", re.IGNORECASE)
"""The name of one of several files that hold a model together, without its extension."""


def split_name(name: str) -> tuple[str, int]:
    """Return a GGUF file's name without `.gguf` and `-00001-of-00003`, and the number of parts."""
    stem = name[: -len(".gguf")]
    match = _SPLIT.fullmatch(stem)
    return (match["stem"], int(match["parts"])) if match else (stem, 1)


def list_parts(path: Path) -> list[Path]:
    """Return the files of a model whose first file is at `path`: itself, or all parts if it is split."""
    stem, parts = split_name(path.name) if path.suffix == ".gguf" else (path.name, 1)
    if parts == 1:
        return [path]
    return [path.with_name(f"{stem}-{part:05}-of-{parts:05}.gguf") for part in range(1, parts + 1)]


class LongArray(NamedTuple):
    """An array that was not read, such as the vocabulary."""

    length: int


class Tensor(NamedTuple):
    """One tensor's header: `shape` has the rows first; `at` is the offset of its data in bytes."""

    shape: Sequence[int]
    type: int
    at: int


def read_gguf_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a GGUF file by their keys: numbers, booleans, strings, lists, and LongArray.

    Raises ValueError if the file is no complete GGUF file of version 2 or later, OSError if it cannot be read.
    """
    with _open_header(path) as (header, value_count, _):
        return dict(header.read_entry() for _ in range(value_count))


def read_gguf_tensors(path: Path) -> dict[str, Tensor]:
    """Return the headers of a file's tensors by their names. Raises as `read_gguf_metadata`."""
    with _open_header(path) as (header, value_count, tensor_count):
        alignment = _read_alignment(dict(header.read_entry() for _ in range(value_count)))
        tensors = dict(header.read_tensor() for _ in range(tensor_count))
        start = -(-header.at // alignment) * alignment
    return {name: tensor._replace(at=start + tensor.at) for name, tensor in tensors.items()}


def read_quantisation(metadata: Mapping[str, Any]) -> str | None:
    """Return the name of a file's quantisation, such as `Q4_K_M`; None if the metadata hold none that is known."""
    from gguf import LlamaFileType

    try:
        name = str(LlamaFileType(metadata.get("general.file_type")).name)
    except ValueError:
        return None
    return name.removeprefix("MOSTLY_").removeprefix("ALL_")


def read_matrix(path: Path, *names: str) -> Any:
    """Return the first of the named tensors that exists, as a float32 array.

    Raises KeyError if none exists, ValueError if the file is not GGUF of version 2 or later.
    """
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    tensors = read_gguf_tensors(path)
    tensor = next((tensors[name] for name in names if name in tensors), None)
    if tensor is None:
        raise KeyError(f"{path}: has none of {', '.join(names)}")
    quantization = GGMLQuantizationType(tensor.type)
    block, block_bytes = GGML_QUANT_SIZES[quantization]
    row_bytes = tensor.shape[-1] // block * block_bytes
    with path.open("rb") as file:
        file.seek(tensor.at)
        data = np.frombuffer(file.read(prod(tensor.shape[:-1]) * row_bytes), np.uint8)
    plain_dtype = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(
        quantization
    )
    rows = data.reshape(*tensor.shape[:-1], row_bytes)
    return dequantize(rows if plain_dtype is None else rows.view(plain_dtype), quantization).astype(
        np.float32, copy=False
    )


@contextmanager
def _open_header(path: Path) -> Iterator[tuple["_Header", int, int]]:
    """Yield a reader that stands before the metadata, and the numbers of values and of tensors."""
    with path.open("rb") as file:
        try:
            if not path.stat().st_size:
                raise ValueError("is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                header = _Header(content)
                magic, version = header.unpack(struct.Struct("<4sI"))
                if (
                    magic != b"GGUF" or not 2 <= version < 1 << 16
                ):  # a file of big-endian numbers has a huge one
                    raise ValueError("is no GGUF file of a version that is read here")
                tensor_count, value_count = header.unpack(struct.Struct("<QQ"))
                yield header, value_count, tensor_count
        except (ValueError, struct.error, OverflowError, KeyError) as error:
            what = error if type(error) is ValueError else "is no GGUF file, or a damaged or incomplete one"
            raise ValueError(f"{path}: {what}") from error


def _read_alignment(metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment < 1:
        raise ValueError(f"general.alignment is {alignment!r}")
    return alignment


class _Header:
    """Reads the header front to back. What does not fit the file raises ValueError, struct.error, OverflowError or
    KeyError."""

    def __init__(self, content: mmap.mmap) -> None:
        self.at = 0
        self._content = content

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        values = layout.unpack_from(self._content, self.at)
        self.at += layout.size
        return values

    def read_entry(self) -> tuple[str, Any]:
        name, (kind,) = self.read_string(), self.unpack(VALUE_LAYOUTS[4])
        return name, self._read_value(kind, MAX_NESTING)

    def read_tensor(self) -> tuple[str, Tensor]:
        name, (dimensions,) = self.read_string(), self.unpack(VALUE_LAYOUTS[4])
        if dimensions > MAX_DIMENSIONS:
            raise ValueError(f"{name}: has {dimensions} dimensions")
        shape = self.unpack(struct.Struct(f"<{dimensions}Q"))
        kind, at = self.unpack(struct.Struct("<IQ"))
        return name, Tensor(shape[::-1], kind, at)

    def read_string(self) -> str:
        (length,) = self.unpack(VALUE_LAYOUTS[10])
        if length > MAX_STRING_BYTES:
            raise ValueError(f"has a string of {length} bytes")
        start = self.at
        self._skip(length)
        return self._content[start : self.at].decode(errors="replace")

    def _read_value(self, kind: int, nesting: int) -> Any:
        if kind == STRING_TYPE:
            return self.read_string()
        if kind == ARRAY_TYPE:
            return self._read_array(nesting)
        (value,) = self.unpack(VALUE_LAYOUTS[kind])
        return bool(value) if kind == BOOL_TYPE else value

    def _read_array(self, nesting: int) -> list[Any] | LongArray:
        if nesting == 0:
            raise ValueError("has arrays in arrays, too deep")
        kind, length = self.unpack(struct.Struct("<IQ"))
        if length <= MAX_ARRAY_LENGTH:
            return [self._read_value(kind, nesting - 1) for _ in range(length)]
        if kind == STRING_TYPE:
            self._skip_strings(length)
        elif kind == ARRAY_TYPE:
            raise ValueError(f"has an array of {length} arrays")
        else:
            self._skip(length * VALUE_LAYOUTS[kind].size)
        return LongArray(length)

    def _skip_strings(self, count: int) -> None:
        """Skip the strings of a vocabulary: some hundred thousand, so nothing is done that can be left out."""
        unpack, content, at = VALUE_LAYOUTS[10].unpack_from, self._content, self.at
        for _ in range(count):
            at += 8 + unpack(content, at)[0]
        self.at = at
        self._skip(0)

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self._content):
            raise ValueError("is incomplete: it ends within its header")
