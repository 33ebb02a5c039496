"""Calibrates a small model: collects graded drafts, trains on them, writes the calibrator."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from rich.progress import Progress

from gateway.catalog.calibrators import Calibrators
from gateway.cli.output import err
from gateway.data_folder import data_folder
from gateway.settings import Settings
from policies.loading.trained_files import GENERIC_CALIBRATOR
from policies.records.reader import LeftOut, read_records
from policies.records.schema import RecordError
from policies.tuning.collection.graded_drafts import GradedDraft, Predictor, read_graded
from policies.tuning.collection.grades import Grade
from policies.tuning.collection.progress import CollectionProgress
from policies.tuning.collection.sample import stratify
from policies.tuning.report import HeldOut
from policies.tuning.starter_set import Item, load_items
from policies.tuning.training import fit_with_prior, train_on
from routers.confidence.calibration import Calibrator, LogprobSource, TrainingSet

from .drafting import Collection, describe_progress, find_source
from .drafting import CollectionFailed as CollectionFailed

MAX_TOKENS = 128
"""Maximum tokens of a draft. Of the starter set's right answers, hardly any is longer."""
QUICK_ITEMS = 360
"""Items of a quick calibration: three of each template of the starter set."""
QUICK_S = 480.0
"""Maximum seconds in which a quick calibration begins drafts, over all its runs."""
FEW_CORES = 4
"""Number of cores up to which all of them compute. Of more, half do: the others are often their second threads."""


class Result(NamedTuple):
    """A calibrator, where it was written, and what it says of held-out drafts."""

    calibrator: Calibrator
    path: Path
    drafts: Sequence[GradedDraft]
    held_out: HeldOut
    warnings: Sequence[str]


@dataclass
class Calibration:
    """The calibration of the configured small model: its collection of drafts and how far that has come."""

    collection: Collection
    progress: CollectionProgress
    path: Path
    sample: Sequence[Item]
    """The items to draft."""
    seconds: float | None
    """Maximum seconds in which drafts begin; None: all of them are drafted."""

    @classmethod
    def prepare(cls, settings: Settings, items: Path | None, *, quick: bool) -> Self:
        """Open the collection, which an earlier run may have begun. Raises ConfigError if no small model is configured,
        RecordError if its folder holds other drafts, ValueError if the items are invalid, OSError if a file cannot be
        read or written."""
        questions = stratify(load_items(items))
        path = Calibrators().path_for(find_source(settings))
        folder = data_folder() / "calibrations" / path.stem
        collection = Collection(_use_cores(settings), folder, questions, MAX_TOKENS)
        try:
            progress = collection.open(resume=True)
        except RecordError as error:
            raise RecordError(f"{error}; remove that folder to begin anew") from error
        if not quick:
            return cls(collection, progress, path, questions, None)
        return cls(collection, progress, path, questions[:QUICK_ITEMS], max(0.0, QUICK_S - progress.seconds))

    def describe(self) -> str:
        """Return a sentence about what will be done."""
        limit = "" if self.seconds is None else f", for at most {self.seconds / 60:.0f} more minutes"
        todo = describe_progress(self.progress, len(self.sample)) + limit
        return f"calibrating {self.collection.manifest.source}: {todo}"

    def run(self) -> Result:
        """Draft what is missing, train, and write the calibrator. Raises what `Collection.draft` raises, and ValueError
        if the drafts do not suffice."""
        bar = Progress(console=err)
        self.collection.on_ready = (
            bar.start
        )  # not before, since the start of the engine is shown in its place
        steps = _Steps(bar, self.sample, self.seconds, len(self.progress.done))
        try:
            asyncio.run(self.collection.draft(self.sample, self.progress, steps.count_draft, self.seconds))
            bar.start()
            steps.begin_training()
            result = self._train(steps.count_fit)
        finally:
            bar.stop()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial_file = self.path.with_name(f".{self.path.name}.partial")
        partial_file.write_text(result.calibrator.model_dump_json(indent=1) + "\n", encoding="utf-8")
        partial_file.replace(self.path)
        return result

    def _train(self, on_fit: Callable[[], None]) -> Result:
        left_out = LeftOut()
        folder, failed = self.collection.folder, self.collection.failed
        graded = read_graded(folder, None, lambda path: read_records(path, left_out), left_out)
        drafts = [draft for draft in graded if not draft.renormalised]
        prior = Calibrator.model_validate_json(GENERIC_CALIBRATOR.read_bytes())
        fit = fit_with_prior(prior)

        def fit_and_count(
            some: Sequence[GradedDraft], made_for: LogprobSource, trained_on: TrainingSet
        ) -> tuple[Calibrator, Predictor]:
            trained = fit(some, made_for, trained_on)
            on_fit()
            return trained

        model, held_out = train_on(drafts, folder, self.collection.manifest.source, fit_and_count)
        refused = [f"the model refused {len(failed)} items, such as {failed[0]}"] if failed else []
        return Result(model, self.path, drafts, held_out, [*refused, *filter(None, [str(left_out)])])


class _Steps:
    """Moves the progress bar: a step for each draft, then one for each fit.

    If drafting is limited to `seconds`, the bar shows the time that is over if that is the larger share."""

    def __init__(self, bar: Progress, sample: Sequence[Item], seconds: float | None, done: int) -> None:
        self._bar = bar
        self._drafts = len(sample)
        self._done = min(done, self._drafts)
        self._seconds = seconds
        self._began = time.monotonic()
        fits = 1 + len({item.kind for item in sample})
        self._task = bar.add_task("drafting", total=self._drafts + fits, completed=self._done)

    def count_draft(self, _: Grade) -> None:
        self._done += 1
        passed = (time.monotonic() - self._began) / self._seconds if self._seconds else 0.0
        completed = max(self._done, round(self._drafts * min(1.0, passed)))
        self._bar.update(self._task, completed=completed)

    def begin_training(self) -> None:
        self._bar.update(self._task, description="training", completed=self._drafts)

    def count_fit(self) -> None:
        self._bar.advance(self._task)


def _use_cores(settings: Settings) -> Settings:
    """Return the settings with more threads for llama.cpp, unless they name a number: nobody else is served."""
    local = settings.local
    if local is None or local.engine != "llamacpp" or local.threads is not None:
        return settings
    cores = os.cpu_count() or 1
    threads = min(cores, max(FEW_CORES, cores // 2))
    return settings.model_copy(update={"local": local.model_copy(update={"threads": threads})})
