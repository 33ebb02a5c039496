"""Fills the fields of a policy that name a file of trained parameters with the content of that file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from routers.confidence.calibration import Calibrator
from routers.strategies.difficulty import Scorer

from .layers import BUILT_IN
from .regular_files import ReadFile, read_file
from .yaml_files import (
    ConfigError,
    KeyLines,
    KeyPath,
    Place,
    Places,
    find_place,
    read_yaml,
    to_config_error,
    to_dotted,
    to_places,
)

Trained = TypeVar("Trained", bound=BaseModel)

SHIPPED_CALIBRATORS = BUILT_IN / "calibrators"
STOCK_CALIBRATOR = SHIPPED_CALIBRATORS / "smollm2-135m-instruct.llamacpp.json"
"""The calibrator of the default small model."""
GENERIC_CALIBRATOR = SHIPPED_CALIBRATORS / "generic.json"
"""The calibrator of small models that have none of their own."""


class StockCalibrator(Protocol):
    """Finds the calibrator that `stock` means: the one for the small model that is served."""

    def find(self, read: ReadFile) -> Path: ...

    def list_files(self) -> Iterable[Path]:
        """Return the files among which it searches, apart from those that ship."""
        ...


class TrainedField(NamedTuple):
    """A policy field that may name a trained file, or be `stock` if `has_stock`."""

    at: KeyPath
    model: type[BaseModel]
    has_stock: bool = False


TRAINED_FIELDS = (
    TrainedField(("router", "calibrator"), Calibrator, has_stock=True),
    TrainedField(("router", "constrained_calibrator"), Calibrator),
    TrainedField(("router", "gate", "scorer"), Scorer),
    TrainedField(("router", "otherwise", "calibrator"), Calibrator, has_stock=True),
    TrainedField(("router", "otherwise", "constrained_calibrator"), Calibrator),
    TrainedField(("router", "otherwise", "gate", "scorer"), Scorer),
)


def fill_trained(
    data: dict[str, Any], places: Places, read: ReadFile, stock: Path
) -> tuple[dict[str, Any], dict[KeyPath, Path]]:
    """Return the content of a policy with trained models in place of file names, and the file of each.

    `stock` is the calibrator's file that `stock` means. Raises ConfigError."""
    files: dict[KeyPath, Path] = {}
    for field in TRAINED_FIELDS:
        name = _find_value(data, field.at)
        if isinstance(name, str):
            place = find_place(places, field.at)
            files[field.at] = _find_file(field, name, place, stock)
            data = _replace_value(data, field.at, _load_trained(field, files[field.at], place, read))
    return data, files


def _find_file(field: TrainedField, name: str, place: Place, stock: Path) -> Path:
    """Return the file that a field names, relative to the policy file. Raises ConfigError."""
    if name != "stock":
        return place.path.parent / name
    if not field.has_stock:
        what = "none ships; expected the path of a file that `smallfirst tune` wrote"
        raise ConfigError(f"{place}: {to_dotted(field.at)}: {what}")
    return stock


def _load_trained(field: TrainedField, path: Path, place: Place, read: ReadFile) -> BaseModel:
    """Return the trained model in a file. Raises ConfigError."""
    try:
        return read_trained(field.model, path, read)
    except OSError as error:
        expected = "`stock` or a file" if field.has_stock else "a file"
        where = f"{place}: {to_dotted(field.at)}"
        raise ConfigError(f"{where}: {path}: {error.strerror}; expected {expected}") from error


def read_trained(model: type[Trained], path: Path, read: ReadFile = read_file) -> Trained:
    """Return the trained model in a file. Raises OSError, and ConfigError with the file's lines."""
    try:
        return model.model_validate_json(read(path))
    except ValidationError as error:
        raise to_config_error(error, to_places(path, _find_json_lines(path, read))) from error


def _find_json_lines(path: Path, read: ReadFile) -> KeyLines:
    """Return the lines of the keys in a JSON file, read as YAML; none if it is not even that."""
    try:
        return read_yaml(path, read)[1]
    except ConfigError:
        return {}


def _find_value(data: Any, at: KeyPath) -> Any:
    for key in at:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _replace_value(data: Mapping[Any, Any], at: KeyPath, value: Any) -> dict[Any, Any]:
    """Return a copy of `data` with another value at a path that exists."""
    key, *rest = at
    return {**data, key: _replace_value(data[key], tuple(rest), value) if rest else value}
