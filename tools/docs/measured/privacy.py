"""Tables of docs/results/privacy.json, and of what the `private` section of a policy may hold."""

from typing import Any

from policies.schema.private import ENTITIES, Private
from tools.docs.measured.results import found_in
from tools.docs.table import code, table
from tools.docs.tables.model_fields import fields_table

NAME = "privacy"


def section_table() -> str:
    return fields_table(Private)


def entities_table() -> str:
    return table(("entity", "what it is"), [(code(name), told) for name, told in ENTITIES.items()])


def found_table() -> str:
    """How much of what was planted is found, and how much of what is found was planted."""
    rows = found_in(NAME)["quality"]["entities"]
    return table(
        ("entity", "found of what was planted in plain writing", "planted, of what was found"),
        [
            (
                code(name),
                _share(found["recall"], f"/quality/entities/{name}/recall"),
                _share(found["precision"], f"/quality/entities/{name}/precision"),
            )
            for name, found in rows.items()
        ],
    )


def disguised_table() -> str:
    return _shares("disguised", "private, in disguise", "found")


def alike_table() -> str:
    return _shares("alike", "not private", "taken to be")


def cost_table() -> str:
    rows = found_in(NAME)["ms_per_kib"]
    return table(
        ("text", "ms a KiB", "without `PHONE_NUMBER`"),
        [
            (
                kind,
                *(
                    _linked(f"{value:.2g}", f"/ms_per_kib/{_key(kind)}/{name}")
                    for name, value in found.items()
                ),
            )
            for kind, found in rows.items()
        ],
    )


def _shares(part: str, what: str, how: str) -> str:
    rows = found_in(NAME)["quality"][part]
    told = [(kind, _share(found, f"/quality/{part}/{_key(kind)}")) for kind, found in rows.items()]
    return table((what, how), told)


def _share(found: dict[str, Any], pointer: str) -> str:
    share, low, high = (
        _linked(f"{100 * value:.0f} %", f"{pointer}/share/{place}")
        for place, value in enumerate(found["share"])
    )
    return f"{share} ({low} to {high})"


def _key(text: str) -> str:
    return text.replace(" ", "%20").replace("'", "%27")


def _linked(text: str, pointer: str) -> str:
    return f"[{text}](../results/{NAME}.json#{pointer})"
