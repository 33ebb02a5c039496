"""Writes what pages say of the code: tables between `<!-- generated:NAME -->` and `<!-- /generated -->`.

`python -m docs.generate` brings docs/*.md up to date; a test fails where a committed page is not.
"""

import re
from collections.abc import Callable

from . import policy_example
from .errors import errors_table
from .fields import policy_tables, reasons_table, settings_tables
from .interfaces import auto_policy, commands, kinds_table, metrics_table, providers_table
from .markdown import ROOT
from .measured import confidence_table, formats_table, overhead_table, pair_table

SECTIONS: dict[str, Callable[[], str]] = {
    "settings": settings_tables,
    "kinds": kinds_table,
    "providers": providers_table,
    "commands": commands,
    "errors": errors_table,
    "reasons": reasons_table,
    "policies": policy_tables,
    "metrics": metrics_table,
    "auto": auto_policy,
    "extending": policy_example.extending,
    "asked": policy_example.asked,
    "explained": policy_example.explained,
    "confidence": confidence_table,
    "formats": formats_table,
    "pair": pair_table,
    "overhead": overhead_table,
}

_SECTION = re.compile(r"(<!-- generated:([\w-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def current(text: str) -> str:
    """A page with its generated sections made anew. Raises KeyError for a section that nothing generates."""
    return _SECTION.sub(lambda found: f"{found[1]}\n{SECTIONS[found[2]]()}\n\n{found[3]}", text)


def main() -> None:
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        page.write_text(current(text), encoding="utf-8")


if __name__ == "__main__":
    main()
