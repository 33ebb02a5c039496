"""GGUF files with given metadata and no tensors, written by the package `gguf`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf import GGUFWriter


def write_gguf(path: Path, metadata: Mapping[str, Any], architecture: str = "llama") -> Path:
    """Write a file with these metadata: booleans, 32-bit numbers, strings, and lists of them."""
    writer = GGUFWriter(path, architecture)
    for key, value in metadata.items():
        _add_value(writer, key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def _add_value(writer: GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_int32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)
