"""Fingerprints of models on this machine: digests of their weights and chat templates.

They are cached in the user's data folder, since reading gigabytes takes seconds. A file's name is never taken for its
digest, not even in the cache of Hugging Face's library: after a download the library compares sizes only.
"""

import hashlib
import json
import logging
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

from gateway.data_folder import data_folder
from policies.loading.policy_files import read_stamp
from routers.confidence.calibration import Fingerprint

from .gguf import list_parts, read_gguf_metadata, read_gguf_tensors, read_quantisation

log = logging.getLogger(__name__)

LARGE_BYTES = 500_000_000
"""Size of a model from which it is reported that its files are read."""
MAX_HEADER_BYTES = 100_000_000
"""Maximum size of a safetensors file's header, as in the format's own reader."""

ADAPTER_OPTIONS = ("lora", "lora-scaled")
"""Options of an engine that change its weights for all requests."""


def read_fingerprint(path: Path, report: Callable[[str], None] = lambda line: None) -> Fingerprint | None:
    """Return the fingerprint of a GGUF file or of a folder with `config.json`; None if it cannot be read.

    Files that have not changed are read once. `report` is called with a line before much is read.
    """
    try:
        files, cached = list_model_files(path), _cache_path(path)
        stamp = [[file.name, *(read_stamp(file) or ())] for file in files]
        if (known := _read_cached(cached, stamp)) is not None:
            return known
        size = sum(file.stat().st_size for file in files)
        if size >= LARGE_BYTES:
            report(f"reading {path.name} once, to know it again ({size / 1e9:.1f} GB)")
        fingerprint = _measure_folder(path, files) if path.is_dir() else _measure_gguf(files)
    except (OSError, ValueError, LookupError, TypeError) as error:
        log.warning("%s has no fingerprint: %s", path, error)
        return None
    _write_cached(cached, path, stamp, fingerprint)
    return fingerprint


def read_engine_fingerprint(
    path: Path, arguments: Mapping[str, Any], report: Callable[[str], None] = lambda line: None
) -> Fingerprint | None:
    """Return the fingerprint of a model under an engine's arguments. Those that replace a part of the model replace
    what its files say. Reads gigabytes once: not for the event loop."""
    fingerprint = read_fingerprint(path, report)
    if fingerprint is None:
        return None
    arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
    changes: dict[str, str | None] = {}
    if quantisation := arguments.get("quantization"):
        changes["quantisation"] = str(quantisation)
    if template := arguments.get("chat-template-file") or arguments.get("chat-template"):
        changes["chat_template"] = hash_text(_read_template(str(template)))
    if adapters := {name: arguments[name] for name in ADAPTER_OPTIONS if arguments.get(name)}:
        changes["weights"] = hash_text(f"{fingerprint.weights} {json.dumps(adapters, sort_keys=True)}")
    return fingerprint.model_copy(update=changes)


def _read_template(template: str) -> str:
    """Return a chat template that is given as a text, or by its file."""
    with suppress(OSError, ValueError):
        return Path(template).expanduser().read_text(encoding="utf-8")
    return template


def list_model_files(path: Path) -> list[Path]:
    """Return the files that make up a model: one GGUF file or all its parts, or a folder's weights and `config.json`.

    Raises OSError if there are none."""
    if path.is_dir():
        weights = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.bin"))
        return [*weights, path / "config.json", *(name for name in _list_templates(path) if name.exists())]
    return list_parts(path)


def _measure_gguf(files: list[Path]) -> Fingerprint:
    metadata = read_gguf_metadata(files[0])
    return Fingerprint(
        weights=_hash_files(files),
        quantisation=read_quantisation(metadata),
        chat_template=hash_text(metadata.get("tokenizer.chat_template")),
        parameters=sum(prod(tensor.shape) for file in files for tensor in read_gguf_tensors(file).values()),
    )


def _measure_folder(folder: Path, files: list[Path]) -> Fingerprint:
    config = _read_json(folder / "config.json")
    tensors = [file for file in files if file.suffix == ".safetensors"]
    return Fingerprint(
        weights=_hash_files([file for file in files if file not in _list_templates(folder)]),
        quantisation=_find_quantisation(config),
        chat_template=hash_text(_find_template(folder)),
        parameters=sum(map(_count_parameters, tensors)) if tensors else None,
    )


def _find_quantisation(config: Mapping[str, Any]) -> str | None:
    """Return the method and bits of quantised weights, else the type of the numbers."""
    quantised = config.get("quantization_config")
    if not isinstance(quantised, dict):
        return _to_text(config.get("dtype") or config.get("torch_dtype"))
    bits = quantised.get("bits")
    return "-".join(str(value) for value in (quantised.get("quant_method"), bits) if value) or None


def _list_templates(folder: Path) -> list[Path]:
    return [folder / "chat_template.jinja", folder / "tokenizer_config.json"]


def _find_template(folder: Path) -> object:
    """Return a folder's chat template. One in a file of its own wins, as in transformers."""
    own, tokenizer = _list_templates(folder)
    if own.is_file():
        return own.read_text(encoding="utf-8")
    template = _read_json(tokenizer).get("chat_template") if tokenizer.is_file() else None
    if isinstance(template, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        return named.get("default")
    return template


def hash_text(text: object) -> str | None:
    """Return the SHA-256 of a text; None if it is none."""
    return hashlib.sha256(text.encode()).hexdigest() if isinstance(text, str) else None


def _count_parameters(file: Path) -> int:
    """Return the numbers in a safetensors file, by its header."""
    with file.open("rb") as content:
        (size,) = struct.unpack("<Q", content.read(8))
        if size > MAX_HEADER_BYTES:
            raise ValueError(f"{file.name} is no safetensors file")
        header = json.loads(content.read(size))
    return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _hash_files(files: Iterable[Path]) -> str:
    """Return the SHA-256 of a file; of several, that of the list of their digests and names."""
    digests = {file.name: _hash_file(file) for file in files}
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _hash_file(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no mapping")
    return content


def _to_text(value: object) -> str | None:
    return None if value is None else str(value)


Stamps = list[list[str | int]]


def _cache_path(model: Path) -> Path:
    """Return the file that holds a model's fingerprint."""
    name = hashlib.sha256(str(model.resolve()).encode()).hexdigest()[:16]
    return data_folder() / "fingerprints" / f"{name}.json"


def _read_cached(cached: Path, stamp: Stamps) -> Fingerprint | None:
    """Return the fingerprint of files with these stamps, or None."""
    with suppress(OSError, ValueError, LookupError):
        entry = _read_json(cached)
        if entry["stamp"] == stamp:
            return Fingerprint.model_validate(entry["fingerprint"])
    return None


def _write_cached(cached: Path, model: Path, stamp: Stamps, fingerprint: Fingerprint) -> None:
    """Keep a fingerprint. If that is not possible, the files are read again next time."""
    entry = {"model": str(model.resolve()), "stamp": stamp, "fingerprint": fingerprint.model_dump()}
    draft = cached.with_name(f"{cached.name}.{os.getpid()}.tmp")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
        draft.replace(cached)
    except OSError as error:
        log.info("%s cannot be written: %s", cached, error.strerror)
