"""smallfirst models list, show and compare: what the catalog knows of small models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.text import Text

from gateway.cli.output import ConfigOption, err, fail, out
from gateway.cli.policies.loading import load_settings_or_fail
from gateway.local.models.card import ModelCard
from gateway.local.models.catalog import ModelCatalog
from gateway.local.models.selection import (
    Criteria,
    parse_cell,
    parse_context,
    parse_parameters,
    select_cards,
)
from gateway.local.sizing.recommendation import describe_card
from gateway.local.weights.resolution import has_weights

from .cells import format_amount, iterate_cells
from .comparison import compare_cards, draw_table

T = TypeVar("T")
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def list_models(
    family: Annotated[str | None, typer.Option(help="Family, such as `Qwen3`.")] = None,
    attention: Annotated[str | None, typer.Option(help="mha, mqa, gqa, mla or none.")] = None,
    max_params: Annotated[str | None, typer.Option(help="At most so many parameters: 3b, 500m.")] = None,
    min_params: Annotated[str | None, typer.Option(help="At least so many parameters.")] = None,
    context_min: Annotated[str | None, typer.Option(help="At least so long a context: 8192, 32k.")] = None,
    licence: Annotated[str | None, typer.Option(help="Part of the licence's name: apache.")] = None,
    paradigm: Annotated[str | None, typer.Option(help="pre-trained, instruction, distilled, pruned.")] = None,
    domain: Annotated[str | None, typer.Option(help="general, code, mathematics or science.")] = None,
    technique: Annotated[str | None, typer.Option(help="Part of a technique's name: DPO.")] = None,
    tools: Annotated[bool, typer.Option("--tools", help="Only models that call tools.")] = False,
    here: Annotated[bool, typer.Option("--here", help="Only models whose weights are here.")] = False,
    where: Annotated[list[str] | None, typer.Option(help="Any other cell: activation=relu2.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show the small models of the catalog, and whether their weights are here."""
    criteria = Criteria(
        family=family,
        attention=attention,
        paradigm=paradigm,
        domain=domain,
        licence=licence,
        technique=technique,
        min_parameters=_parse(parse_parameters, min_params),
        max_parameters=_parse(parse_parameters, max_params),
        min_context=_parse(parse_context, context_min),
        calls_tools=tools,
        cells=tuple(filter(None, (_parse(parse_cell, cell) for cell in where or ()))),
    )
    folder = load_settings_or_fail(config).models_folder
    cards = select_cards(ModelCatalog.load().cards, criteria)
    cards = [card for card in cards if not here or has_weights(card, folder)]
    if as_json:
        _print_json([_to_json(card) | {"here": has_weights(card, folder)} for card in cards])
    elif not cards:
        err.print("no model in the catalog is like that", markup=False)
    else:
        _print_lines(cards, folder)


def show_model(
    name: Annotated[str, typer.Argument(help="A name that `smallfirst models list` shows, or an alias.")],
    as_json: JsonOption = False,
) -> None:
    """Show all that the catalog knows of a model; what no source confirms ends with a question mark."""
    card = find_card(name)
    if as_json:
        _print_json(_to_json(card))
        return
    for cell, value in iterate_cells(card):
        if value:
            mark = " ?" if cell in card.unverified else ""
            out.print(Text.assemble((f"{cell:22}", "bold"), f"{value}{mark}"))
    for line in describe_card(card):
        name, value = line[:13].strip(), line[13:].strip()
        out.print(Text.assemble((f"{name:22}", "bold"), value))


def compare_models(
    names: Annotated[list[str], typer.Argument(help="Names of two or more models.")],
    differing: Annotated[bool, typer.Option("--differing", help="Only what differs.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Write bars of the numbers to this SVG file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare models property by property; those that differ are marked ≠."""
    cards = [find_card(name) for name in names]
    if len(cards) < 2:
        fail("compare needs the names of two models or more")
    cells = [cell for cell in compare_cards(cards) if cell.differs or not differing]
    if picture is not None:
        from .comparison_picture import draw_comparison

        picture.write_text(draw_comparison(cards), encoding="utf-8")
        err.print(f"wrote {picture}", markup=False)
    if as_json:
        models = [card.name for card in cards]
        _print_json({cell.name: dict(zip(models, cell.values, strict=True)) for cell in cells})
    else:
        out.print(draw_table(cards, cells))


def find_card(name: str) -> ModelCard:
    """Return the row of this name, or end the command with the names that are most like it."""
    catalog = ModelCatalog.load()
    card = catalog.find(name)
    if card is None:
        like = ", ".join(catalog.suggest(name))
        fail(
            f"{name!r} is not in the catalog; {f'near it: {like}' if like else 'see: smallfirst models list'}"
        )
    return card


def _print_lines(cards: list[ModelCard], folder: Path) -> None:
    width = max(len(card.name) for card in cards)
    for card in cards:
        here = "here" if has_weights(card, folder) else "not here"
        out.print(
            f"{card.name:{width}}  {format_amount(card.parameters):>5}  {card.attention or '-':4}"
            f"  {card.context or '-':>7}  {card.released}  {card.licence}  {here}",
            markup=False,
        )


def _parse(parse: Callable[[str], T], text: str | None) -> T | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        fail(error)


def _to_json(card: ModelCard) -> dict[str, object]:
    return card.model_dump(mode="json")


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
