"""What is wrong with policies: those that are not served, and those without a calibrator of the small model."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gateway.catalog.catalog import Catalog, group_by_reason
from gateway.local.settings import LocalEngine
from gateway.upstreams.pool import Pool
from routers.plan import Tier


class Notice(NamedTuple):
    """A problem, and the policies that have it."""

    policies: Sequence[str]
    text: str

    def __str__(self) -> str:
        noun = "policy" if len(self.policies) == 1 else "policies"
        return f"{noun} {', '.join(self.policies)}: {self.text}"


def list_notices(catalog: Catalog, pools: Mapping[Tier, Pool], local: LocalEngine | None) -> Iterator[Notice]:
    """Yield each problem once, with all policies that have it."""
    for why, names in group_by_reason(catalog.unavailable).items():
        yield Notice(names, f"not served: {why}")
    if catalog.uncalibrated:
        yield Notice(catalog.uncalibrated, f"uncalibrated: {explain_uncalibrated(pools, local)}")


def explain_uncalibrated(pools: Mapping[Tier, Pool], local: LocalEngine | None) -> str:
    """Return why policies are uncalibrated, and the command that changes it."""
    writers = pools["slm"].writers if "slm" in pools else ()
    models = sorted({f"{upstream.model} on {upstream.source.engine}" for upstream in writers})
    if len(models) > 1:
        return f"the small models have no calibrator in common ({', '.join(models)})"
    command = "smallfirst calibrate" + (f" {shlex.quote(local.model)}" if local is not None else "")
    return f"there is no calibrator for {', '.join(models) or 'the small model'}; make one with: {command}"
