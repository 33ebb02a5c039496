"""smallfirst models bench: measures speculative decoding inside the engine on the user's own prompts."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import orjson
import typer
from pydantic import HttpUrl, SecretStr, TypeAdapter, ValidationError

from gateway.cli.output import ConfigOption, err, fail, out
from gateway.cli.records.reading import read_with_warning
from gateway.cli.start_printer import build_start_printer
from gateway.local.factory import build_local_engine
from gateway.local.settings import LocalEngine
from gateway.local.supervision.supervisor import EngineFailed
from gateway.local.throughput import Throughput, measure_throughput
from gateway.settings import Settings, default_config_path, load_settings
from gateway.upstreams.failures import Failure
from gateway.upstreams.settings import UpstreamSettings
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from policies.loading.yaml_files import ConfigError
from policies.records.reader import is_record_set

OpenServer = Callable[[], AbstractAsyncContextManager[Upstream]]
"""A function that returns a context manager, inside which the server runs."""


def bench(
    prompts: Annotated[
        Path,
        typer.Argument(
            help="A text file with a prompt a line; .jsonl with a request a line; or records with content."
        ),
    ],
    url: Annotated[
        list[str] | None,
        typer.Option(help="Instead of the local engine, twice: a server without speculation, and one with."),
    ] = None,
    model: Annotated[str, typer.Option(help="The model's name at these servers.")] = "",
    key: Annotated[str, typer.Option(envvar="VLLM_API_KEY", help="The key of these servers.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, where a request says none.")] = 128,
    at_once: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Runs with speculation; one more goes without.")] = 1,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Measure tokens per second without speculative decoding, with it, and without again, on your own prompts.

    Two servers at a time would share one machine, so each runs alone: the two runs without it show how far the
    machine's own speed wanders.
    """
    try:
        requests = read_prompts(prompts, max_tokens)
        without, with_it = _build_remote_servers(url, model, key) if url else _build_local_servers(config)
        runs = asyncio.run(_run_alternately(without, with_it, rounds, requests, at_once))
    except (ConfigError, ValueError) as error:
        fail(error)
    except (EngineFailed, Failure) as error:
        fail(error, 1)
    verdict = judge_runs(runs)
    if as_json:
        out.print_json(json.dumps(_to_json(runs, verdict)))
        return
    for line in (*_format_table(runs), "", *_format_notes(runs), verdict.sentence):
        out.print(line, markup=False)


class Run(NamedTuple):
    speculative: bool
    measurement: Throughput


class Verdict(NamedTuple):
    speedup: float
    """Mean speed with speculation over mean speed without."""
    spread: float
    """Greatest difference between equal runs, as a share of their mean."""
    pays: bool | None
    """Whether speculation pays; None if the difference is within the spread."""
    sentence: str


def judge_runs(runs: Sequence[Run]) -> Verdict:
    speeds = {
        kind: [run.measurement.tokens_per_s for run in runs if run.speculative is kind]
        for kind in (False, True)
    }
    means = {kind: sum(some) / len(some) for kind, some in speeds.items()}
    spread = max((max(some) - min(some)) / means[kind] for kind, some in speeds.items())
    speedup = means[True] / means[False]
    figures = f"{speedup:.2f} times as fast; equal runs differ by {spread:.1%}."
    if abs(speedup - 1.0) <= spread:
        return Verdict(speedup, spread, None, f"No difference beyond the spread: {figures}")
    pays = speedup > 1.0
    return Verdict(speedup, spread, pays, f"{'It pays' if pays else 'It does not pay'}: {figures}")


def read_prompts(path: Path, max_tokens: int) -> list[Body]:
    """Return the requests in a file or a record set: completions if they have a `prompt`, else chat completions.

    Raises ConfigError if the file cannot be read, holds no prompts, or has a line that is no request, and RecordError
    if none of a record set's lines can be read."""
    bodies = _read_recorded(path) if is_record_set(path) else _read_requests(path)
    if not bodies:
        raise ConfigError(f"{path}: holds no prompts; records hold them where records.content is on")
    return [_limit_tokens(body, max_tokens) for body in bodies]


def _read_recorded(path: Path) -> list[Body]:
    contents = [record.exchange.content or {} for record in read_with_warning(path)]
    return [content for content in contents if "messages" in content or "prompt" in content]


