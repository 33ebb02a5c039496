"""OpenAI's shapes: what goes out to an upstream, and what its chunks hold.

Everything is kept as received: a field we do not know passes through, both ways.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import orjson

from routers.plan import Answer, Token, TokenLike, Usage

Endpoint = Literal["chat", "completions", "embeddings"]
Body = dict[str, Any]
Event = Body | bytes
"""A chunk on its way to the client: as it was read, or the payload of a plain one (see `chunks`)."""


def read_event(event: Event) -> Body:
    if isinstance(event, dict):
        return event
    body: Body = orjson.loads(event)
    return body


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


def without_beginning(whole: Body, begun: str) -> Body:
    """A chat completion without the begun answer that its server has repeated."""
    for choice in whole["choices"]:
        content = choice["message"].get("content")
        if isinstance(content, str):
            choice["message"]["content"] = content.removeprefix(begun)
    return whole


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


def text_of(choice: Body) -> str:
    """What a chunk's choice adds to the answer's text."""
    delta = choice.get("delta")
    text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
    return text if isinstance(text, str) else ""


class BodyToken:
    """A token of a chunk that was read whole: its alternatives are sorted only if somebody asks."""

    __slots__ = ("_top", "logprob", "reasoning", "text")

    def __init__(self, entry: Body, *, reasoning: bool = False) -> None:
        self.text: str = entry["token"]
        self.logprob: float | None = entry["logprob"]
        self.reasoning = reasoning
        self._top = entry.get("top_logprobs") or ()

    @property
    def top(self) -> Sequence[float]:
        """Sorted here: some servers list the sampled token first, whatever its rank."""
        found = [alternative["logprob"] for alternative in self._top]
        found.sort(reverse=True)
        return found


def is_well_formed(token: TokenLike) -> bool:
    """Whether the token's text is one and its log-probabilities are numbers: those of a BodyToken are as they came."""
    try:
        numbers = [*token.top, 0.0 if token.logprob is None else token.logprob]
    except (KeyError, TypeError, AttributeError):
        return False
    return isinstance(token.text, str) and all(isinstance(number, int | float) for number in numbers)


def tokens_of(choice: Body, text: str) -> Sequence[TokenLike]:
    """The tokens in a chunk's choice, whose `text_of` is `text`. Text without log-probabilities counts as one
    token without any."""
    reasoning = not text and bool(reasoning_of(choice))
    logprobs = choice.get("logprobs")
    if isinstance(logprobs, dict):
        content = logprobs.get("content")
        if content:
            return [BodyToken(entry, reasoning=reasoning) for entry in content]
        if logprobs.get("tokens"):
            return _legacy_tokens(logprobs)
    text = text or reasoning_of(choice)
    return [Token(text, None, (), reasoning)] if text else []


def marked(tokens: Sequence[TokenLike], marks: Sequence[bool]) -> list[TokenLike]:
    """The tokens, those that are marked as reasoning."""
    return [
        Token(token.text, token.logprob, token.top, reasoning=True) if mark else token
        for token, mark in zip(tokens, marks, strict=True)
    ]


def reasoning_of(choice: Body) -> str:
    """What a chunk's choice adds to the model's reasoning, as several servers send it apart from the answer."""
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return ""
    text = delta.get("reasoning_content") or delta.get("reasoning")
    return text if isinstance(text, str) else ""


def _legacy_tokens(logprobs: Body) -> list[Token]:
    """The completions endpoint's older form: parallel lists, alternatives as a mapping."""
    tops = logprobs.get("top_logprobs") or [{}] * len(logprobs["tokens"])
    return [
        Token(token, logprob, sorted((top or {}).values(), reverse=True))
        for token, logprob, top in zip(logprobs["tokens"], logprobs["token_logprobs"], tops, strict=True)
    ]


def usage_of(data: Body) -> Usage | None:
    """The usage a response reports, None where it reports none."""
    usage = data.get("usage")
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details") or {}
    found = Usage(
        prompt_tokens=usage.get("prompt_tokens") or 0,
        completion_tokens=usage.get("completion_tokens") or 0,
        cached_tokens=details.get("cached_tokens") or 0,
    )
    written = usage.get("completion_tokens_details")
    if not isinstance(written, dict):
        return found
    return found._replace(
        accepted=written.get("accepted_prediction_tokens") or 0,
        rejected=written.get("rejected_prediction_tokens") or 0,
    )


