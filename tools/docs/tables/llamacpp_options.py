"""llama.cpp's options in `local.arguments`, and those that are refused there."""

from gateway.local.llamacpp.options import OPTIONS
from gateway.local.llamacpp.refused_options import REFUSED
from tools.docs.table import code, table


def options_table() -> str:
    rows = [
        [
            code(option.name),
            ", ".join(map(code, (*option.names[1:], *option.negative))),
            option.type.describe(),
        ]
        for option in OPTIONS
    ]
    return table(["option", "other names", "value"], rows)


def refused_table() -> str:
    names: dict[str, list[str]] = {}
    for name, reason in REFUSED.items():
        names.setdefault(reason, []).append(code(name))
    return table(["refused", "because"], [[", ".join(some), reason] for reason, some in names.items()])
