"""Settings: the key `policies` of smallfirst.yaml."""

from pathlib import Path

from routers.config_models import Seconds, Strict


class PolicySettings(Strict):
    folder: Path | None = None
    """A folder of policy files (`*.yaml`). They replace built-in policies of the same name."""
    reload: Seconds | None = 1.0
    """Seconds between checks whether these files have changed; null: they are reloaded on SIGHUP only."""
