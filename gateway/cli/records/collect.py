"""smallfirst collect: makes a graded record set with the configured small model."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from gateway.cli.output import ConfigOption, err, fail, out
from gateway.settings import Settings, default_config_path, load_settings
from policies.loading.yaml_files import ConfigError
from policies.schema.policy import Policy
from policies.tuning.graded_drafts import GRADES_FILE, Grade
from policies.tuning.starter_set import Item, is_right, load_items
from routers.strategies.direct import Direct

if TYPE_CHECKING:
    from openai import AsyncOpenAI

COLLECT_POLICY = Policy(
    name="collect",
    description="The small model alone, its tokens recorded.",
    router=Direct(tier="slm", fallback=False, follow=True),
)


def collect(
    into: Annotated[Path, typer.Argument(help="A new folder for the records and their grades.")],
    items: Annotated[Path | None, typer.Option(help="Graded items; default: the starter set.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest draft.")] = 256,
    config: ConfigOption = None,
) -> None:
    """Ask the small model every item of a graded set, and keep records and grades for `smallfirst tune`."""
    if into.exists() and any(into.iterdir()):
        fail(f"{into} is not empty; a record set needs a folder of its own")
    try:
        settings = load_settings(config or default_config_path())
        questions = load_items(items)
        into.mkdir(parents=True, exist_ok=True)
        grades = asyncio.run(collect_drafts(settings, into, questions, max_tokens))
    except (ConfigError, ValueError) as error:
        fail(error)
    right = sum(grade.right for grade in grades)
    out.print(f"{len(grades)} drafts, {right / len(grades):.1%} right, in {into}")


async def collect_drafts(
    settings: Settings, into: Path, items: Sequence[Item], max_tokens: int
) -> list[Grade]:
    """Ask the configured small model each item, greedily; write records and grades into the folder `into`.

    Returns the grades in the order of `items`. Raises ConfigError if the small model cannot be served."""
    from openai import AsyncOpenAI  # imported here, since it loads slower than the rest of the command line

    from gateway.cli.loopback_gateway import run_gateway  # likewise

    records = settings.records.model_copy(update={"path": into})
    at_once = settings.local.max_in_flight if settings.local else 4
    async with (
        run_gateway(
            settings.model_copy(update={"records": records}), [COLLECT_POLICY], shows_start=True
        ) as server,
        AsyncOpenAI(base_url=server.url, api_key="none", timeout=600) as client,
    ):
        if why := server.app.policies.catalog.unavailable.get(COLLECT_POLICY.name):
            raise ConfigError(f"drafts can't be collected: {why}")
        slots = asyncio.Semaphore(at_once)
        with Progress(console=err) as progress:
            task = progress.add_task("drafting", total=len(items))

            async def grade_item(item: Item) -> Grade:
                async with slots:
                    grade = await _ask(client, item, max_tokens)
                progress.advance(task)
                return grade

            grades = await asyncio.gather(*(grade_item(item) for item in items))
    rows = [grade.model_dump() for grade in grades]
    (into / GRADES_FILE).write_text(json.dumps(rows, indent=0), encoding="utf-8")
    return list(grades)


async def _ask(client: "AsyncOpenAI", item: Item, max_tokens: int) -> Grade:
    answer = await client.chat.completions.with_raw_response.create(
        model=COLLECT_POLICY.name,
        messages=[{"role": "user", "content": item.prompt}],
        temperature=0,
        max_tokens=max_tokens,
    )
    reply = answer.parse().choices[0].message.content or ""
    return Grade(
        id=answer.headers["x-smallfirst-id"],
        item=item.id,
        kind=item.kind,
        template=item.template,
        split=item.split,
        right=is_right(item, reply),
    )
