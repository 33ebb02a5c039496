"""Speculative decoding inside llama.cpp, as its options."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .arguments import parse_value
from .options import BY_NAME

SWITCHING_OPTIONS = ("spec-type", "spec-draft-model")
"""Options that turn speculation on."""


class Method(NamedTuple):
    """llama.cpp's type of a method, and the options that the keys of `local.speculative` become."""

    type: str
    options: Mapping[str, str]


METHODS = {
    "ngram": Method(
        "ngram-simple",
        {
            "num_speculative_tokens": "spec-ngram-simple-size-m",
            "prompt_lookup_max": "spec-ngram-simple-size-n",
        },
    ),
    "draft_model": Method(
        "draft-simple", {"num_speculative_tokens": "spec-draft-n-max", "model": "spec-draft-model"}
    ),
}


def to_options(speculative: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parsed options that `local.speculative` stands for. Raises ValueError for a method or a key that
    llama.cpp lacks, and for a wrong value."""
    given = {key: value for key, value in speculative.items() if value is not None}
    name = given.pop("method")
    if name not in METHODS:
        raise ValueError(
            f"speculative.method: llama.cpp has {' and '.join(METHODS)}, not {name!r}; its other types are set by"
            " arguments: {spec-type: …}"
        )
    method = METHODS[name]
    for key in given:
        if key not in method.options:
            raise ValueError(f"speculative.{key}: in llama.cpp, {name} takes {', '.join(method.options)}")
    options = {method.options[key]: (key, value) for key, value in given.items()}
    return {"spec-type": [method.type]} | {
        name: parse_value(BY_NAME[name], value, f"speculative.{key}")
        for name, (key, value) in options.items()
    }


def has_speculation(values: Mapping[str, Any]) -> bool:
    """Return whether parsed options turn speculation on."""
    return "spec-draft-model" in values or any(type_ != "none" for type_ in values.get("spec-type", ()))
