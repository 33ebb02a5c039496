"""Types of llama.cpp's options: which values the settings may give, and what xllamacpp takes for them.

The engine's process reads this module too, so it imports only the standard library.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20
MAX_INTEGER = 2**31 - 1
MAX_NUMBER = 3.4e38
"""The maximum of a 32-bit float. No comparison with it is true of what is not a number."""


class OptionType:
    """A value's type."""

    def describe(self) -> str:
        """Return what a value must be, for errors and the documentation."""
        raise NotImplementedError

    def parse(self, value: Any) -> Any:
        """Return the value in a form that JSON can carry and that `parse` accepts again. Raises ValueError."""
        raise NotImplementedError

    def map_paths(self, value: Any, change: Callable[[str], str]) -> Any:
        """Return a parsed value with `change` applied to each path in it."""
        return value

    def list_paths(self, value: Any) -> list[str]:
        """Return the paths in a parsed value."""
        paths: list[str] = []

        def note(path: str) -> str:
            paths.append(path)
            return path

        self.map_paths(value, note)
        return paths

    def convert(self, value: Any, native: Any, current: Any) -> Any:
        """Return what the attribute is set to. `native` is the module xllamacpp, `current` the attribute's value."""
        return value


@dataclass(frozen=True)
class Integer(OptionType):
    minimum: int | None = None
    words: Mapping[str, int] = field(default_factory=dict)
    """Words that stand for a number."""
    unit: int = 1

    def describe(self) -> str:
        least = "" if self.minimum is None else f" of at least {self.minimum}"
        return "".join(["an integer", least, *(f", or {word}" for word in self.words)])

    def parse(self, value: Any) -> int | str:
        if isinstance(value, str) and value in self.words:
            return value
        minimum = -MAX_INTEGER if self.minimum is None else self.minimum
        if type(value) is not int or not minimum <= value <= MAX_INTEGER:
            raise ValueError
        return value

    def convert(self, value: Any, native: Any, current: Any) -> int:
        return self.unit * int(self.words.get(value, value))


@dataclass(frozen=True)
class Number(OptionType):
    minimum: float = -math.inf
    positive: bool = False
    inverse: bool = False
    """Whether xllamacpp takes one divided by the value."""

    def describe(self) -> str:
        least = "" if math.isinf(self.minimum) else f" of at least {self.minimum:g}"
        return "a number above 0" if self.positive else f"a number{least}"

    def parse(self, value: Any) -> float:
        if type(value) not in (int, float) or not abs(value) <= MAX_NUMBER:
            raise ValueError
        if value < self.minimum or (self.positive and value <= 0):
            raise ValueError
        return float(value)

    def convert(self, value: Any, native: Any, current: Any) -> float:
        number: float = value
        return 1.0 / number if self.inverse else number


@dataclass(frozen=True)
class Switch(OptionType):
    inverted: bool = False
    """Whether xllamacpp's attribute says the opposite."""

    def describe(self) -> str:
        return "true or false"

    def parse(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    def convert(self, value: Any, native: Any, current: Any) -> bool:
        return value is not self.inverted


@dataclass(frozen=True)
class Choice(OptionType):
    """One of some words, each with the attribute's value, or with a member of xllamacpp's enumeration."""

    values: Mapping[str, Any]
    enumeration: str = ""

    def describe(self) -> str:
        return f"one of {', '.join(self.values)}"

    def parse(self, value: Any) -> str:
        # In YAML, `on` and `off` without quotes are true and false.
        word = {True: "on", False: "off"}[value] if isinstance(value, bool) else value
        if not isinstance(word, str) or word not in self.values:
            raise ValueError
        return word

    def convert(self, value: Any, native: Any, current: Any) -> Any:
        chosen = self.values[value]
        return getattr(native, self.enumeration)[chosen] if self.enumeration else chosen


@dataclass(frozen=True)
class Choices(OptionType):
    """Several words of a choice, as a list or separated by commas."""

    choice: Choice

    def describe(self) -> str:
        return f"some of {', '.join(self.choice.values)}"

    def parse(self, value: Any) -> list[str]:
        return [self.choice.parse(word) for word in _split(value)]

    def convert(self, value: Any, native: Any, current: Any) -> Any:
        return [self.choice.convert(word, native, None) for word in value]


class Text(OptionType):
    def describe(self) -> str:
        return "a text"

    def parse(self, value: Any) -> str:
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError
        return value


class File(Text):
    def describe(self) -> str:
        return "a path"

    def map_paths(self, value: Any, change: Callable[[str], str]) -> Any:
        return change(value)


class FileContent(File):
    """A file whose text is the attribute's value."""

    def convert(self, value: Any, native: Any, current: Any) -> str:
        return Path(value).read_text(encoding="utf-8")


class Adapters(Text):
    """LoRA adapters, each with the scale 1."""

    def describe(self) -> str:
        return "a path, or a list of paths"

    def parse(self, value: Any) -> Any:
        return [super(Adapters, self).parse(path) for path in _split(value)]

    def map_paths(self, value: Any, change: Callable[[str], str]) -> Any:
        return [change(path) for path in value]

    def convert(self, value: Any, native: Any, current: Any) -> Any:
        scales = value if isinstance(value, dict) else dict.fromkeys(value, 1.0)
        return [*current, *(native.CommonAdapterLoraInfo(path, scale) for path, scale in scales.items())]


class ScaledAdapters(Adapters):
    """LoRA adapters, each with a scale of its own."""

    def describe(self) -> str:
        return "a mapping from paths to numbers, or path:number"

    def parse(self, value: Any) -> Any:
        pairs = (
            value.items() if isinstance(value, Mapping) else [_split_scale(part) for part in _split(value)]
        )
        return {Text().parse(path): Number().parse(scale) for path, scale in pairs}

    def map_paths(self, value: Any, change: Callable[[str], str]) -> Any:
        return {change(path): scale for path, scale in value.items()}


@dataclass(frozen=True)
class Numbers(OptionType):
    """Numbers for each device, as a list or separated by commas. The attribute has one for each possible device."""

    unit: float | int = 1.0
    repeats: bool = False
    """Whether a single number is for all devices; else missing ones are 0."""

    def describe(self) -> str:
        return "a list of numbers"

    def parse(self, value: Any) -> list[float]:
        numbers = [value] if type(value) in (int, float) else _split(value)
        return [Number().parse(float(number) if isinstance(number, str) else number) for number in numbers]

    def convert(self, value: Any, native: Any, current: Any) -> list[Any]:
        numbers = [type(self.unit)(number) * self.unit for number in value]
        if self.repeats and len(numbers) == 1:
            return numbers * len(current)
        rest = current[len(numbers) :] if self.repeats else [0.0] * (len(current) - len(numbers))
        return [*numbers, *rest]


@dataclass(frozen=True)
class TemplateArguments(OptionType):
    """Arguments of the chat template."""

    def describe(self) -> str:
        return "a mapping"

    def parse(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise ValueError
        return dict(value)

    def convert(self, value: Any, native: Any, current: Any) -> dict[str, str]:
        return {**current, **{key: json.dumps(item) for key, item in value.items()}}


def _split(value: Any) -> Sequence[Any]:
    """Return the parts of a list, or of a text with commas. Raises ValueError if there are none."""
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(parts, list) or not parts:
        raise ValueError
    return parts


def _split_scale(part: Any) -> tuple[str, float]:
    path, _, scale = str(part).rpartition(":")
    return path, float(scale)
