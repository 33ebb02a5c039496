"""The policies in force: loaded from their files, and reloaded when the files change."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

from gateway.upstreams.pool import Pool
from policies.loading.files import PolicyFiles
from policies.loading.yaml_files import ConfigError
from policies.schema.split import AnyPolicy
from routers.judges.rubric import Rubric
from routers.plan import Tier

from .catalog import Catalogue, catalogue

log = logging.getLogger(__name__)

QUIET = 0.1
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
        more: Iterable[AnyPolicy],
        pools: Mapping[Tier, Pool],
        on_load: Callable[[bool], None],
        period: float | None,
    ) -> None:
        """`on_load` is called after each load while running, with whether it succeeded. `period_s` is the
        seconds between checks of the files. None: files are reloaded on request only."""
        self._files = files
        self._more = tuple(more)
        self._pools = pools
        self._on_load = on_load
        self._period = period
        self._asked = asyncio.Event()
        self.catalogue = self._catalogue(files.load())

    @property
    def rubrics(self) -> Mapping[str, Rubric]:
        """The rubrics by name."""
        return self._files.rubrics

    def reload(self) -> None:
        """Request a load now, whether or not the files have changed."""
        self._asked.set()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Watch the files until the context ends."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _watch(self) -> None:
        seen, pause = self._files.read, self._period
        while True:
            asked = await self._wait(pause)
            now = await asyncio.to_thread(self._files.look)
            if asked or now == seen != self._files.read:
                await self._load()
                now = self._files.read
            changing = now != self._files.read
            seen, pause = now, min(QUIET, self._period) if changing and self._period else self._period

    async def _wait(self, seconds: float | None) -> bool:
        """Wait up to `seconds`. Return whether a load was requested meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        asked = self._asked.is_set()
        self._asked.clear()
        return asked

    async def _load(self) -> None:
        """Load the files in a thread, since parsing would block every stream."""
        try:
            loaded = await asyncio.to_thread(self._files.load)
        except ConfigError as error:
            for line in str(error).splitlines():
                log.error("policies stay as they were: %s", line)
        except Exception:  # the watcher must survive any failed load
            log.exception("policies stay as they were")
        else:
            self._replace(await asyncio.to_thread(self._catalogue, loaded))
            self._on_load(True)
            return
        self._on_load(False)

    def _replace(self, found: Catalogue) -> None:
        for name in found.unavailable.keys() - self.catalogue.unavailable.keys():
            log.warning("policy %s is not served: %s", name, found.unavailable[name])
        self.catalogue = found
        log.info("policies loaded: %s", ", ".join(found.policies))

    def _catalogue(self, loaded: Mapping[str, AnyPolicy]) -> Catalogue:
        return catalogue([*loaded.values(), *self._more], self._pools)
