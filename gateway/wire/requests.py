"""A request as an upstream gets it."""

from .shapes import Body, Endpoint

TOP = 5
"""Alternatives asked for: enough for entropy and margin, and what every server grants."""


def outgoing(body: Body, endpoint: Endpoint, model: str, *, stream: bool, watched: bool) -> Body:
    """The request as an upstream gets it. A stream's usage is always asked for: cost is counted from it."""
    out = {key: value for key, value in body.items() if key != "smallfirst"}
    out["model"] = model
    if stream:
        out["stream"] = True
        out["stream_options"] = {**(out.get("stream_options") or {}), "include_usage": True}
    if watched and endpoint == "chat":
        out["logprobs"] = True
        out["top_logprobs"] = max(TOP, out.get("top_logprobs") or 0)
    elif watched:
        out["logprobs"] = max(TOP, out.get("logprobs") or 0)
    return out


def continued(body: Body, endpoint: Endpoint, prefix: str, delivered: int) -> Body:
    """The request that goes on from `prefix`, `delivered` tokens of whose allowance are spent. Whitespace at the
    seam is the client's already: models go on badly from it."""
    out = dict(body)
    prefix = prefix.rstrip()
    if endpoint == "chat":
        out["messages"] = _going_on(body["messages"], prefix)
    else:
        out["prompt"] = f"{body['prompt']}{prefix}"
    for key in ("max_tokens", "max_completion_tokens"):
        if isinstance(out.get(key), int):
            out[key] = max(1, out[key] - delivered)
    return out


def _going_on(messages: list[Body], prefix: str) -> list[Body]:
    """A client may have begun the answer itself: it stays one message, as templates take no two."""
    *before, last = messages
    if begun := begun_in(messages):
        return [*before, {**last, "content": begun + prefix}]
    return [*messages, {"role": "assistant", "content": prefix}]


def begun_in(messages: list[Body]) -> str:
    """The text of the answer that a request's messages begin; empty where they begin none."""
    last = messages[-1] if messages else {"role": ""}
    if last["role"] != "assistant" or last.get("tool_calls"):
        return ""
    content = last.get("content")
    return content if isinstance(content, str) else ""


def limited(body: Body, endpoint: Endpoint, most: int) -> Body:
    """The request with at most `most` tokens to write."""
    given = [key for key in ("max_tokens", "max_completion_tokens") if isinstance(body.get(key), int)]
    key = given[0] if given else "max_completion_tokens" if endpoint == "chat" else "max_tokens"
    return {**body, **{name: min(body[name], most) for name in given}} if given else {**body, key: most}


def predicting(body: Body, text: str) -> Body:
    """The request with its answer's probable text. `max_completion_tokens` is refused beside it, its older name is
    not (OpenAI's guide to Predicted Outputs)."""
    out = {**body, "prediction": {"type": "content", "content": text}}
    if "max_completion_tokens" in out:
        out["max_tokens"] = out.pop("max_completion_tokens")
    return out


def estimated_prompt_tokens(raw: bytes) -> int:
    """For calls that report no usage: four bytes a token, the usual rule of thumb for English."""
    return max(1, len(raw) // 4)
