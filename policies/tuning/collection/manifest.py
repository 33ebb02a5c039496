"""The manifest of a collection: what its drafts were made from, so that only the same collection is resumed."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from policies.records.schema import Line, RecordError
from policies.tuning.starter_set import Item
from routers.confidence.calibration import LogprobSource

MANIFEST_FILE = "collection.json"


class Manifest(Line):
    """What all drafts of a collection have in common."""

    source: LogprobSource
    """The model that wrote the drafts, and its engine."""
    items: str
    """SHA-256 of the items, in hexadecimal. Their order does not matter."""
    max_tokens: int
    """Maximum tokens of a draft."""


def hash_items(items: Sequence[Item]) -> str:
    """Return the SHA-256 of a set of items, in hexadecimal."""
    digest = hashlib.sha256()
    for item in sorted(items, key=lambda item: item.id):
        digest.update(item.model_dump_json().encode() + b"\n")
    return digest.hexdigest()


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a folder, or None if it has none. Raises RecordError if it cannot be read."""
    path = folder / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        raise RecordError(f"{path}: {error}") from error


def start_collection(folder: Path, manifest: Manifest) -> None:
    """Make a folder for a collection, with its manifest. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    partial_file = folder / f"{MANIFEST_FILE}.partial"
    partial_file.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial_file.replace(folder / MANIFEST_FILE)


def check_same_collection(folder: Path, manifest: Manifest) -> None:
    """Raise RecordError that says what differs if the folder's manifest is not `manifest`."""
    existing = read_manifest(folder)
    if existing is None:
        raise RecordError(f"{folder} has no {MANIFEST_FILE}: it holds no collection that can be resumed")
    if differences := list(list_differences(existing, manifest)):
        raise RecordError(f"{folder} holds another collection: {'; '.join(differences)}")


def list_differences(existing: Manifest, wanted: Manifest) -> Iterator[str]:
    """Yield a sentence for each value that differs. A value that only one of them knows (null) does not differ."""
    there, here = _flatten(existing.model_dump()), _flatten(wanted.model_dump())
    for key in sorted(there.keys() & here.keys()):
        if there[key] != here[key]:
            yield f"its {key} is {there[key]}, and now it is {here[key]}"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values that are not None, by their dotted paths."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat
