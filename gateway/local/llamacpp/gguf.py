"""Reads tensors of a GGUF file by name, without the vocabulary, for which `gguf`'s own reader takes seconds.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

STRING_TYPE, ARRAY_TYPE = 8, 9
VALUE_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Sizes in bytes of the value types of fixed length."""
DEFAULT_ALIGNMENT = 32


class Tensor(NamedTuple):
    """One tensor's header: `shape` has the rows first; `at` is the offset of its data in bytes."""

    shape: Sequence[int]
    type: int
    at: int


def read_matrix(path: Path, *names: str) -> Any:
    """Return the first of the named tensors that exists, as a float32 array.

    Raises KeyError if none exists, ValueError if the file is not GGUF of version 2 or later.
    """
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    with path.open("rb") as file:
        tensors = _read_tensors(file)
        tensor = next((tensors[name] for name in names if name in tensors), None)
        if tensor is None:
            raise KeyError(f"{path}: has none of {', '.join(names)}")
        quantization = GGMLQuantizationType(tensor.type)
        block, block_bytes = GGML_QUANT_SIZES[quantization]
        row_bytes = tensor.shape[-1] // block * block_bytes
        file.seek(tensor.at)
        data = np.frombuffer(file.read(prod(tensor.shape[:-1]) * row_bytes), np.uint8)
    plain_dtype = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(
        quantization
    )
    rows = data.reshape(*tensor.shape[:-1], row_bytes)
    return dequantize(rows if plain_dtype is None else rows.view(plain_dtype), quantization).astype(
        np.float32, copy=False
    )


def _read_tensors(file: BinaryIO) -> dict[str, Tensor]:
    magic, version, tensor_count, value_count = _unpack(file, "<4sIQQ")
    if magic != b"GGUF" or version < 2:
        raise ValueError(f"{file.name}: is no GGUF file of a version that is read here")
    alignment = DEFAULT_ALIGNMENT
    for _ in range(value_count):
        name, (kind,) = _read_string(file), _unpack(file, "<I")
        if name == b"general.alignment":
            (alignment,) = _unpack(file, "<I")
        else:
            _skip_value(file, kind)
    infos = [_read_tensor_info(file) for _ in range(tensor_count)]
    start = -(-file.tell() // alignment) * alignment
    return {name: tensor._replace(at=start + tensor.at) for name, tensor in infos}


def _read_tensor_info(file: BinaryIO) -> tuple[str, Tensor]:
    name = _read_string(file).decode()
    (dimensions,) = _unpack(file, "<I")
    shape = _unpack(file, f"<{dimensions}Q")
    kind, at = _unpack(file, "<IQ")
    return name, Tensor(shape[::-1], kind, at)


def _skip_value(file: BinaryIO, kind: int) -> None:
    """Skip a metadata value."""
    if kind == STRING_TYPE:
        _read_string(file)
    elif kind == ARRAY_TYPE:
        element_type, count = _unpack(file, "<IQ")
        if element_type in VALUE_SIZES:
            file.seek(count * VALUE_SIZES[element_type], 1)
        else:
            for _ in range(count):
                _skip_value(file, element_type)
    else:
        file.seek(VALUE_SIZES[kind], 1)


def _read_string(file: BinaryIO) -> bytes:
    (length,) = _unpack(file, "<Q")
    return file.read(length)


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
