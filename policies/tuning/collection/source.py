"""Which small model wrote the drafts of a graded set, and on which engine."""

from pathlib import Path

from policies.records.reader import read_records
from policies.records.schema import RecordError
from routers.confidence.calibration import LogprobSource

from .grades import read_grades
from .manifest import read_manifest


def find_source(folder: Path, model: str | None = None, engine: str | None = None) -> LogprobSource:
    """Return the source of the graded drafts in a folder, by its manifest, or else by its records and `engine`.

    `model` and `engine` are what the user says. Raises RecordError if they are not what the folder says, if its drafts
    are of several models, or if nothing says the engine."""
    manifest = read_manifest(folder)
    if manifest is not None:
        source = manifest.source
        _check_model(folder, model, source.model)
        if engine not in (None, source.engine):
            raise RecordError(f"{folder}: its drafts are of the engine {source.engine}, not of {engine}")
        return source
    recorded = _find_recorded_model(folder)
    _check_model(folder, model, recorded)
    if engine is None:
        raise RecordError(f"{folder} does not say on which engine {recorded} ran: name it with --engine")
    return LogprobSource(model=recorded, engine=engine)


def _check_model(folder: Path, model: str | None, recorded: str) -> None:
    if model is not None and not LogprobSource(model=recorded, engine="").has_name(model):
        raise RecordError(f"{folder}: its drafts are of the model {recorded}, not of {model}")


def _find_recorded_model(folder: Path) -> str:
    graded = {grade.id for grade in read_grades(folder)}
    models = {
        call.model
        for record in read_records(folder)
        if record.exchange.id in graded
        for call in record.exchange.calls
        if call.tier == "slm" and call.outcome == "ok"
    }
    if len(models) != 1:
        found = f"of several models: {', '.join(sorted(models))}" if models else "missing"
        raise RecordError(f"{folder}: its graded drafts are {found}")
    return models.pop()
