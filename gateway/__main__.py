"""Starts the command `smallfirst`, unless other packages hide those of Smallfirst."""

import sys
from importlib.util import find_spec
from pathlib import Path

ADVICE = (
    "Run Smallfirst in an environment of its own (a virtual environment, pipx or its container), without another "
    "`gateway`, `routers` or `policies` on PYTHONPATH."
)


def main() -> None:
    """Runs the command line. Exits with status 2 and the advice if a package is hidden."""
    if hidden := find_foreign_package():
        name, place = hidden
        sys.stderr.write(f"smallfirst: `{name}` is {place}, which is not Smallfirst's. {ADVICE}\n")
        sys.exit(2)
    from .cli import app

    app()


def find_foreign_package() -> tuple[str, str] | None:
    """The first of `routers` and `policies` that Python would not import from beside this `gateway`, and where it
    would import it from; None if both are Smallfirst's. Imports neither."""
    home = Path(__file__).resolve().parents[1]
    for name in ("routers", "policies"):
        spec = find_spec(name)
        origin = spec.origin if spec else None
        if origin is None or Path(origin).resolve().parent != home / name:
            return name, origin or "missing"
    return None


if __name__ == "__main__":
    main()
