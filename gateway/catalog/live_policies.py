"""The policies in force: loaded from their files, and reloaded when the files change."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

from gateway.upstreams.pool import Pool
from policies.loading.policy_files import PolicyFiles
from policies.loading.yaml_files import ConfigError
from policies.schema.split import AnyPolicy
from routers.judges.rubric import Rubric
from routers.plan import Tier

from .catalog import Catalog, build_catalog, group_by_reason

log = logging.getLogger(__name__)

QUIET_S = 0.1
"""Seconds for which changed files must stay unchanged before they are loaded, since an editor may still be
writing."""


class LivePolicies:
    """Keeps the catalog of the policy files and of `extra` policies.

    `catalog` is replaced as a whole or not at all. An exchange keeps the policy with which it began. Raises
    ConfigError if the first load fails. A later load that fails leaves the catalog unchanged, and logs and
    counts the failure.
    """

    def __init__(
        self,
        files: PolicyFiles,
        extra: Iterable[AnyPolicy],
        pools: Mapping[Tier, Pool],
        on_load: Callable[[bool], None],
        period_s: float | None,
        *,
        expose_models: bool = False,
    ) -> None:
        """`on_load` is called after each load while running, with whether it succeeded. `period_s` is the
        seconds between checks of the files. None: files are reloaded on request only. `expose_models` says whether
        requests may name upstreams' models."""
        self._files = files
        self._extra = tuple(extra)
        self._pools = pools
        self._on_load = on_load
        self._period_s = period_s
        self._expose_models = expose_models
        self._reload_requested = asyncio.Event()
        self.catalog = self._build_catalog(files.load())

    @property
    def rubrics(self) -> Mapping[str, Rubric]:
        """The rubrics by name."""
        return self._files.rubrics

    def reload(self) -> None:
        """Request a load now, whether or not the files have changed."""
        self._reload_requested.set()

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        """Watch the files until the context ends."""
        task = asyncio.create_task(self._poll_files())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _poll_files(self) -> None:
        seen, pause = self._files.stamps, self._period_s
        while True:
            requested = await self._wait(pause)
            current = await asyncio.to_thread(self._files.read_stamps)
            if requested or current == seen != self._files.stamps:
                await self._load()
                current = self._files.stamps
            changing = current != self._files.stamps
            seen, pause = (
                current,
                min(QUIET_S, self._period_s) if changing and self._period_s else self._period_s,
            )

    async def _wait(self, seconds: float | None) -> bool:
        """Wait up to `seconds`. Return whether a load was requested meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._reload_requested.wait()
        requested = self._reload_requested.is_set()
        self._reload_requested.clear()
        return requested

    async def _load(self) -> None:
        """Load the files in a thread, since parsing would block every stream."""
        try:
            catalog = await asyncio.to_thread(lambda: self._build_catalog(self._files.load()))
        except ConfigError as error:
            for line in str(error).splitlines():
                log.error("policies stay as they were: %s", line)
        except Exception:  # the watcher must survive any failed load
            log.exception("policies stay as they were")
        else:
            self._replace(catalog)
            self._on_load(True)
            return
        self._on_load(False)

    def _replace(self, catalog: Catalog) -> None:
        before = self.catalog.unavailable
        new = {name: why for name, why in catalog.unavailable.items() if name not in before}
        for why, names in group_by_reason(new).items():
            log.warning("policy %s is not served: %s", ", ".join(names), why)
        self.catalog = catalog
        log.info("policies loaded: %s", ", ".join(catalog.policies))

    def _build_catalog(self, loaded: Mapping[str, AnyPolicy]) -> Catalog:
        return build_catalog([*loaded.values(), *self._extra], self._pools, expose_models=self._expose_models)
