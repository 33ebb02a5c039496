"""Asks the small model every item of a graded set, and leaves each item's record and grade on disk as it is done."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from openai import APIError, AsyncOpenAI, BadRequestError

from gateway.cli.loopback_gateway import run_gateway
from gateway.cli.output import err
from gateway.local.factory import describe_local
from gateway.settings import Settings
from policies.loading.yaml_files import ConfigError
from policies.schema.policy import Policy
from policies.tuning.collection.grades import Grade, GradesWriter
from policies.tuning.collection.manifest import (
    Manifest,
    check_same_collection,
    hash_items,
    read_manifest,
    start_collection,
)
from policies.tuning.collection.progress import CollectionProgress, read_progress
from policies.tuning.starter_set import Item, is_right
from routers.confidence.calibration import LogprobSource
from routers.strategies.direct import Direct

COLLECT_POLICY = Policy(
    name="collect",
    description="The small model alone, its tokens recorded.",
    router=Direct(tier="slm", fallback=False, follow=True),
)
REQUEST_TIMEOUT_S = 600.0

OnGrade = Callable[[Grade], None]
"""Is called with each new grade, when it is on disk."""


class CollectionFailed(RuntimeError):
    """The small model stopped answering. What was collected stays."""


def find_source(settings: Settings) -> LogprobSource:
    """Return the configured small model and its engine. Raises ConfigError if there is none."""
    if settings.local is not None:
        return describe_local(settings.local, settings.models_folder, _report).source
    for upstream in settings.upstreams:
        if upstream.tier == "slm" and not upstream.judges_only:
            return LogprobSource(model=upstream.model, engine=upstream.engine)
    raise ConfigError("no small model is configured: local, or an upstream with tier: slm")


def _report(line: str) -> None:
    err.print(line, markup=False)


@dataclass
class Collection:
    """A folder of graded drafts of one small model."""

    settings: Settings
    folder: Path
    items: Sequence[Item]
    max_tokens: int
    on_ready: Callable[[], None] = lambda: None
    """Is called when the small model is ready; until then the start of its engine is shown."""
    failed: list[str] = field(default_factory=list)
    """Why items were refused by the model, such as one that does not fit its context."""

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest(
            source=find_source(self.settings), items=hash_items(self.items), max_tokens=self.max_tokens
        )

    def open(self, *, resume: bool) -> CollectionProgress:
        """Begin the collection in an empty folder, or return how far it has come. Raises RecordError if the folder
        holds something else, ConfigError if it may not be resumed or no small model is configured."""
        manifest = self.manifest
        if not self.folder.exists() or not any(self.folder.iterdir()):
            start_collection(self.folder, manifest)
            return CollectionProgress({})
        if not resume:
            hint = "; --resume goes on with the set in it" if read_manifest(self.folder) else ""
            raise ConfigError(f"{self.folder} is not empty; a record set needs a folder of its own{hint}")
        check_same_collection(self.folder, manifest)
        return read_progress(self.folder)

    async def draft(
        self,
        items: Sequence[Item],
        progress: CollectionProgress,
        on_grade: OnGrade,
        seconds: float | None = None,
    ) -> list[Grade]:
        """Draft those of `items` that are not done, in their order, and return the grades of all that are.

        After `seconds` no further draft begins; those that run are finished, since the long ones would be missing
        otherwise. Raises ConfigError if the small model cannot be served, EngineFailed if it does not start,
        CollectionFailed if it stops answering, RecordError if another process collects into the folder."""
        grades = dict(progress.done)
        # The lock on the grades ends after the gateway, and so after all records are on disk.
        with GradesWriter(self.folder) as writer:

            def keep(grade: Grade) -> None:
                writer.append(grade)
                grades[grade.item] = grade
                on_grade(grade)

            missing = [item for item in items if item.id not in grades]
            if missing and (seconds is None or seconds > 0):
                await self._draft_items(missing, keep, seconds)
        return [grades[item.id] for item in items if item.id in grades]

    async def _draft_items(self, items: Sequence[Item], keep: OnGrade, seconds: float | None) -> None:
        settings = _keep_small_model(self.settings, self.folder)
        at_once = settings.local.max_in_flight if settings.local else 4
        async with (
            run_gateway(settings, [COLLECT_POLICY], shows_start=True) as server,
            AsyncOpenAI(base_url=server.url, api_key="none", timeout=REQUEST_TIMEOUT_S) as client,
        ):
            if why := server.app.policies.catalog.unavailable.get(COLLECT_POLICY.name):
                raise ConfigError(f"drafts can't be collected: {why}")
            self.on_ready()
            remaining = iter(items)
            ends_at = None if seconds is None else time.monotonic() + seconds

            async def work() -> None:
                for item in remaining:
                    if ends_at is not None and time.monotonic() >= ends_at:
                        return
                    await self._draft_item(client, item, keep)

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(at_once):
                        group.create_task(work())
            except* APIError as errors:
                raise CollectionFailed(f"the small model does not answer: {errors.exceptions[0]}") from errors

    async def _draft_item(self, client: AsyncOpenAI, item: Item, keep: OnGrade) -> None:
        try:
            answer = await client.chat.completions.with_raw_response.create(
                model=COLLECT_POLICY.name,
                messages=[{"role": "user", "content": item.prompt}],
                temperature=0,
                max_tokens=self.max_tokens,
            )
        except BadRequestError as error:  # others may fit
            self.failed.append(f"{item.id}: {error}")
            return
        reply = answer.parse().choices[0].message.content or ""
        keep(
            Grade(
                id=answer.headers["x-smallfirst-id"],
                item=item.id,
                kind=item.kind,
                template=item.template,
                split=item.split,
                right=is_right(item, reply),
            )
        )


def _keep_small_model(settings: Settings, folder: Path) -> Settings:
    """Return the settings with records in `folder`, and without the large models, which are not asked."""
    upstreams = tuple(upstream for upstream in settings.upstreams if upstream.tier == "slm")
    records = settings.records.model_copy(update={"path": folder})
    return settings.model_copy(update={"records": records, "upstreams": upstreams})


def describe_progress(progress: CollectionProgress, total: int) -> str:
    """Return a sentence about how far a collection has come."""
    notes = [f"{len(progress.done)} of {total} items are done"]
    if progress.unrecorded:
        notes.append(f"{progress.unrecorded} whose records were lost are drafted again")
    if progress.unreadable:
        notes.append(f"lines of grades that cannot be read: {progress.unreadable}")
    return "; ".join(notes)
