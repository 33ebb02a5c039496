"""smallfirst check: says what is wrong with a configuration before the server does."""

from gateway.catalogue import catalogue
from gateway.local.catalog import find
from gateway.settings import Settings, UpstreamSettings, default_path, load_settings
from gateway.upstreams.upstream import Upstream
from policies.loader import load_policies
from policies.yaml_files import ConfigError
from routers.plan import Tier

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
    found = catalogue(policies.values(), described(settings))
    for name in found.policies:
        out.print(f"policy {name}: ok", markup=False)
    for name, why in found.unavailable.items():
        out.print(f"policy {name}: not served: {why}", markup=False)
    out.print(f"{path or 'defaults and environment'}: ok", markup=False)


def described(settings: Settings) -> dict[Tier, Upstream]:
    """The upstreams of a configuration, to be asked what they are, not called."""
    upstreams: list[UpstreamSettings] = list(settings.upstreams)
    if settings.local is not None:
        local = {"name": "local", "tier": "slm", "url": "http://127.0.0.1/v1"}
        upstreams.append(
            UpstreamSettings.model_validate(
                local | {"model": settings.local.model, "engine": settings.local.engine}
            )
        )
    return {upstream.tier: Upstream(upstream) for upstream in upstreams}
