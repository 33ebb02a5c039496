"""smallfirst export: makes a training set for the small model from recorded answers of the large one."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from gateway.cli.output import ConfigOption, err, fail, out
from gateway.settings import default_config_path, load_settings
from policies.loading.yaml_files import ConfigError
from policies.records.schema import RecordError
from policies.schema.policy import Policy
from policies.schema.private import RESERVED_NAME, Private
from policies.tuning.examples.export import Export, NothingToExport, Redact, summarise, to_jsonl
from policies.tuning.examples.export import build_export as export_records
from policies.tuning.examples.selection import Selection, select_examples
from policies.tuning.examples.sft_examples import LeftOut

from .reading import read_with_warning


def export(
    records: Annotated[Path, typer.Argument(help="A .jsonl file of records, or a folder of them.")],
    format_: Annotated[
        Literal["openai-sft"], typer.Option("--format", help="OpenAI's format for supervised fine-tuning.")
    ] = "openai-sft",
    into: Annotated[
        Path, typer.Option("--out", help="A new folder, for train.jsonl and validation.jsonl.")
    ] = Path("sft"),
    validation: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the conversations that are kept for validation.")
    ] = 0.1,
    everyones: Annotated[
        bool, typer.Option("--all", help="The small model's own answers too, not only escalated exchanges.")
    ] = False,
    wanted: Annotated[
        str | None,
        typer.Option(
            "--select",
            help="Train on so many examples only (`500`), or on such a share of them (`0.2`): those whose answers the"
            " configured small model finds least likely.",
        ),
    ] = None,
    entities: Annotated[
        str | None,
        typer.Option(
            "--redact", help="What is replaced by placeholders, by presidio-analyzer's names and commas."
        ),
    ] = None,
    as_it_is: Annotated[bool, typer.Option("--no-redact", help="Replace nothing.")] = False,
    config: ConfigOption = None,
) -> None:
    """Make a fine-tuning set of the escalated exchanges in records whose content was recorded."""
    if not records.exists():
        fail(f"{records}: no such file or folder")
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        fail(f"{into} is not empty; a set needs a folder of its own")
    count = _parse_amount(wanted) if wanted else None
    redact = _build_redaction(entities, as_it_is)
    try:
        result = export_records(
            read_with_warning(records), include_all=everyones, redact=redact, validation=validation
        )
        selection = None if count is None else asyncio.run(_select_examples(result, count, config))
        _write_sets(into, result, selection)
    except NothingToExport as error:
        fail(f"{records}: {error}", 1)
    except (ConfigError, RecordError, OSError) as error:
        fail(error)
    for what, number in [*summarise(result), *(_count_selection(selection) if selection else [])]:
        err.print(f"{what:<51} {number}", markup=False)


def _write_sets(into: Path, result: Export, selection: Selection | None) -> None:
    """Write `train.jsonl` and `validation.jsonl`, readable by the user only, as records are."""
    train = result.train if selection is None else [example for example, _ in selection.examples]
    into.mkdir(parents=True, exist_ok=True)
    for name, examples in (("train", train), ("validation", result.validation)):
        path = into / f"{name}.jsonl"
        path.touch(0o600)
        path.write_text(to_jsonl(examples), encoding="utf-8")
        out.print(path, markup=False)


def _parse_amount(wanted: str) -> float:
    try:
        count = float(wanted)
    except ValueError:
        count = 0.0
    if not (0.0 < count < 1.0 or (count >= 1.0 and count.is_integer())):
        fail(f"--select {wanted}: expected a number of examples, or a share of them between 0 and 1")
    return count


def _build_redaction(entities: str | None, disabled: bool) -> Redact | None:
    """Return the redaction, or None if it is off. Fails without the library or for unknown entities."""
    if disabled:
        if entities:
            fail("--redact and --no-redact: one of them")
        return None
    from gateway.skills.privacy.detection import ScanTimeout, find_detection_problem, get_detector
    from gateway.skills.privacy.redaction import Vault, redact_text

    try:
        private = Private(action="redact")
        if entities is not None:
            names = tuple(name.strip() for name in entities.split(","))
            private = Private(action="redact", entities=names)
    except ValidationError as error:
        fail(f"--redact {entities}: {error.errors()[0]['msg']}")
    if why := find_detection_problem(private):
        fail(f"redaction {why}; or say --no-redact", 1)

    def redact(texts: list[str], policy: Policy) -> list[str]:
        find, vault = get_detector(_add_policy_patterns(private, policy.private)).find, Vault()
        try:
            hidden = [redact_text(text, find, vault, set()) for text in texts]
        except ScanTimeout:
            raise LeftOut("too slow to look through for private data") from None
        return [_restore_recorded(text, vault.originals) for text in hidden]

    return redact


def _restore_recorded(text: str, originals: Mapping[str, str]) -> str:
    """Return `text` with the placeholders that were already recorded, which redaction replaced by its own.

    Nothing would restore them otherwise."""
    for placeholder, original in originals.items():
        if placeholder.startswith(f"<{RESERVED_NAME}_"):
            text = text.replace(placeholder, original)
    return text


def _add_policy_patterns(private: Private, policy_private: bool | Private) -> Private:
    """Return `private` with the entities and patterns of the exchange's own policy added."""
    if isinstance(policy_private, bool):
        return private
    entities = tuple(dict.fromkeys([*private.entities, *policy_private.entities]))
    return private.model_copy(update={"entities": entities, "patterns": policy_private.patterns})


async def _select_examples(result: Export, count: float, config: Path | None) -> Selection:
    """Select training examples by the small model's loss.

    Raises ConfigError if no small model can be asked, and NothingToExport if no example is selected."""
    from .example_losses import measure_losses  # imported here, since it loads the whole gateway

    settings = load_settings(config or default_config_path())
    selection = select_examples(result.train, await measure_losses(result.train, settings), count)
    if not selection.examples:
        why = ", ".join(
            f"{number} {what.removeprefix('not selected: ')}"
            for what, number in _count_selection(selection)[2:]
        )
        raise NothingToExport(f"none of {len(result.train)} examples could be selected: {why}")
    return selection


def _count_selection(selection: Selection) -> list[tuple[str, int]]:
    return [
        ("selected for training", len(selection.examples)),
        ("not selected: easier for the small model", selection.easier),
        ("not selected: no likelier after their prompts", selection.outliers),
        ("not selected: unreadable for the small model", selection.unscored),
    ]
