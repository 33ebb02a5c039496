"""Request bodies for upstreams."""

from .body_types import Body, Endpoint

TOP_LOGPROBS = 5
"""Alternatives requested per token. Five suffice for entropy and margin, and every server grants them."""


def build_upstream_request(
    body: Body, endpoint: Endpoint, model: str, *, stream: bool, needs_logprobs: bool
) -> Body:
    """Build the body that an upstream receives. A stream always asks for usage, from which cost is
    counted."""
    out = {key: value for key, value in body.items() if key != "smallfirst"}
    out["model"] = model
    if stream:
        out["stream"] = True
        out["stream_options"] = {**(out.get("stream_options") or {}), "include_usage": True}
    if needs_logprobs and endpoint == "chat":
        out["logprobs"] = True
        out["top_logprobs"] = max(TOP_LOGPROBS, out.get("top_logprobs") or 0)
    elif needs_logprobs:
        out["logprobs"] = max(TOP_LOGPROBS, out.get("logprobs") or 0)
    return out


def build_continuation(body: Body, endpoint: Endpoint, prefix: str, delivered_tokens: int) -> Body:
    """Build the request that continues an answer after `prefix`, with `delivered_tokens` deducted from its
    token limit. Trailing whitespace of the prefix is dropped: the client already has it, and models continue
    badly after it."""
    out = dict(body)
    prefix = prefix.rstrip()
    if endpoint == "chat":
        out["messages"] = _append_prefix(body["messages"], prefix)
    else:
        out["prompt"] = f"{body['prompt']}{prefix}"
    for key in ("max_tokens", "max_completion_tokens"):
        if isinstance(out.get(key), int):
            out[key] = max(1, out[key] - delivered_tokens)
    return out


def _append_prefix(messages: list[Body], prefix: str) -> list[Body]:
    """Append `prefix` as an assistant message. If the client has begun the answer itself, extend that
    message, since chat templates reject two in a row."""
    *before, last = messages
    if answer_prefix := find_answer_prefix(messages):
        return [*before, {**last, "content": answer_prefix + prefix}]
    return [*messages, {"role": "assistant", "content": prefix}]


def find_answer_prefix(messages: list[Body]) -> str:
    """Return the assistant text with which the messages end. Empty if they do not begin an answer."""
    last = messages[-1] if messages else {"role": ""}
    if last["role"] != "assistant" or last.get("tool_calls"):
        return ""
    content = last.get("content")
    return content if isinstance(content, str) else ""


def limit_max_tokens(body: Body, endpoint: Endpoint, max_tokens: int) -> Body:
    """Return the request with at most `max_tokens` completion tokens."""
    present_keys = [key for key in ("max_tokens", "max_completion_tokens") if isinstance(body.get(key), int)]
    key = present_keys[0] if present_keys else "max_completion_tokens" if endpoint == "chat" else "max_tokens"
    return (
        {**body, **{name: min(body[name], max_tokens) for name in present_keys}}
        if present_keys
        else {**body, key: max_tokens}
    )


def add_prediction(body: Body, text: str) -> Body:
    """Add the answer's probable text as `prediction`. OpenAI rejects `max_completion_tokens` beside it, so
    the older `max_tokens` replaces it (OpenAI's guide to Predicted Outputs)."""
    out = {**body, "prediction": {"type": "content", "content": text}}
    if "max_completion_tokens" in out:
        out["max_tokens"] = out.pop("max_completion_tokens")
    return out


def count_prompts(body: Body) -> int:
    """Return how many prompts a request has. The completions endpoint takes several, as texts or as token ids."""
    prompt = body.get("prompt")
    return len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1


def estimate_prompt_tokens(raw: bytes) -> int:
    """Estimate prompt tokens for a call that reports no usage: four bytes a token, the usual rule for
    English."""
    return max(1, len(raw) // 4)