def _read_requests(path: Path) -> list[Body]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    parse = _parse_request if path.suffix == ".jsonl" else _parse_question
    return [parse(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def _parse_question(line: str, where: str) -> Body:
    """Return a greedy request, so that every run writes the same answer."""
    return {"messages": [{"role": "user", "content": line.strip()}], "temperature": 0}


def _parse_request(line: str, where: str) -> Body:
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{where}: not JSON: {error}") from error
    if not isinstance(body, dict) or ("messages" in body) == ("prompt" in body):
        raise ConfigError(f"{where}: expected a request with either messages or a prompt")
    return body


def _limit_tokens(body: Body, max_tokens: int) -> Body:
    body = {key: body[key] for key in body if key not in ("stream", "stream_options", "smallfirst")}
    return (
        body if {"max_tokens", "max_completion_tokens"} & body.keys() else {**body, "max_tokens": max_tokens}
    )


def _build_local_servers(config: Path | None) -> tuple[OpenServer, OpenServer]:
    settings = load_settings(config or default_config_path())
    local = settings.local
    if local is None or local.speculative is None:
        raise ConfigError("local.speculative is not set: there is nothing to compare; or give --url twice")
    plain = local.model_copy(update={"speculative": None})
    return lambda: _start_engine(settings, plain), lambda: _start_engine(settings, local)


@asynccontextmanager
async def _start_engine(settings: Settings, local: LocalEngine) -> AsyncIterator[Upstream]:
    print_start = build_start_printer()
    upstream, supervisor = build_local_engine(local, settings.models_folder, lambda: None, print_start)
    try:
        with print_start:
            supervisor.start()
            await supervisor.wait_until_ready()
        yield upstream
    finally:
        await supervisor.stop()
        await upstream.close()


def _build_remote_servers(urls: list[str], model: str, key: str) -> tuple[OpenServer, OpenServer]:
    if len(urls) != 2 or not model:
        raise ConfigError("--url is given twice, without speculation and with, and --model with it")
    without, with_it = urls
    return lambda: _connect("without", without, model, key), lambda: _connect("with", with_it, model, key)


@asynccontextmanager
async def _connect(name: str, url: str, model: str, key: str) -> AsyncIterator[Upstream]:
    try:
        address = TypeAdapter(HttpUrl).validate_python(url)
    except ValidationError as error:
        raise ConfigError(f"--url {url}: {error.errors()[0]['msg']}") from error
    upstream = Upstream(
        UpstreamSettings(
            name=name,
            tier="slm",
            url=address,
            model=model,
            engine="vllm",
            key=SecretStr(key) if key else None,
        )
    )
    try:
        yield upstream
    finally:
        await upstream.close()


async def _run_alternately(
    without: OpenServer, with_it: OpenServer, rounds: int, prompts: Sequence[Body], at_once: int
) -> list[Run]:
    runs = []
    for turn in range(2 * rounds + 1):
        speculative = turn % 2 == 1
        err.print(f"{turn + 1} of {2 * rounds + 1}: {_name_run(speculative)}", markup=False)
        async with (with_it if speculative else without)() as upstream:
            runs.append(Run(speculative, await measure_throughput(upstream, prompts, at_once)))
    return runs


def _name_run(speculative: bool) -> str:
    return "with speculation" if speculative else "without"


def _format_table(runs: Sequence[Run]) -> list[str]:
    lines = [f"{'':16}  {'tokens':>7}  {'seconds':>8}  {'tokens/s':>8}  {'accepted':>8}  {'a token':>7}"]
    for run in runs:
        figures, drafting = run.measurement, run.measurement.drafting
        accepted = f"{drafting.accepted / drafting.drafted:.0%}" if drafting.drafted else ""
        accept = "" if drafting.acceptance_rate is None else f"{drafting.acceptance_rate:.2f}"
        lines.append(
            f"{_name_run(run.speculative):16}  {figures.tokens:7}  {figures.seconds:8.1f}  {figures.tokens_per_s:8.1f}"
            f"  {accepted:>8}  {accept:>7}".rstrip()
        )
    return lines


def _format_notes(runs: Sequence[Run]) -> list[str]:
    """Return notes on equal answers between runs. Greedy answers should not change; sampled ones do."""
    first, other, again = (run.measurement.texts for run in runs[:3])
    alike = [sum(map(str.__eq__, first, texts)) for texts in (other, again)]
    notes = [f"Same answers as the first run: {alike[0]} of {len(first)} with it, {alike[1]} without again."]
    if not any(run.measurement.drafting.drafted for run in runs if run.speculative):
        notes.append("Nothing was drafted, or the server does not say what was.")
    return notes


def _to_json(runs: Sequence[Run], verdict: Verdict) -> dict[str, Any]:
    return {
        "runs": [
            {
                "speculative": run.speculative,
                "tokens": run.measurement.tokens,
                "seconds": run.measurement.seconds,
                "tokens_per_second": run.measurement.tokens_per_s,
                **run.measurement.drafting._asdict(),
                "accept": run.measurement.drafting.acceptance_rate,
            }
            for run in runs
        ],
        **verdict._asdict(),
    }
