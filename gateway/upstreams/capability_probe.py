"""Detects what an upstream can do by sending it small requests of a few tokens each."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from gateway.wire.body_types import Body, Endpoint

from .failures import Failure
from .health import PROBE_TIMEOUT_S
from .transport.http_client import HttpTransport
from .transport.malformed import MISSHAPEN
from .transport.transport import TransportError
from .upstream import Upstream

WHITE_PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAEklEQVR42mP4DwUMo4xRBukMAOPT/hAC2mzjAAA"
    "AAElFTkSuQmCC"
)
"""A white square, 64 by 64 pixels."""


LENGTH_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
"""Fields that limit an answer's length. OpenAI's reasoning models reject the first."""


MINIMAL_CHAT: Body = {"messages": [{"role": "user", "content": "Hi"}]}


class ProbeFailed(Exception):
    """The upstream did not answer even a minimal chat request. The message says why."""


class ProbeClient:
    """Sends probe requests to one upstream."""

    def __init__(self, upstream: Upstream) -> None:
        self.max_top_logprobs = upstream.capabilities.top_logprobs or 0
        self._upstream = upstream
        self._length_field = LENGTH_LIMIT_FIELDS[0]

    async def detect_length_field(self) -> None:
        """Send a minimal chat to find which field limits the answer's length.

        Raises ProbeFailed if no field is accepted.
        """
        failures = []
        for self._length_field in LENGTH_LIMIT_FIELDS:
            try:
                await self.chat()
            except Failure as failure:
                failures.append(failure)
            else:
                return
        raise ProbeFailed(str(failures[0])) from failures[0]

    async def chat(self, tokens: int = 1, *, continues: bool = False, **more: Any) -> Body:
        """Return the answer to a chat request of at most `tokens` tokens. Raises Failure."""
        return await self._send("chat", MINIMAL_CHAT | more, tokens, continues=continues)

    async def complete(self, **body: Any) -> Body:
        """Return the answer to a completions request of one token. Raises Failure."""
        return await self._send("completions", body, 1)

    async def asks_template(self) -> bool | None:
        """Return whether the model's chat template shows tools to the model; None if the server does not tell."""
        try:
            return await self._upstream.fetch_tool_support()
        except TransportError:
            return None

    async def embed(self) -> Body:
        """Return the answer to an embeddings request. Raises Failure."""
        return await self._send("embeddings", {"input": "Hi"}, 0)

    async def _send(self, endpoint: Endpoint, body: Body, tokens: int, *, continues: bool = False) -> Body:
        upstream = self._upstream
        limit = {"max_tokens" if endpoint == "completions" else self._length_field: tokens} if tokens else {}
        request = upstream.adapt_body({**body, **limit, "model": upstream.model}, continues=continues)
        try:
            return await upstream.fetch(endpoint, orjson.dumps(request))
        except TransportError as error:
            raise Failure("garbage", upstream.tier, str(error), upstream=upstream.name) from error
        finally:
            upstream.breaker.record_success()  # a refusal is a result here, not a fault


def _read_text(answer: Body) -> str:
    return answer["choices"][0]["message"]["content"] or ""


async def _check_logprobs(client: ProbeClient) -> bool:
    return bool((await client.chat(logprobs=True))["choices"][0]["logprobs"]["content"])


async def _count_top_logprobs(client: ProbeClient) -> int:
    """Return how many alternatives arrive if the declared maximum is requested."""
    answer = await client.chat(logprobs=True, top_logprobs=client.max_top_logprobs)
    return len(answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"])


async def _check_scoring(client: ProbeClient) -> bool:
    choice = (await client.complete(prompt="One two three", echo=True, logprobs=1))["choices"][0]
    return choice["text"].startswith("One two three") and len(choice["logprobs"]["token_logprobs"]) > 2


async def _check_prediction(client: ProbeClient) -> bool:
    usage = (await client.chat(prediction={"type": "content", "content": "Hi"}))["usage"]
    return "accepted_prediction_tokens" in usage["completion_tokens_details"]


async def _check_prefill(client: ProbeClient) -> bool:
    """Break off in the middle of a word: an answer that starts anew would not begin with the rest of it."""
    beginning = "The capital of France is Par"
    messages = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": beginning},
    ]
    answer = await client.chat(2, messages=messages, temperature=0, continues=True)
    return _read_text(answer).removeprefix(beginning).startswith("is")


