"""POST /v1/compress: compresses messages, a prompt or a text."""

from collections.abc import Awaitable
from typing import Any, NamedTuple

from fastapi import Request
from pydantic import ValidationError

from gateway.api.listener.json_router import JsonRouter
from gateway.background.evaluations import Evaluations
from gateway.catalog.live_policies import LivePolicies
from gateway.engine.compression import Compression, Compressor, format_path
from gateway.engine.engine import Engine
from gateway.engine.runner import Runner
from gateway.errors import ApiError, invalid
from gateway.exchange.builder import build_task_exchange
from gateway.exchange.error_mapping import to_api_error
from gateway.exchange.exchange import Exchange
from gateway.exchange.policy_resolution import resolve_policy
from gateway.exchange.smallfirst_field import read_smallfirst_field
from gateway.skills.compress.messages import replace_texts
from gateway.telemetry.metrics import Metrics
from gateway.wire.body_types import Body, Endpoint
from gateway.wire.validation import check_chat, check_type
from policies.schema.compress import Compress
from policies.schema.policy import Policy
from routers.plan import Unavailable
from routers.strategies.direct import Direct

from .disconnect import run_while_connected
from .request_body import ClientGone, parse_body, read_body

NAME = "compress"
TEXT_FIELDS = ("messages", "prompt", "text")
"""Fields that may hold what is to be compressed. A request has exactly one of them."""
GOAL_FIELDS = tuple(name for name in Compress.model_fields if name != "worth")
KEYS = ("model", *TEXT_FIELDS, "question", *GOAL_FIELDS, "smallfirst")
DEFAULT_POLICY = Policy(
    name=NAME,
    description="What was sent to be compressed under no policy.",
    router=Direct(tier="slm", fallback=False),
)


class CompressionRequest(NamedTuple):
    """The exchange of a request, and the settings of its compression."""

    exchange: Exchange
    section: Compress

    def compress(self, runner: Runner) -> Awaitable[Compression]:
        """Return an awaitable that compresses the exchange's body; it raises Unavailable."""
        compressor = Compressor(runner.exchange, runner.dispatcher, runner.pools)
        return runner.run_skill(compressor.compress(runner.exchange.body, self.section))


def compress_route(
    policies: LivePolicies, engine: Engine, evaluations: Evaluations, metrics: Metrics, body_limit: int
) -> JsonRouter:
    router = JsonRouter()

    @router.post(
        "/v1/compress", summary="Compresses a prompt, or a text, by what the small model finds in it"
    )
    async def compress(request: Request) -> Body:
        try:
            compression = read_request(
                parse_body(await read_body(request.scope, request.receive, body_limit)), policies
            )
            evaluations.begin_request()
            try:
                result = await run_while_connected(
                    request, engine.perform(compression.exchange, compression.compress)
                )
            finally:
                evaluations.end_request()
        except ClientGone as error:
            raise invalid("the client went away") from error
        except Unavailable as failure:
            causes = [call.message for call in compression.exchange.calls if call.message]
            raise to_api_error(failure, causes) from failure
        except ApiError as error:
            metrics.count_rejected(endpoint=NAME, code=error.code, status=error.status)
            raise
        return to_body(compression.exchange, result)

    return router


def read_request(body: Body, policies: LivePolicies) -> CompressionRequest:
    """Return the request that a checked JSON object holds. Raises ApiError for an unknown or invalid field."""
    field = read_smallfirst_field(body)
    if unknown := next((key for key in body if key not in KEYS), None):
        raise invalid(f"{unknown} is not known here; expected {', '.join(KEYS)}", unknown)
    policy = DEFAULT_POLICY
    if field.policy or body.get("model") is not None:
        check_type("model", body.get("model", field.policy), str, "the name of a policy or of a model")
        policy = resolve_policy(body, field, policies.catalog)
    form = _find_form(body)
    content = {form: body[form]} | ({"question": body["question"]} if "question" in body else {})
    endpoint: Endpoint = "chat" if form == "messages" else "completions"
    exchange = build_task_exchange(NAME, endpoint, policy, content, tags=field.tags, private=field.private)
    return CompressionRequest(exchange, _build_section(body, policy))


def _find_form(body: Body) -> str:
    """Return which of TEXT_FIELDS the body has. Raises ApiError if it has none or several, or an invalid value."""
    forms = [form for form in TEXT_FIELDS if form in body]
    if len(forms) != 1:
        raise invalid(f"expected one of {', '.join(TEXT_FIELDS)}", forms[1] if forms else "messages")
    form = forms[0]
    if form == "messages":
        check_chat({"model": NAME, "messages": body["messages"]})
        return form
    check_type(form, body[form], str, "a string")
    if "question" in body:
        if form == "prompt":
            raise invalid("a prompt has its question in it: send the rest as text", "question")
        check_type("question", body["question"], str, "a string")
    return form


def _build_section(body: Body, policy: Policy) -> Compress:
    """Return the compression settings: the policy's, overridden by the request's. Raises ApiError.

    Costs and benefits are not weighed (`worth` is `always`): the client has already decided to compress.
    """
    base: dict[str, Any] = {} if policy.compress is None else policy.compress.model_dump()
    base["min_tokens"] = 0
    goals = {name: body[name] for name in GOAL_FIELDS if body.get(name) is not None}
    if "target_ratio" in goals or "target_tokens" in goals:
        base |= {"target_ratio": None, "target_tokens": None}
    try:
        return Compress.model_validate({**base, **goals, "worth": "always"})
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"])) or "target_ratio"
        raise invalid(f"{where}: {detail['msg'].removeprefix('Value error, ')}", where) from error


def to_body(exchange: Exchange, compression: Compression) -> Body:
    """Return the response's body: the compressed content and an account of tokens, time and dollars."""
    content = replace_texts(exchange.body, compression.done.texts)
    content.pop("question", None)
    account = {"why": None, **compression.to_account(), "cost_usd": exchange.cost_usd}
    dropped = [
        {"text": format_path(one.path), "spans": one.spans} for one in compression.done.dropped if one.spans
    ]
    return {
        "object": "smallfirst.compression",
        "id": exchange.id,
        **content,
        "account": account,
        "dropped": dropped,
    }
