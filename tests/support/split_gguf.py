"""Splits a GGUF file in two parts as `llama-gguf-split` does, without reading the vocabulary: its bytes are copied.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

STRING, ARRAY = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
ALIGNMENT = 32


class Tensor(NamedTuple):
    name: bytes
    shape: bytes
    """The number of dimensions, the dimensions and the type, as they stand in the file."""
    data: bytes


def split_gguf(path: Path, folder: Path, last: str) -> list[Path]:
    """Write the model again, with one tensor in a second part."""
    folder.mkdir()
    with path.open("rb") as file:
        magic, version, tensors, values = struct.unpack("<4sIQQ", file.read(24))
        start = file.tell()
        for _ in range(values):
            _skip_string(file)
            _skip_value(file, *struct.unpack("<I", file.read(4)))
        end = file.tell()
        file.seek(start)
        metadata = file.read(end - start)
        read = _read_tensors(file, tensors)
    parts = [folder / f"{path.stem}-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, part in enumerate(parts):
        own = [tensor for tensor in read if (tensor.name == last.encode()) == bool(number)]
        split = _write_split(number, len(read))
        count = (0 if number else values) + 3
        header = struct.pack("<4sIQQ", magic, version, len(own), count)
        part.write_bytes(_join(header + (b"" if number else metadata) + split, own))
    return parts


def _read_tensors(file: BinaryIO, count: int) -> list[Tensor]:
    heads: list[tuple[bytes, bytes, int]] = []
    for _ in range(count):
        name = file.read(*struct.unpack("<Q", file.read(8)))
        (dimensions,) = struct.unpack("<I", file.read(4))
        shape = struct.pack("<I", dimensions) + file.read(8 * dimensions + 4)
        heads.append((name, shape, *struct.unpack("<Q", file.read(8))))
    start = -(-file.tell() // ALIGNMENT) * ALIGNMENT
    file.seek(0, 2)
    ends = [*sorted(at for _, _, at in heads), file.tell() - start]
    tensors = []
    for name, shape, at in heads:
        file.seek(start + at)
        tensors.append(Tensor(name, shape, file.read(ends[ends.index(at) + 1] - at)))
    return tensors


def _write_split(number: int, tensors: int) -> bytes:
    values = (
        ("split.no", 2, "<H", number),
        ("split.count", 2, "<H", 2),
        ("split.tensors.count", 5, "<i", tensors),
    )
    return b"".join(
        struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + struct.pack(layout, value)
        for key, kind, layout, value in values
    )


def _join(head: bytes, tensors: list[Tensor]) -> bytes:
    at, infos = 0, b""
    for tensor in tensors:
        infos += struct.pack("<Q", len(tensor.name)) + tensor.name + tensor.shape + struct.pack("<Q", at)
        at += -(-len(tensor.data) // ALIGNMENT) * ALIGNMENT
    return _pad(head + infos) + b"".join(_pad(tensor.data) for tensor in tensors)


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)


def _skip_string(file: BinaryIO) -> None:
    file.seek(struct.unpack("<Q", file.read(8))[0], 1)


def _skip_value(file: BinaryIO, kind: int) -> None:
    if kind == STRING:
        _skip_string(file)
    elif kind == ARRAY:
        element, count = struct.unpack("<IQ", file.read(12))
        for _ in range(count):
            _skip_value(file, element)
    else:
        file.seek(SIZES[kind], 1)
