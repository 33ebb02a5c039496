"""smallfirst replay: replays recorded traffic, under its own or another policy."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from gateway.cli.output import err, fail, out
from gateway.cli.records.reading import read_with_warning
from policies.loading.loader import load_policy
from policies.loading.yaml_files import ConfigError
from policies.records.differences import differences
from policies.records.lines import Record, RecordError
from policies.records.outcomes import Replayed
from policies.records.replay import replay as replay_one
from policies.schema.split import Split
from routers.router import Router


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
        other = _router_of(policy) if policy else None
        found = [record for record in read_with_warning(records) if record.exchange.aside is None]
        changes = _changes(change or [], [other] if other else [record.policy.router for record in found])
        replayed = [replay_one(record, _router(record, other, changes)) for record in found]
    except (ConfigError, RecordError) as error:
        fail(error)
    if not found:
        fail(f"{records}: holds no records", 1)
    if other is None and not change:
        _report_reproduction(replayed)
    else:
        _report_change(replayed, verbose)


def _router_of(path: Path) -> Router:
    found = load_policy(path)
    if isinstance(found, Split):
        raise ConfigError(f"{path}: it divides requests among policies; replay under one of those")
    return found.router


def _router(record: Record, other: Router | None, changes: dict[str, str | None]) -> Router:
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


def _changes(assignments: list[str], routers: list[Router]) -> dict[str, str | None]:
    known = sorted({name for router in routers for name in type(router).model_fields} - {"kind"})
    changes: dict[str, str | None] = {}
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        if name not in known:
            fail(f"--set {assignment}: no router here has a field {name}; there are: {', '.join(known)}")
        changes[name] = None if value in ("", "null") else value
    return changes


def _report_reproduction(replayed: list[Replayed]) -> None:
    wrong = [(one, found) for one in replayed if (found := differences(one))]
    for one, found in wrong:
        err.print(f"{one.record.exchange.id}: {'; '.join(found)}", markup=False)
    out.print(f"{len(replayed) - len(wrong)} of {len(replayed)} exchanges reproduced exactly")
    if wrong:
        raise typer.Exit(1)


def _report_change(replayed: list[Replayed], verbose: bool) -> None:
    changed = [one for one in replayed if one.escalates != escalated(one.record)]
    ways = Counter("to the llm" if one.escalates else "to the slm" for one in changed)
    missing = sum(one.missing is not None for one in replayed)
    if verbose:
        for one in changed:
            direction = "now asks the llm" if one.escalates else "now stays with the slm"
            out.print(f"{one.record.exchange.id}  {direction}", markup=False)
    total = len(replayed)
    before, after = sum(escalated(one.record) for one in replayed), sum(one.escalates for one in replayed)
    recorded = sum(one.record.exchange.cost_usd for one in replayed)
    known = sum(one.cost_usd for one in replayed)
    out.print(f"exchanges             {total}")
    out.print(f"ask the llm           {before} recorded, {after} replayed")
    out.print(
        f"decisions changed     {len(changed)} ({ways['to the llm']} to the llm, {ways['to the slm']} to the slm)"
    )
    out.print(f"without a known end   {missing} (their records hold no answer for what the policy would ask)")
    out.print(f"cost of known calls   ${recorded:.6f} recorded, ${known:.6f} replayed")


def escalated(record: Record) -> bool:
    return any(call.tier == "llm" for call in record.exchange.calls)
