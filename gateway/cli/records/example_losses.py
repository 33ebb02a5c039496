"""Computes the small model's loss on recorded answers from the log-probabilities that its server reports."""

import json
from collections.abc import Sequence

import orjson
from rich.progress import Progress

from gateway.cli.loopback_gateway import run_gateway
from gateway.cli.output import err
from gateway.settings import Settings
from gateway.upstreams.pool import Pool
from gateway.upstreams.providers.server_kind import Scorer, Tokenizer
from gateway.upstreams.transport.malformed import MISSHAPEN
from gateway.upstreams.transport.transport import TransportError
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from policies.loading.yaml_files import ConfigError
from policies.tuning.examples.selection import Loss
from policies.tuning.examples.sft_examples import Example, Message
from routers.plan import Unavailable

EMPTY_PROMPT: list[Message] = [{"role": "user", "content": ""}]
"""The prompt for the loss of an answer without its prompt."""


async def measure_losses(examples: Sequence[Example], settings: Settings) -> list[Loss | None]:
    """Return the loss of each example's answer, or None if it does not fit the context or chat template.

    Tool calls are read as JSON. Raises ConfigError if no small model is configured whose server reports the
    log-probabilities of a given text, or if it can read none of the examples."""
    async with run_gateway(settings, shows_start=True) as server:
        reader = _LossReader(_find_scoring_upstream(server.app.pools.get("slm")))
        await reader.prepare()
        with Progress(console=err) as progress:
            losses = [
                await reader.read_loss(example) for example in progress.track(examples, description="reading")
            ]
    if examples and losses.count(None) == len(losses):
        raise ConfigError(f"the small model could read none of the examples: {reader.last_failure}")
    return losses


def _find_scoring_upstream(pool: Pool | None) -> Upstream:
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


class _LossReader:
    """Reads losses from one upstream. `last_failure` is why the last failed example could not be read."""

    def __init__(self, upstream: Upstream) -> None:
        self.last_failure = ""
        self._upstream = upstream
        self._empty_prompt: Sequence[int] = ()

    async def prepare(self) -> None:
        """Tokenize the empty prompt. Raises ConfigError if the server cannot be reached."""
        try:
            self._empty_prompt = await self._tokenize_prompt(EMPTY_PROMPT)
        except (Unavailable, TransportError, *MISSHAPEN) as error:
            raise ConfigError(f"{self._upstream.name} could not be asked: {error}") from error

    async def read_loss(self, example: Example) -> Loss | None:
        try:
            answer = (await self._tokenize({"prompt": to_text(example.answer), "add_special_tokens": False}))[
                "tokens"
            ]
            prompt = await self._tokenize_prompt(example.prompt)
            return Loss(
                await self._mean_loss(prompt, answer), await self._mean_loss(self._empty_prompt, answer)
            )
        except (Unavailable, TransportError, *MISSHAPEN) as error:
            self.last_failure = str(error)
            return None

    async def _mean_loss(self, before: Sequence[int], answer: Sequence[int]) -> float:
        scorer: Scorer | None = self._upstream.scorer
        assert scorer is not None  # noqa: S101  it was chosen for it
        logprobs = await scorer.logprobs(self._post, [*before, *answer], len(before))
        return -sum(logprobs) / len(logprobs)

    async def _tokenize_prompt(self, messages: Sequence[Message]) -> Sequence[int]:
        """Return the token ids of the messages in the model's chat template."""
        plain = [{key: value for key, value in message.items() if key != "weight"} for message in messages]
        ids: Sequence[int] = (await self._tokenize({"messages": plain, "add_generation_prompt": True}))[
            "tokens"
        ]
        return ids

    async def _tokenize(self, body: Body) -> Body:
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


def to_text(answer: Message) -> str:
    """Return an answer as text, with its tool calls as JSON, since each model has its own format for them."""
    calls = [call["function"] for call in answer.get("tool_calls", ())]
    calls_text = [json.dumps({"name": call["name"], "arguments": call["arguments"]}) for call in calls]
    return "\n".join([*([answer["content"]] if answer.get("content") else []), *calls_text])
