"""smallfirst replay: replays recorded traffic, under its own or another policy."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from gateway.catalog.calibrators import Calibrators
from gateway.cli.output import err, fail, out, warn
from policies.loading.loader import load_with_layer
from policies.loading.trained_files import GENERIC_CALIBRATOR, STOCK_CALIBRATOR
from policies.loading.yaml_files import ConfigError
from policies.records.differences import find_differences
from policies.records.outcomes import ReplayResult
from policies.records.reader import MAX_NAMED
from policies.records.replay import replay as replay_one
from policies.records.schema import Record, RecordError
from policies.schema.split import Split
from routers.router import Router

from .reading import read_with_warning


def replay(
    records: Annotated[Path, typer.Argument(help="A .jsonl file of records, or a folder of them.")],
    policy: Annotated[
        Path | None, typer.Option(help="Replay under this policy file instead of the recorded one.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a field of the recorded router: accept=0.8. Repeatable."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Name each exchange whose decision changes.")
    ] = False,
) -> None:
    """Replay records through the same plan and watch that ran live.

    Without --policy or --set every exchange must come out as recorded; exit code 1 says that one did not.
    Evaluations, and skills that were asked by themselves, are left out: nothing of them is decided anew.
    """
    if not records.exists():
        fail(f"{records}: no such file or folder")
    try:
        replayable = [record for record in read_with_warning(records) if record.exchange.aside is None]
        other = _load_router(policy, replayable) if policy else None
        changes = _parse_changes(
            change or [], [other] if other else [record.policy.router for record in replayable]
        )
    except (ConfigError, RecordError) as error:
        fail(error)
    if not replayable:
        fail(f"{records}: holds no records", 1)
    results = _replay_all([(record, _build_router(record, other, changes)) for record in replayable])
    if other is None and not change:
        _report_reproduction(results)
    else:
        _report_change(results, verbose)


def _replay_all(records: list[tuple[Record, Router]]) -> list[ReplayResult]:
    """Replay what can be replayed, and warn of the rest. Fails if nothing can be."""
    results: list[ReplayResult] = []
    refusals: list[str] = []
    for record, router in records:
        try:
            results.append(replay_one(record, router))
        except RecordError as error:
            refusals.append(str(error))
    if not results:
        fail(_join_refusals(refusals))
    if refusals:
        warn(f"exchanges left out: {len(refusals)}: {_join_refusals(refusals)}")
    return results


def _join_refusals(refusals: list[str]) -> str:
    others = len(refusals) - MAX_NAMED
    return "; ".join([*refusals[:MAX_NAMED], *([f"and {others} more"] if others > 0 else [])])


def _load_router(path: Path, records: list[Record]) -> Router:
    policy = load_with_layer(path, stock=_find_stock(records)).policy
    if isinstance(policy, Split):
        raise ConfigError(f"{path}: it divides requests among policies; replay under one of those")
    return policy.router


def _find_stock(records: list[Record]) -> Path:
    """Return the calibrator that `stock` means for the small model whose drafts are recorded.

    What the recorded policies' calibrators are made for tells the model. If that names several, or none, it is the
    default one."""
    sources = {record.policy.digest: record.policy.router.made_for for record in records}.values()
    found = {
        GENERIC_CALIBRATOR if source.is_generic else Calibrators().find(source)
        for source in sources
        if source is not None
    }
    return found.pop() if len(found) == 1 else STOCK_CALIBRATOR


def _build_router(record: Record, other: Router | None, changes: dict[str, str | None]) -> Router:
    """Return the router to replay under. A change of a field that it lacks is meant for others."""
    router = other or record.policy.router
    fields: dict[str, Any] = {name: getattr(router, name) for name in type(router).model_fields}
    try:
        return type(router).model_validate(
            fields | {name: changes[name] for name in changes if name in fields}
        )
    except ValidationError as error:
        detail = error.errors()[0]
        fail(": ".join(["--set", *map(str, detail["loc"]), detail["msg"]]))


def _parse_changes(assignments: list[str], routers: list[Router]) -> dict[str, str | None]:
    known = sorted({name for router in routers for name in type(router).model_fields} - {"kind"})
    changes: dict[str, str | None] = {}
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        if name not in known:
            fail(f"--set {assignment}: no router here has a field {name}; there are: {', '.join(known)}")
        changes[name] = None if value in ("", "null") else value
    return changes


def _report_reproduction(results: list[ReplayResult]) -> None:
    wrong = [(result, departures) for result in results if (departures := find_differences(result))]
    for result, departures in wrong:
        err.print(f"{result.record.exchange.id}: {'; '.join(departures)}", markup=False)
    out.print(f"{len(results) - len(wrong)} of {len(results)} exchanges reproduced exactly")
    if wrong:
        raise typer.Exit(1)


def _report_change(results: list[ReplayResult], verbose: bool) -> None:
    changed = [result for result in results if result.is_escalated != is_escalated(result.record)]
    moves = Counter("to the llm" if result.is_escalated else "to the slm" for result in changed)
    missing = sum(result.missing is not None for result in results)
    if verbose:
        for result in changed:
            direction = "now asks the llm" if result.is_escalated else "now stays with the slm"
            out.print(f"{result.record.exchange.id}  {direction}", markup=False)
    total = len(results)
    before, after = (
        sum(is_escalated(result.record) for result in results),
        sum(result.is_escalated for result in results),
    )
    recorded = sum(result.record.exchange.cost_usd for result in results)
    known = sum(result.cost_usd for result in results)
    out.print(f"exchanges             {total}")
    out.print(f"ask the llm           {before} recorded, {after} replayed")
    out.print(
        f"decisions changed     {len(changed)} ({moves['to the llm']} to the llm, {moves['to the slm']} to the slm)"
    )
    out.print(f"without a known end   {missing} (their records hold no answer for what the policy would ask)")
    out.print(f"cost of known calls   ${recorded:.6f} recorded, ${known:.6f} replayed")


def is_escalated(record: Record) -> bool:
    return any(call.tier == "llm" for call in record.exchange.calls)
