"""The key `policies` of smallfirst.yaml."""

from pathlib import Path

from routers.strict import Seconds, Strict


class PolicySettings(Strict):
    folder: Path | None = None
    """A folder of policy files (`*.yaml`); they win over built-in ones of the same name."""
    reload: Seconds | None = 1.0
    """Seconds between looks at whether these files have changed; null: they are loaded anew on SIGHUP only."""
