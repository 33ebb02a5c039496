"""Detects what an upstream can do by sending it small requests of a few tokens each."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from gateway.wire.shapes import Body, Endpoint

from .failures import Failure
from .health import PATIENCE
from .transport.garbage import MISSHAPEN
from .transport.http11 import HttpTransport
from .transport.transport import Broken
from .upstream import Upstream

IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAEklEQVR42mP4DwUMo4xRBukMAOPT/hAC2mzjAAA"
    "AAElFTkSuQmCC"
)
"""A white square, 64 by 64 pixels."""


LIMITS = ("max_tokens", "max_completion_tokens")
"""Fields that limit an answer's length. OpenAI's reasoning models reject the first."""


PLAIN: Body = {"messages": [{"role": "user", "content": "Hi"}]}


class Untried(Exception):
    """The upstream did not answer even a minimal chat request. The message says why."""


class Asker:
    """Sends probe requests to one upstream."""

    def __init__(self, upstream: Upstream) -> None:
        self.most_alternatives = upstream.capabilities.top_logprobs or 0
        self._upstream = upstream
        self._limit = LIMITS[0]

    async def begin(self) -> None:
        """Send a minimal chat to find which field limits the answer's length.

        Raises ProbeFailed if no field is accepted.
        """
        failures = []
        for self._limit in LIMITS:
            try:
                await self.chat()
            except Failure as failure:
                failures.append(failure)
            else:
                return
        raise Untried(str(failures[0])) from failures[0]

    async def chat(self, tokens: int = 1, *, continues: bool = False, **more: Any) -> Body:
        """Return the answer to a chat request of at most `tokens` tokens. Raises Failure."""
        return await self._send("chat", PLAIN | more, tokens, continues=continues)

    async def complete(self, **body: Any) -> Body:
        """Return the answer to a completions request of one token. Raises Failure."""
        return await self._send("completions", body, 1)

    async def embed(self) -> Body:
        """Return the answer to an embeddings request. Raises Failure."""
        return await self._send("embeddings", {"input": "Hi"}, 0)

    async def _send(self, endpoint: Endpoint, body: Body, tokens: int, *, continues: bool = False) -> Body:
        upstream = self._upstream
        limit = {"max_tokens" if endpoint == "completions" else self._limit: tokens} if tokens else {}
        asked = upstream.adapted({**body, **limit, "model": upstream.model}, continues=continues)
        try:
            call = await upstream.send(upstream.url(endpoint), orjson.dumps(asked), stream=False)
        finally:
            upstream.breaker.success()  # a refusal is a result here, not a fault
        try:
            answer: Body = orjson.loads(await call.response.read())
        except (Broken, orjson.JSONDecodeError) as error:
            raise Failure("garbage", upstream.tier, str(error), upstream=upstream.name) from error
        finally:
            call.close()
        return answer


def _text(answer: Body) -> str:
    return answer["choices"][0]["message"]["content"] or ""


async def _logprobs(ask: Asker) -> bool:
    return bool((await ask.chat(logprobs=True))["choices"][0]["logprobs"]["content"])


async def _top_logprobs(ask: Asker) -> int:
    """Return how many alternatives arrive if the declared maximum is requested."""
    answer = await ask.chat(logprobs=True, top_logprobs=ask.most_alternatives)
    return len(answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"])


async def _scoring(ask: Asker) -> bool:
    choice = (await ask.complete(prompt="One two three", echo=True, logprobs=1))["choices"][0]
    return choice["text"].startswith("One two three") and len(choice["logprobs"]["token_logprobs"]) > 2


async def _prediction(ask: Asker) -> bool:
    usage = (await ask.chat(prediction={"type": "content", "content": "Hi"}))["usage"]
    return "accepted_prediction_tokens" in usage["completion_tokens_details"]


async def _prefill(ask: Asker) -> bool:
    """Break off in the middle of a word: an answer that starts anew would not begin with the rest of it."""
    begun = "The capital of France is Par"
    asked = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": begun},
    ]
    answer = await ask.chat(2, messages=asked, temperature=0, continues=True)
    return _text(answer).removeprefix(begun).startswith("is")


async def _tools(ask: Asker) -> bool:
    """Check that the field is accepted; one token cannot show more."""
    function = {"name": "greet", "description": "Greets.", "parameters": {"type": "object", "properties": {}}}
    return "choices" in await ask.chat(tools=[{"type": "function", "function": function}])


async def _json_schema(ask: Asker) -> bool:
    """Allow 16 tokens: llama.cpp lets a model begin with tokens that it then omits from the answer."""
    properties = {"a": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": ["a"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": schema}}
    return _text(await ask.chat(16, response_format=form)).lstrip().startswith("{")


async def _vision(ask: Asker) -> bool:
    parts = [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": IMAGE}}]
    return "choices" in await ask.chat(messages=[{"role": "user", "content": parts}])


async def _logit_bias(ask: Asker) -> bool:
    """Force one of two tokens in turn: equal answers mean that the server ignores the field."""
    first, second = [
        _text(await ask.chat(logit_bias={token: 100}, temperature=0)) for token in ("1000", "2000")
    ]
    return first != second


async def _grammar(ask: Asker) -> bool:
    return _text(await ask.chat(8, structured_outputs={"choice": ["xyzzy"]})) == "xyzzy"


async def _structured_outputs(ask: Asker) -> bool:
    return _text(await ask.chat(8, structured_outputs={"regex": "xy{3}z"})) == "xyyyz"


async def _min_p(ask: Asker) -> bool:
    """Check that the field is accepted; vLLM rejects it during speculative decoding."""
    return "choices" in await ask.chat(min_p=0.1)


async def _choices(ask: Asker) -> bool:
    return len((await ask.chat(n=2))["choices"]) == 2


async def _completions(ask: Asker) -> bool:
    return "text" in (await ask.complete(prompt="Hi"))["choices"][0]


async def _embeddings(ask: Asker) -> bool:
    return bool((await ask.embed())["data"][0]["embedding"])


Trial = Callable[[Asker], Awaitable[int]]

TRIALS: dict[str, Trial] = {
    "logprobs": _logprobs,
    "top_logprobs": _top_logprobs,
    "scoring": _scoring,
    "prediction": _prediction,
    "prefill": _prefill,
    "tools": _tools,
    "json_schema": _json_schema,
    "vision": _vision,
    "logit_bias": _logit_bias,
    "min_p": _min_p,
    "choices": _choices,
    "completions": _completions,
    "embeddings": _embeddings,
    "grammar": _grammar,
    "structured_outputs": _structured_outputs,
}
"""Checks by field of Capabilities. `audio` has none: a request with sound costs more than a token."""


async def context_told(upstream: Upstream) -> int | None:
    """Return the context length in tokens that the server's `/models` reports, or None. The request is
    free."""
    url = upstream.url("models")
    client = HttpTransport(url, upstream.probe.headers, connect=PATIENCE, gap=PATIENCE, keep_alive=False)
    try:
        response = await client.get(url, PATIENCE)
        try:
            listed = orjson.loads(await response.read())["data"]
        finally:
            response.close()
        found = next(model for model in listed if model["id"] == upstream.model)
        for key in upstream.kind.context:
            found = found[key]
    except (Broken, StopIteration, *MISSHAPEN):
        return None
    return found if isinstance(found, int) else None


async def tried(upstream: Upstream) -> dict[str, int]:
    """Return each capability as a truth value, `top_logprobs` as a count. Raises ProbeFailed."""
    ask = Asker(upstream)
    await ask.begin()
    return {name: await _passed(ask, trial) for name, trial in TRIALS.items()}


async def _passed(ask: Asker, trial: Trial) -> int:
    try:
        return await trial(ask)
    except (Failure, *MISSHAPEN):
        return False
