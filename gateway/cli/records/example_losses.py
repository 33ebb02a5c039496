"""Computes the small model's loss on recorded answers from the log-probabilities that its server reports."""

import json
from collections.abc import Sequence

import orjson
from rich.progress import Progress

from gateway.cli.output import err
from gateway.cli.test_server import serving
from gateway.settings import Settings
from gateway.upstreams.pool import Pool
from gateway.upstreams.providers.kind import Scorer, Tokenizer
from gateway.upstreams.transport.garbage import MISSHAPEN
from gateway.upstreams.transport.transport import Broken
from gateway.upstreams.upstream import Upstream
from gateway.wire.shapes import Body
from policies.loading.yaml_files import ConfigError
from policies.tuning.example_selection import Loss
from policies.tuning.sft_examples import Example, Message
from routers.plan import Unavailable

SILENT: list[Message] = [{"role": "user", "content": ""}]
"""The prompt for the loss of an answer without its prompt."""


async def losses_of(examples: Sequence[Example], settings: Settings) -> list[Loss | None]:
    """Return the loss of each example's answer, or None if it does not fit the context or chat template.

    Tool calls are read as JSON. Raises ConfigError if no small model is configured whose server reports the
    log-probabilities of a given text, or if it can read none of the examples."""
    async with serving(settings) as served:
        reading = _Reading(_scoring(served.app.pools.get("slm")))
        await reading.begin()
        with Progress(console=err) as progress:
            found = [await reading.loss(one) for one in progress.track(examples, description="reading")]
    if examples and found.count(None) == len(found):
        raise ConfigError(f"the small model could read none of the examples: {reading.last}")
    return found


def _scoring(pool: Pool | None) -> Upstream:
    if pool is None:
        raise ConfigError(
            "--select needs a small model, and none is configured: local, or an upstream with tier: slm"
        )
    for upstream in pool.upstreams:
        if upstream.scorer is not None and upstream.kind.tokenizer is not None:
            return upstream
    names = ", ".join(upstream.name for upstream in pool.upstreams)
    raise ConfigError(
        f"--select needs a server that tells the log-probabilities of a given text, as vLLM and llama.cpp do,"
        f" and {names} does not"
    )


class _Reading:
    """Reads losses from one upstream. `last_failure` is why the last failed example could not be read."""

    def __init__(self, upstream: Upstream) -> None:
        self.last = ""
        self._upstream = upstream
        self._silent: Sequence[int] = ()

    async def begin(self) -> None:
        """Tokenize the empty prompt. Raises ConfigError if the server cannot be reached."""
        try:
            self._silent = await self._prompt(SILENT)
        except (Unavailable, Broken, *MISSHAPEN) as error:
            raise ConfigError(f"{self._upstream.name} could not be asked: {error}") from error

    async def loss(self, example: Example) -> Loss | None:
        try:
            answer = (await self._told({"prompt": written(example.answer), "add_special_tokens": False}))[
                "tokens"
            ]
            prompt = await self._prompt(example.prompt)
            return Loss(await self._mean(prompt, answer), await self._mean(self._silent, answer))
        except (Unavailable, Broken, *MISSHAPEN) as error:
            self.last = str(error)
            return None

    async def _mean(self, before: Sequence[int], answer: Sequence[int]) -> float:
        scorer: Scorer | None = self._upstream.scorer
        assert scorer is not None  # noqa: S101  it was chosen for it
        logprobs = await scorer.logprobs(self._post, [*before, *answer], len(before))
        return -sum(logprobs) / len(logprobs)

    async def _prompt(self, messages: Sequence[Message]) -> Sequence[int]:
        """Return the token ids of the messages in the model's chat template."""
        spoken = [{key: value for key, value in message.items() if key != "weight"} for message in messages]
        ids: Sequence[int] = (await self._told({"messages": spoken, "add_generation_prompt": True}))["tokens"]
        return ids

    async def _told(self, body: Body) -> Body:
        tokenizer: Tokenizer | None = self._upstream.kind.tokenizer
        assert tokenizer is not None  # noqa: S101  it was chosen for it
        return await tokenizer.tokenize(self._post, body)

    async def _post(self, page: str, body: Body) -> Body:
        content = orjson.dumps({"model": self._upstream.model, **body})
        sent = await self._upstream.send(self._upstream.url(page), content, stream=False)
        try:
            answer: Body = orjson.loads(await sent.response.read())
        finally:
            sent.close()
        return answer


def written(answer: Message) -> str:
    """Return an answer as text, with its tool calls as JSON, since each model has its own format for them."""
    calls = [call["function"] for call in answer.get("tool_calls", ())]
    called = [json.dumps({"name": call["name"], "arguments": call["arguments"]}) for call in calls]
    return "\n".join([*([answer["content"]] if answer.get("content") else []), *called])
