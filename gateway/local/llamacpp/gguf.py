"""Reads tensors of a GGUF file by name, without the vocabulary, for which `gguf`'s own reader takes seconds.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

STRING, ARRAY = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Sizes in bytes of the value types of fixed length."""
ALIGNMENT = 32


class Tensor(NamedTuple):
    """One tensor's header: `shape` has the rows first; `at` is the offset of its data in bytes."""

    shape: Sequence[int]
    type: int
    at: int


def matrix(path: Path, *names: str) -> Any:
    """Return the first of the named tensors that exists, as a float32 array.

    Raises KeyError if none exists, ValueError if the file is not GGUF of version 2 or later.
    """
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    with path.open("rb") as file:
        found = _tensors(file)
        tensor = next((found[name] for name in names if name in found), None)
        if tensor is None:
            raise KeyError(f"{path}: has none of {', '.join(names)}")
        kind = GGMLQuantizationType(tensor.type)
        block, size = GGML_QUANT_SIZES[kind]
        row = tensor.shape[-1] // block * size
        file.seek(tensor.at)
        data = np.frombuffer(file.read(prod(tensor.shape[:-1]) * row), np.uint8)
    stored = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(kind)
    rows = data.reshape(*tensor.shape[:-1], row)
    return dequantize(rows if stored is None else rows.view(stored), kind).astype(np.float32, copy=False)


def _tensors(file: BinaryIO) -> dict[str, Tensor]:
    magic, version, tensors, values = _numbers(file, "<4sIQQ")
    if magic != b"GGUF" or version < 2:
        raise ValueError(f"{file.name}: is no GGUF file of a version that is read here")
    alignment = ALIGNMENT
    for _ in range(values):
        name, (kind,) = _string(file), _numbers(file, "<I")
        if name == b"general.alignment":
            (alignment,) = _numbers(file, "<I")
        else:
            _pass(file, kind)
    listed = [_listed(file) for _ in range(tensors)]
    start = -(-file.tell() // alignment) * alignment
    return {name: tensor._replace(at=start + tensor.at) for name, tensor in listed}


def _listed(file: BinaryIO) -> tuple[str, Tensor]:
    name = _string(file).decode()
    (dimensions,) = _numbers(file, "<I")
    shape = _numbers(file, f"<{dimensions}Q")
    kind, at = _numbers(file, "<IQ")
    return name, Tensor(shape[::-1], kind, at)


def _pass(file: BinaryIO, kind: int) -> None:
    """Skip a metadata value."""
    if kind == STRING:
        _string(file)
    elif kind == ARRAY:
        of, count = _numbers(file, "<IQ")
        if of in SIZES:
            file.seek(count * SIZES[of], 1)
        else:
            for _ in range(count):
                _pass(file, of)
    else:
        file.seek(SIZES[kind], 1)


def _string(file: BinaryIO) -> bytes:
    (length,) = _numbers(file, "<Q")
    return file.read(length)


def _numbers(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
