"""smallfirst check: says what is wrong with a configuration before the server does."""

from gateway.catalogue import catalogue
from gateway.local.catalog import find
from gateway.local.run import as_upstream
from gateway.settings import Settings, default_path, load_settings
from gateway.upstreams.pool import pools
from gateway.upstreams.upstream import Upstream
from policies.loader import load_policies
from policies.yaml_files import ConfigError

from .console import ConfigOption, fail, out


def check(config: ConfigOption = None) -> None:
    """Validate the configuration and the policies; contacts nothing."""
    path = config or default_path()
    try:
        settings = load_settings(path)
        policies = load_policies(settings.policies.folder)
        if settings.local is not None:
            find(settings.local.model, settings.models_folder)
    except ConfigError as error:
        fail(error)
    found = catalogue(policies.values(), pools(described(settings)))
    for name in found.policies:
        out.print(f"policy {name}: ok", markup=False)
    for name, why in found.unavailable.items():
        out.print(f"policy {name}: not served: {why}", markup=False)
    out.print(f"{path or 'defaults and environment'}: ok", markup=False)


def described(settings: Settings) -> list[Upstream]:
    """The upstreams of a configuration, to be asked what they are, not called."""
    local = [] if settings.local is None else [as_upstream(settings.local, port=1)]
    return [Upstream(upstream) for upstream in (*local, *settings.upstreams)]
