"""Measured numbers in the pages: each is a link to the value it was rounded from.

`[0.73](docs/results/calibrator.json#/all/auroc/0)` names a file and a JSON pointer (RFC 6901) in it. With a
percent sign, `[73 %](...)`, the value is a share: 0.73. A number with a unit of measurement that is no such link
is a claim without a source, unless its line says `<!-- not measured -->`: a setting, a default, a limit.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tools.docs.markdown import links, prose

EXEMPT = "<!-- not measured -->"

_RESULT = re.compile(r"results/[^()\s#]+\.json#/")
_RESULT_LINK = re.compile(r"\[[^\[\]]*\]\([^()\s]*results/[^()\s#]+\.json#/[^()\s]*\)")
_NUMBER = re.compile(r"[-−]?\d+(?:,\d{3})*(?:\.\d+)?")
_UNIT = r"(?:[µμun]s|ms|tok(?:ens)?/s|req(?:uests)?/s|%|[×x](?!\w)|[KMG]i?B|nats|percent|points)(?!\w)"
_CLAIM = re.compile(
    rf"\d\s?{_UNIT}"
    r"|\d times (?:as|better|cheaper|faster|fewer|higher|less|lower|more|slower)\b"
    r"|\b(?:AUROC|ECE|Brier|p50|p95|p99)\b\D{0,12}\d|\d\s(?:AUROC|ECE)\b",
    re.IGNORECASE,
)


def wrong_numbers(text: str, page: Path) -> Iterator[str]:
    """What is wrong with the page's links into results, a line each."""
    for line, said, target in links(text):
        if _RESULT.search(target) and (problem := _problem(said, target, page.parent)):
            yield f"{page.name}:{line}: [{said}]({target}): {problem}"


def unsourced(text: str, page: Path) -> Iterator[str]:
    """The lines of a page that claim a measured quantity without a link to its source."""
    whole = text.splitlines()
    for number, line in prose(text):
        found = _CLAIM.search(_RESULT_LINK.sub("", line))
        if found and EXEMPT not in whole[number - 1]:
            yield f"{page.name}:{number}: {found[0]!r} has no link to its source, nor `{EXEMPT}`"


def _problem(said: str, target: str, folder: Path) -> str | None:
    numbers = _NUMBER.findall(said)
    if len(numbers) != 1:
        return f"expected one number, found {len(numbers)}"
    file, _, pointer = target.partition("#")
    try:
        value = _resolved(json.loads((folder / file).read_bytes()), unquote(pointer))
    except OSError as error:
        return error.strerror or "cannot be read"
    except json.JSONDecodeError as error:
        return f"is not JSON: {error}"
    except LookupError as error:
        return f"no {error} on the way to {pointer}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"expected a number there, found {type(value).__name__}"
    measured = Decimal(str(value)) * (100 if "%" in said else 1)
    return None if _agrees(numbers[0], measured) else f"the value there is {value}"


def _resolved(data: Any, pointer: str) -> Any:
    """Raises LookupError with the step that does not exist."""
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(data, list) and key.isdecimal() and int(key) < len(data):
            data = data[int(key)]
        elif isinstance(data, dict) and key in data:
            data = data[key]
        else:
            raise LookupError(repr(key))
    return data


def _agrees(written: str, measured: Decimal) -> bool:
    """Whether `measured`, rounded to the digits that are written, is what is written."""
    number = Decimal(written.replace(",", "").replace("−", "-"))
    half = Decimal(5) * Decimal(10) ** (int(number.as_tuple().exponent) - 1)
    return measured.is_finite() and abs(number - measured) <= half
