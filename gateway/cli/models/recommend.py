"""smallfirst models recommend: which models fit a memory, with how many requests of which context."""

import json
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import err, fail, out
from gateway.local.models.card import LocalEngineKind, ModelCard
from gateway.local.models.catalog import ModelCatalog
from gateway.local.models.memory import KV_BYTES, format_bytes
from gateway.local.models.selection import Criteria, select_cards
from gateway.local.sizing.machine import read_machine
from gateway.local.sizing.recommendation import (
    BASE_MODELS,
    Need,
    Recommendation,
    recommend_cards,
    recommend_paths,
)
from policies.loading.yaml_files import ConfigError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BINARY_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


class Engine(StrEnum):
    llamacpp = "llamacpp"
    vllm = "vllm"


class Task(StrEnum):
    chat = "chat"
    code = "code"
    mathematics = "mathematics"
    tools = "tools"


DOMAINS = {Task.chat: "general", Task.code: "code", Task.mathematics: "mathematics"}


def recommend(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="GGUF files and folders to measure instead of the catalog's models."),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Memory that may be filled: 8GiB, 512MiB. The default is this machine's."),
    ] = None,
    context: Annotated[
        int, typer.Option(min=1, help="Tokens of a request, prompt and answer together.")
    ] = 8192,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at the same time.")] = 4,
    engine: Annotated[Engine | None, typer.Option(help="Only models that this engine runs.")] = None,
    task: Annotated[Task | None, typer.Option(help="Only models made for this.")] = None,
    family: Annotated[str | None, typer.Option(help="Only models of this family.")] = None,
    licence: Annotated[str | None, typer.Option(help="Part of the licence's name: apache.")] = None,
    base: Annotated[bool, typer.Option("--base", help="Also models that were not tuned to answer.")] = False,
    kv_type: Annotated[str, typer.Option(help="Type of the key-value cache: f16, q8_0, q4_0.")] = "f16",
    limit: Annotated[int, typer.Option(min=1, help="Longest list.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rank the models that fit a memory, with their weights, KV cache and total, and how to serve them."""
    kind: LocalEngineKind | None = None if engine is None else engine.value
    need = Need(_read_memory(memory, kind), context, concurrency, _check_kv_type(kv_type))
    try:
        if paths:
            fitting = recommend_paths(paths, need)
        else:
            fitting = recommend_cards(_select(task, family, licence, base), need, kind)
    except ConfigError as error:
        fail(error)
    if as_json:
        typer.echo(json.dumps([_to_json(model) for model in fitting[:limit]], indent=2))
    elif fitting:
        _print_table(fitting[:limit], need)
    else:
        fail(f"no model fits {format_bytes(need.memory_bytes)} with {concurrency} x {context} tokens", 1)


def _read_memory(text: str | None, engine: LocalEngineKind | None) -> int:
    if text is None:
        return read_machine(engine or "llamacpp").memory_bytes
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?", text.strip().casefold())
    if not found:
        fail(f"--memory {text}: expected a size such as 8GiB or 512MiB")
    return int(float(found[1]) * (UNITS | BINARY_UNITS)[found[2]])


def _check_kv_type(kv_type: str) -> str:
    if kv_type not in KV_BYTES:
        fail(f"--kv-type {kv_type}: expected one of {', '.join(KV_BYTES)}")
    return kv_type


def _select(task: Task | None, family: str | None, licence: str | None, base: bool) -> list[ModelCard]:
    criteria = Criteria(
        family=family,
        licence=licence,
        domain=None if task is None else DOMAINS.get(task),
        calls_tools=task is Task.tools,
    )
    cards = select_cards(ModelCatalog.load().cards, criteria)
    return [card for card in cards if base or card.paradigm not in BASE_MODELS]


def _print_table(fitting: Sequence[Recommendation], need: Need) -> None:
    header = ("model", "engine", "quantisation", "weights", "KV cache", "activations", "total", "--slm")
    rows = [header, *map(_to_row, fitting)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if 3 <= index <= 6 else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        out.print("  ".join(cells).rstrip(), markup=False)
    room = f"{need.concurrency} requests of {need.context} tokens in {format_bytes(need.memory_bytes)}"
    err.print(f"\n{room}; to serve the first:", markup=False)
    out.print(f"\n{fitting[0].command}\n\n{fitting[0].yaml}", markup=False)


def _to_row(model: Recommendation) -> tuple[str, ...]:
    sizes = map(format_bytes, (*model.memory, model.memory.total))
    return (model.name, model.engine, model.quantisation, *sizes, model.reference)


def _to_json(model: Recommendation) -> dict[str, object]:
    return {
        "name": model.name,
        "engine": model.engine,
        "quantisation": model.quantisation,
        **{f"{name}_bytes": size for name, size in model.memory._asdict().items()},
        "total_bytes": model.memory.total,
        "command": model.command,
        "yaml": model.yaml,
    }