async def _check_tools(client: ProbeClient) -> bool:
    """Ask how the model's template treats tools, if the server tells. Else check that the field is accepted; one
    token cannot show more."""
    if (shown := await client.asks_template()) is not None:
        return shown
    function = {"name": "greet", "description": "Greets.", "parameters": {"type": "object", "properties": {}}}
    return "choices" in await client.chat(tools=[{"type": "function", "function": function}])


async def _check_custom_tools(client: ProbeClient) -> bool:
    return "choices" in await client.chat(tools=[{"type": "custom", "custom": {"name": "run"}}])


async def _check_json_schema(client: ProbeClient) -> bool:
    """Allow 16 tokens: llama.cpp lets a model begin with tokens that it then omits from the answer."""
    properties = {"a": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": ["a"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": schema}}
    return _read_text(await client.chat(16, response_format=form)).lstrip().startswith("{")


async def _check_vision(client: ProbeClient) -> bool:
    parts = [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": WHITE_PNG}}]
    return "choices" in await client.chat(messages=[{"role": "user", "content": parts}])


async def _check_logit_bias(client: ProbeClient) -> bool:
    """Force one of two tokens in turn: equal answers mean that the server ignores the field."""
    first, second = [
        _read_text(await client.chat(logit_bias={token: 100}, temperature=0)) for token in ("1000", "2000")
    ]
    return first != second


async def _check_grammar(client: ProbeClient) -> bool:
    return _read_text(await client.chat(8, structured_outputs={"choice": ["xyzzy"]})) == "xyzzy"


async def _check_structured_outputs(client: ProbeClient) -> bool:
    return _read_text(await client.chat(8, structured_outputs={"regex": "xy{3}z"})) == "xyyyz"


async def _check_min_p(client: ProbeClient) -> bool:
    """Check that the field is accepted; vLLM rejects it during speculative decoding."""
    return "choices" in await client.chat(min_p=0.1)


async def _check_choices(client: ProbeClient) -> bool:
    return len((await client.chat(n=2))["choices"]) == 2


async def _check_completions(client: ProbeClient) -> bool:
    return "text" in (await client.complete(prompt="Hi"))["choices"][0]


async def _check_embeddings(client: ProbeClient) -> bool:
    return bool((await client.embed())["data"][0]["embedding"])


Check = Callable[[ProbeClient], Awaitable[int]]

CHECKS: dict[str, Check] = {
    "logprobs": _check_logprobs,
    "top_logprobs": _count_top_logprobs,
    "scoring": _check_scoring,
    "prediction": _check_prediction,
    "prefill": _check_prefill,
    "tools": _check_tools,
    "custom_tools": _check_custom_tools,
    "json_schema": _check_json_schema,
    "vision": _check_vision,
    "logit_bias": _check_logit_bias,
    "min_p": _check_min_p,
    "choices": _check_choices,
    "completions": _check_completions,
    "embeddings": _check_embeddings,
    "grammar": _check_grammar,
    "structured_outputs": _check_structured_outputs,
}
"""Checks by field of Capabilities. `audio` has none: a request with sound costs more than a token."""


async def fetch_context_length(upstream: Upstream) -> int | None:
    """Return the context length in tokens that the server's `/models` reports, or None. The request is
    free."""
    url = upstream.url("models")
    client = HttpTransport(
        url, upstream.probe.headers, connect=PROBE_TIMEOUT_S, gap=PROBE_TIMEOUT_S, keep_alive=False
    )
    try:
        response = await client.get(url, PROBE_TIMEOUT_S)
        try:
            models = orjson.loads(await response.read())["data"]
        finally:
            response.close()
        value = next(model for model in models if model["id"] == upstream.model)
        for key in upstream.kind.context_path:
            value = value[key]
    except (TransportError, StopIteration, *MISSHAPEN):
        return None
    return value if isinstance(value, int) else None


async def probe_capabilities(upstream: Upstream) -> dict[str, int]:
    """Return each capability as a truth value, `top_logprobs` as a count. Raises ProbeFailed."""
    client = ProbeClient(upstream)
    await client.detect_length_field()
    return {name: await _run_check(client, trial) for name, trial in CHECKS.items()}


async def _run_check(client: ProbeClient, check: Check) -> int:
    try:
        return await check(client)
    except (Failure, *MISSHAPEN):
        return False
