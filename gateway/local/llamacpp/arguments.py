"""Checks `local.arguments` and `local.speculative` of a local llama.cpp, without llama.cpp's own code."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .options import BY_NAME, Option
from .refused_options import REFUSED

OPTIONS_PAGE = "docs/llamacpp-options.md"
"""The page that lists the options."""
DEFAULT_BATCH = 512
"""Batch size in tokens. A larger batch would delay other requests longer and take more memory."""
BATCH_OPTIONS = ("batch-size", "ubatch-size")


def parse_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by the options' names for documentation.

    Raises ValueError, with a path within `local`, for what llama.cpp would refuse, or the gateway must set itself.
    """
    values: dict[str, Any] = {}
    for key, given in arguments.items():
        option = find_option(key)
        if option.name in values:
            raise ValueError(f"arguments.{key}: {option.name} is set twice, by two of its names")
        is_negative = normalize_name(key) in option.negative
        value = parse_value(option, given, f"arguments.{key}")
        values[option.name] = not value if is_negative else value
    sizes = {values[name] for name in BATCH_OPTIONS if name in values}
    if len(sizes) > 1:
        raise ValueError(
            "arguments: batch-size and ubatch-size must be equal: llama.cpp returns hidden states only of one"
            " physical batch"
        )
    return values


def find_option(key: str) -> Option:
    """Return the option of a name. Raises ValueError with the reason if `local.arguments` cannot have it."""
    name = normalize_name(key)
    if name in BY_NAME:
        return BY_NAME[name]
    if name in REFUSED:
        raise ValueError(f"arguments.{key}: {REFUSED[name]}")
    close = get_close_matches(name, BY_NAME, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ValueError(f"arguments.{key}: llama.cpp has no such option: {hint}{OPTIONS_PAGE} lists all")


def normalize_name(key: str) -> str:
    """Return an option's name without leading dashes; llama.cpp takes `_` for `-`."""
    return key.lstrip("-").replace("_", "-")


def parse_value(option: Option, given: Any, where: str) -> Any:
    """Return an option's parsed value. Raises ValueError that says `where` another one was expected."""
    try:
        return option.type.parse(given)
    except ValueError as error:
        raise ValueError(f"{where}: expected {option.type.describe()}, not {given!r}") from error


def resolve_paths(arguments: Mapping[str, Any], resolve: Callable[[str], str]) -> dict[str, Any]:
    """Return the arguments with `resolve` applied to each path. Leaves what is no argument to `parse_arguments`."""
    return {key: _resolve_value(key, value, resolve) for key, value in arguments.items()}


def _resolve_value(key: Any, value: Any, resolve: Callable[[str], str]) -> Any:
    option = BY_NAME.get(normalize_name(str(key)))
    try:
        return value if option is None else option.type.map_paths(option.type.parse(value), resolve)
    except ValueError:
        return value


def find_missing_file(values: Mapping[str, Any]) -> str | None:
    """Return the error for the first parsed value that names a file that is not there, or None."""
    paths = [(name, path) for name, value in values.items() for path in BY_NAME[name].type.list_paths(value)]
    missing = (
        f"arguments.{name}: there is no file {path}" for name, path in paths if not Path(path).is_file()
    )
    return next(missing, None)


def choose_batch(values: Mapping[str, Any]) -> int:
    """Return the batch size in tokens, which is the maximum whose hidden states llama.cpp returns."""
    return next((int(values[name]) for name in BATCH_OPTIONS if name in values), DEFAULT_BATCH)
