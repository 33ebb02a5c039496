"""Fills the fields of a policy that name a file of trained parameters with the content of that file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from routers.confidence.calibration import Calibrator
from routers.strategies.difficulty import Scorer

from .layers import BUILT_IN
from .yaml_files import (
    At,
    ConfigError,
    Lines,
    Place,
    Places,
    Read,
    dotted,
    explain,
    nearest,
    placed,
    read_yaml,
)

STOCK_CALIBRATOR = BUILT_IN / "calibrators" / "smollm2-135m-instruct.llamacpp.json"


class Trained(NamedTuple):
    """A policy field that may name a trained file; `stock` is the file that ships for it, or None."""

    at: At
    model: type[BaseModel]
    stock: Path | None


TRAINED = (
    Trained(("router", "calibrator"), Calibrator, STOCK_CALIBRATOR),
    Trained(("router", "constrained_calibrator"), Calibrator, None),
    Trained(("router", "gate", "scorer"), Scorer, None),
    Trained(("router", "otherwise", "calibrator"), Calibrator, STOCK_CALIBRATOR),
    Trained(("router", "otherwise", "constrained_calibrator"), Calibrator, None),
    Trained(("router", "otherwise", "gate", "scorer"), Scorer, None),
)


def filled(data: dict[str, Any], places: Places, read: Read) -> dict[str, Any]:
    """Return the content of a policy with trained models in place of file names. Raises ConfigError."""
    for field in TRAINED:
        name = _value(data, field.at)
        if isinstance(name, str):
            data = _with(data, field.at, _loaded(field, name, nearest(places, field.at), read))
    return data


def _loaded(field: Trained, name: str, place: Place, read: Read) -> BaseModel:
    """Return the trained model in file `name`, relative to the policy file. Raises ConfigError."""
    where = f"{place}: {dotted(field.at)}"
    if name == "stock" and field.stock is None:
        raise ConfigError(f"{where}: none ships; expected the path of a file that `smallfirst tune` wrote")
    path = field.stock if name == "stock" and field.stock is not None else place.path.parent / name
    try:
        return field.model.model_validate_json(read(path))
    except OSError as error:
        expected = "a file" if field.stock is None else "`stock` or a file"
        raise ConfigError(f"{where}: {path}: {error.strerror}; expected {expected}") from error
    except ValidationError as error:
        raise explain(error, placed(path, _lines_of_json(path, read))) from error


def _lines_of_json(path: Path, read: Read) -> Lines:
    """Return the lines of the keys in a JSON file, read as YAML; none if it is not even that."""
    try:
        return read_yaml(path, read)[1]
    except ConfigError:
        return {}


def _value(data: Any, at: At) -> Any:
    for key in at:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _with(data: Mapping[Any, Any], at: At, value: Any) -> dict[Any, Any]:
    """Return a copy of `data` with another value at a path that exists."""
    key, *rest = at
    return {**data, key: _with(data[key], tuple(rest), value) if rest else value}
