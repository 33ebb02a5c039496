"""The error codes that the gateway's source can raise -> a table. What to do about each is said here; a code
without words, or words without a code, is an error."""

import ast
from collections import defaultdict
from collections.abc import Iterator

from gateway.exchange.error_mapping import STATUS_AND_CODE
from tools.docs.markdown import ROOT
from tools.docs.table import code, table

WORDS = {
    "invalid_json": "The body is not a JSON object.",
    "invalid_value": "A field has a wrong type or value; `param` names it.",
    "removed_field": "vLLM has removed this field and would ignore it; the message says what to send instead.",
    "missing_required_parameter": "A required field is absent; `param` names it.",
    "body_too_large": "The body is over `listen.body_limit`.",
    "unsupported_media_type": "The body is not sent as `application/json`, or its coding is neither gzip nor deflate.",
    "origin_not_allowed": "A web page sent the request, and its origin is not in `listen.origins`.",
    "host_not_allowed": "The gateway listens on loopback, and the request's `Host` is another machine's name.",
    "invalid_http": "The request is not HTTP/1.1; the connection is closed.",
    "head_too_large": "The request's line and headers are over 64 KiB; the connection is closed.",
    "request_timeout": "The request did not arrive in time: `listen.head_timeout`, `listen.body_timeout`.",
    "model_not_found": "`model` names no policy, and no model that is exposed; the message lists what there is.",
    "policy_unavailable": "The configured upstreams cannot serve this policy; the message says why.",
    "override_not_allowed": "The policy does not let a request override this field; the message says which it does.",
    "not_supported": "What is needed no upstream offers, or it is stored state or a hosted tool; the message names it.",
    "method_not_allowed": "The endpoint takes POST; nothing here takes CONNECT.",
    "not_found": "No such path (404).",
    "http_error": "Another HTTP error, such as a wrong method; the status says which.",
    "exchange_not_found": "The id is not among the latest exchanges that this process keeps.",
    "response_not_found": "The response is not [kept](#what-is-kept-of-responses), or no longer.",
    "previous_response_not_found": "The same of `previous_response_id`: send the whole conversation as `input`.",
    "item_not_found": "The same of an item that the input refers to: send the item itself.",
    "no_upstream": "No upstream of the tier is configured.",
    "upstream_unavailable": "No connection, a breaker that is open, or an engine that is not running.",
    "overloaded": "The gateway's queue for this upstream is full: `limits.in_flight` and `limits.queued`.",
    "upstream_overloaded": "The upstream answered 502, 503 or 529.",
    "rate_limit_exceeded": "The upstream answered 429.",
    "insufficient_quota": "The credit of the account at the upstream is used up. To repeat the request does not help.",
    "upstream_timeout": "A time limit passed, or the upstream answered 408 or 504.",
    "upstream_refused": "The upstream refused the gateway, not the request: its key, URL or model is wrong.",
    "context_length_exceeded": "The prompt is too long for the models that were asked.",
    "upstream_garbage": "The upstream's response is no OpenAI response, or an error in it has no known kind.",
    "upstream_lost": "The connection broke off before the answer ended.",
    "upstream_error": "The upstream answered 500 or another 5xx.",
    "ceiling_reached": "The calls, tokens, dollars or seconds that the policy allows one exchange were spent.",
    "private": "The request may not leave for a cloud, and no model at home could answer it.",
    "private_data": "The policy blocks requests with private data; the message says of what kind, and where.",
    "guarded": "The policy's guard flagged the request or the answer, and nobody else could answer instead.",
    "leak": "The answer reproduced the system prompt, and no other model's answer did better.",
    "shutting_down": "The gateway was told to stop, and the time of requests under way is over: send it again.",
    "internal_error": "A defect of the gateway; its log has the traceback.",
}


def errors_table() -> str:
    found = codes()
    if found.keys() != WORDS.keys():
        raise ValueError(
            f"{__file__}: codes without words, or words without a code: {found.keys() ^ WORDS.keys()}"
        )
    rows = [[code(name), _statuses(found[name]), words] for name, words in WORDS.items()]
    return table(["code", "status", "when"], rows)


def _statuses(found: set[int]) -> str:
    return " or ".join(map(str, sorted(found))) or "its own"


def codes() -> dict[str, set[int]]:
    """Every code that stands in the gateway's source, and its statuses where they stand there too."""
    found: dict[str, set[int]] = defaultdict(set)
    for status, name in STATUS_AND_CODE.values():
        found[name].add(status)
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                for name, raised in _raised(call.func.id, call):
                    found[name] |= {raised} if raised else set()
    return dict(found)


def _raised(function: str, call: ast.Call) -> Iterator[tuple[str, int | None]]:
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if function == "ApiError" and len(call.args) > 1:
        yield from _named(call.args[1], call.args[0])
    elif function == "invalid":
        given = call.args[2] if len(call.args) > 2 else keywords.get("code", ast.Constant("invalid_value"))
        yield from _named(given, ast.Constant(400))


def _named(given: ast.expr, status: ast.expr) -> Iterator[tuple[str, int | None]]:
    if isinstance(given, ast.IfExp):
        yield from _named(given.body, status)
        yield from _named(given.orelse, status)
    elif isinstance(given, ast.Constant) and isinstance(given.value, str):
        yield (
            given.value,
            status.value if isinstance(status, ast.Constant) and isinstance(status.value, int) else None,
        )