def summed(answer: Answer, last: Body) -> Body:
    """The client's usage of an answer in parts: the first writer's prompt, everyone's completion."""
    prompt = answer.parts[0].usage.prompt_tokens
    completion = sum(part.usage.completion_tokens for part in answer.parts)
    return last | {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def estimated_prompt_tokens(raw: bytes) -> int:
    """For calls that report no usage: four bytes a token, the usual rule of thumb for English."""
    return max(1, len(raw) // 4)


def trim_logprobs(event: Body, wanted: int | None) -> Body:
    """Takes out the log-probabilities that were asked for on our own account: all (`wanted` None), or the
    alternatives beyond `wanted`."""
    for choice in event.get("choices") or ():
        if wanted is None:
            choice.pop("logprobs", None)
            continue
        logprobs = choice.get("logprobs") or {}
        for entry in logprobs.get("content") or ():
            entry["top_logprobs"] = (entry.get("top_logprobs") or [])[:wanted]
        if logprobs.get("top_logprobs"):
            logprobs["top_logprobs"] = [_likeliest(top, wanted) for top in logprobs["top_logprobs"]]
    return event


def _likeliest(top: dict[str, float] | None, count: int) -> dict[str, float]:
    return dict(sorted((top or {}).items(), key=lambda item: -item[1])[:count])


def finish_apart(event: Body) -> Body:
    """Takes the finish out of a chunk that brings text as well, into a chunk of its own: whether the answer ends
    there may be decided after its text has left."""
    choice = event["choices"][0]
    empty: Body = {"delta": {}} if "delta" in choice else {"text": ""}
    told = {key: choice[key] for key in ("finish_reason", "stop_reason") if key in choice}
    choice.update(dict.fromkeys(told))
    return {**event, "choices": [{"index": choice.get("index", 0), **told, **empty}]}


def assembled(events: Iterable[Body], endpoint: Endpoint) -> Body:
    """A stream's chunks as the plain response they add up to. Texts are joined, lists extended, tool calls put
    together by their index; of other values the last one stands."""
    whole: Body = {}
    choices: dict[int, Body] = {}
    for event in events:
        for key, value in event.items():
            if key != "choices" and value is not None:
                whole[key] = value
        for choice in event.get("choices") or ():
            _add_choice(choices.setdefault(choice.get("index", 0), {}), choice, endpoint)
    whole["object"] = "chat.completion" if endpoint == "chat" else "text_completion"
    whole["choices"] = [choices[index] for index in sorted(choices)]
    for choice in whole["choices"]:
        if "text" in choice:
            choice["text"] = "".join(choice["text"])
        for key in ("message", "logprobs"):
            if isinstance(choice.get(key), dict):
                _join(choice[key])
        for call in choice.get("message", {}).get("tool_calls") or ():
            del call["index"]  # a stream's way to say which call a delta is of
            _join(call)
    return whole


class _Growing(list[str]):
    """The pieces of a text that chunks add to: joined once, at the end."""


def _join(whole: Body) -> None:
    for key, value in whole.items():
        if isinstance(value, _Growing):
            whole[key] = "".join(value)
        elif isinstance(value, dict):
            _join(value)


def _add_choice(whole: Body, choice: Body, endpoint: Endpoint) -> None:
    if endpoint == "chat":
        message = whole.setdefault("message", {"role": "assistant", "content": None})
        _merge(message, choice.get("delta") or {})
    for key, value in choice.items():
        if key == "text":
            whole.setdefault("text", _Growing()).append(value or "")
        elif key == "logprobs" and isinstance(value, dict):
            whole["logprobs"] = whole.get("logprobs") or {}
            _merge(whole["logprobs"], value)
        elif isinstance(value, list) and key != "delta":
            _extend(whole, key, value)
        elif key != "delta" and (value is not None or key not in whole):
            whole[key] = value


SAID_ONCE = frozenset({"role", "id", "type", "name"})
"""What comes in one piece: a server that repeats it, or goes on with an empty one, adds nothing to it."""


def _merge(whole: Body, part: Body) -> Body:
    for key, value in part.items():
        held = whole.get(key)
        if held and key in SAID_ONCE:
            continue
        if key == "tool_calls" and isinstance(value, list):
            whole[key] = _with_calls(held or [], value)
        elif isinstance(value, dict):
            whole[key] = _merge(held if isinstance(held, dict) else {}, value)
        elif isinstance(value, list):
            _extend(whole, key, value)
        elif isinstance(value, str):
            _extend_text(whole, key, value)
        elif value is not None:
            whole[key] = value
    return whole


def _extend(whole: Body, key: str, value: list[Any]) -> None:
    """The list is ours: an event's own stays as it is."""
    held = whole.get(key)
    if type(held) is list:
        held += value
    else:
        whole[key] = [*value]


def _extend_text(whole: Body, key: str, value: str) -> None:
    held = whole.get(key)
    if not isinstance(held, _Growing):
        held = whole[key] = _Growing()
    if value:
        held.append(value)


def _with_calls(calls: list[Body], deltas: list[Body]) -> list[Body]:
    for place, delta in enumerate(deltas):
        index = call_index(delta, place)
        call = next((call for call in calls if call["index"] == index), None)
        if call is None:
            call = {"index": index}
            calls.append(call)
        _merge(call, delta)
    return calls


def call_index(delta: Body, place: int) -> int:
    """Which of the message's tool calls a delta is of. A server that names no index sends all calls in one
    delta, each whole: its place there says it."""
    index = delta.get("index")
    return index if isinstance(index, int) else place
