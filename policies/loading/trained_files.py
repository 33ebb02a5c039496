"""Fills the fields of a policy that name a file of trained parameters with the content of that file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from routers.confidence.calibration import Calibrator
from routers.strategies.difficulty import Scorer

from .layers import BUILT_IN
from .regular_files import ReadFile
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

SHIPPED_CALIBRATORS = BUILT_IN / "calibrators"
STOCK_CALIBRATOR = SHIPPED_CALIBRATORS / "smollm2-135m-instruct.llamacpp.json"
"""The calibrator of the default small model."""
GENERIC_CALIBRATOR = SHIPPED_CALIBRATORS / "generic.json"
"""The calibrator of small models that have none of their own."""


class TrainedField(NamedTuple):
    """A policy field that may name a trained file; `stock` is the file that ships for it, or None."""

    at: KeyPath
    model: type[BaseModel]
    stock: Path | None


TRAINED_FIELDS = (
    TrainedField(("router", "calibrator"), Calibrator, STOCK_CALIBRATOR),
    TrainedField(("router", "constrained_calibrator"), Calibrator, None),
    TrainedField(("router", "gate", "scorer"), Scorer, None),
    TrainedField(("router", "otherwise", "calibrator"), Calibrator, STOCK_CALIBRATOR),
    TrainedField(("router", "otherwise", "constrained_calibrator"), Calibrator, None),
    TrainedField(("router", "otherwise", "gate", "scorer"), Scorer, None),
)


def fill_trained(data: dict[str, Any], places: Places, read: ReadFile) -> dict[str, Any]:
    """Return the content of a policy with trained models in place of file names. Raises ConfigError."""
    for field in TRAINED_FIELDS:
        name = _find_value(data, field.at)
        if isinstance(name, str):
            data = _replace_value(
                data, field.at, _load_trained(field, name, find_place(places, field.at), read)
            )
    return data


def _load_trained(field: TrainedField, name: str, place: Place, read: ReadFile) -> BaseModel:
    """Return the trained model in file `name`, relative to the policy file. Raises ConfigError."""
    where = f"{place}: {to_dotted(field.at)}"
    if name == "stock" and field.stock is None:
        raise ConfigError(f"{where}: none ships; expected the path of a file that `smallfirst tune` wrote")
    path = field.stock if name == "stock" and field.stock is not None else place.path.parent / name
    try:
        return field.model.model_validate_json(read(path))
    except OSError as error:
        expected = "a file" if field.stock is None else "`stock` or a file"
        raise ConfigError(f"{where}: {path}: {error.strerror}; expected {expected}") from error
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
