"""OpenAI's response shapes: the tokens, usage and text of chunks, and the assembly of chunks into a response.

Unknown fields pass through unchanged, both ways.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from routers.plan import Answer, Token, TokenLike

from .body_types import Body, Endpoint
from .chunks.tool_calls import ToolCalls


def strip_answer_prefix(completion: Body, prefix: str) -> Body:
    """Remove the begun answer from a chat completion whose server repeats it."""
    for choice in completion["choices"]:
        content = choice["message"].get("content")
        if isinstance(content, str):
            choice["message"]["content"] = content.removeprefix(prefix)
    return completion


def text_of(choice: Body) -> str:
    """The answer text that a chunk's choice adds."""
    delta = choice.get("delta")
    text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
    return text if isinstance(text, str) else ""


def finish_reason_of(choice: Body) -> str | None:
    """Return why a choice has ended; None if it has not. Some servers send "" or "null" for null."""
    reason = choice.get("finish_reason")
    if not reason or reason == "null":
        return None
    return reason if isinstance(reason, str) else str(reason)


class ParsedToken:
    """A token of a fully parsed chunk."""

    __slots__ = ("_top", "logprob", "reasoning", "text")

    def __init__(self, entry: Body, *, reasoning: bool = False) -> None:
        self.text: str = entry["token"]
        self.logprob: float | None = entry.get("logprob")
        self.reasoning = reasoning
        self._top = entry.get("top_logprobs") or ()

    @property
    def top(self) -> Sequence[float]:
        """The alternatives' log-probabilities, highest first; those without one are left out. They are sorted on
        demand, since some servers list the sampled token first, whatever its rank."""
        logprobs = [p for alternative in self._top if (p := alternative.get("logprob")) is not None]
        logprobs.sort(reverse=True)
        return logprobs


def is_well_formed(token: TokenLike) -> bool:
    """Whether the token's text is one and its log-probabilities are numbers: those of a BodyToken are as they came."""
    try:
        numbers = [*token.top, 0.0 if token.logprob is None else token.logprob]
    except (KeyError, TypeError, AttributeError):
        return False
    return isinstance(token.text, str) and all(isinstance(number, int | float) for number in numbers)


def tokens_of(choice: Body, text: str) -> Sequence[TokenLike]:
    """Return the tokens of a chunk's choice, whose `text_of` is `text`. Text without log-probabilities counts
    as one token."""
    reasoning = not text and bool(reasoning_of(choice))
    logprobs = choice.get("logprobs")
    if isinstance(logprobs, dict):
        content = logprobs.get("content")
        if content:
            return [ParsedToken(entry, reasoning=reasoning) for entry in content]
        if logprobs.get("tokens"):
            return _legacy_tokens(logprobs)
    text = text or reasoning_of(choice)
    return [Token(text, None, (), reasoning)] if text else []


def mark_reasoning(tokens: Sequence[TokenLike], marks: Sequence[bool]) -> list[TokenLike]:
    """Return the tokens, with those marked in `marks` as reasoning tokens."""
    return [
        Token(token.text, token.logprob, token.top, reasoning=True) if mark else token
        for token, mark in zip(tokens, marks, strict=True)
    ]


def reasoning_of(choice: Body) -> str:
    """The reasoning text that a chunk's choice adds, for servers that send it separately from the answer."""
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return ""
    text = delta.get("reasoning_content") or delta.get("reasoning")
    return text if isinstance(text, str) else ""


def _legacy_tokens(logprobs: Body) -> list[Token]:
    """Parse the log-probabilities of the completions endpoint: parallel lists, with alternatives as
    mappings."""
    tops = logprobs.get("top_logprobs") or [{}] * len(logprobs["tokens"])
    return [
        Token(token, logprob, sorted((p for p in (top or {}).values() if p is not None), reverse=True))
        for token, logprob, top in zip(logprobs["tokens"], logprobs["token_logprobs"], tops, strict=True)
    ]


def summed(answer: Answer, last: Body) -> Body:
    """The client's usage of an answer in parts: the first writer's prompt, everyone's completion."""
    prompt = answer.parts[0].usage.prompt_tokens
    completion = sum(part.usage.completion_tokens for part in answer.parts)
    return last | {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def trim_logprobs(event: Body, max_alternatives: int | None) -> Body:
    """Remove log-probabilities that the client did not ask for: all if `max_alternatives` is None, else the
    alternatives beyond that number."""
    for choice in event.get("choices") or ():
        if max_alternatives is None:
            choice.pop("logprobs", None)
            continue
        logprobs = choice.get("logprobs") or {}
        for entry in logprobs.get("content") or ():
            entry["top_logprobs"] = (entry.get("top_logprobs") or [])[:max_alternatives]
        if logprobs.get("top_logprobs"):
            logprobs["top_logprobs"] = [
                _most_likely(top, max_alternatives) for top in logprobs["top_logprobs"]
            ]
    return event


def _most_likely(top: dict[str, float] | None, count: int) -> dict[str, float]:
    likely = {token: logprob for token, logprob in (top or {}).items() if logprob is not None}
    return dict(sorted(likely.items(), key=lambda item: -item[1])[:count])


def split_finish(event: Body) -> Body:
    """Move the finish reason of a chunk with text into a separate chunk. The gateway can then decide after
    sending the text whether the answer ends there."""
    choice = event["choices"][0]
    empty: Body = {"delta": {}} if "delta" in choice else {"text": ""}
    finish_fields = {key: choice[key] for key in ("finish_reason", "stop_reason") if key in choice}
    choice.update(dict.fromkeys(finish_fields))
    return {**event, "choices": [{"index": choice.get("index", 0), **finish_fields, **empty}]}


def assemble_response(events: Iterable[Body], endpoint: Endpoint) -> Body:
    """Assemble a stream's chunks into one plain response. Texts are joined, lists are extended, the deltas of a
    tool call are merged. For any other value the last one wins."""
    response: Body = {}
    choices: dict[int, Body] = {}
    calls: defaultdict[int, ToolCalls] = defaultdict(ToolCalls)
    for event in events:
        for key, value in event.items():
            if key != "choices" and value is not None:
                response[key] = value
        for choice in event.get("choices") or ():
            index = choice.get("index", 0)
            _add_choice(choices.setdefault(index, {}), choice, endpoint, calls[index])
    response["object"] = "chat.completion" if endpoint == "chat" else "text_completion"
    response["choices"] = [choices[index] for index in sorted(choices)]
    for choice in response["choices"]:
        if "text" in choice:
            choice["text"] = "".join(choice["text"])
        for key in ("message", "logprobs"):
            if isinstance(choice.get(key), dict):
                _join(choice[key])
        for call in choice.get("message", {}).get("tool_calls") or ():
            del call["index"]  # a stream's way to say which call a delta is of
            _join(call)
    return response


class _Growing(list[str]):
    """The pieces of a text that chunks add to: joined once, at the end."""


def _join(target: Body) -> None:
    for key, value in target.items():
        if isinstance(value, _Growing):
            target[key] = "".join(value)
        elif isinstance(value, dict):
            _join(value)


def _append_text(target: Body, choice: Body) -> bool:
    """Append the text of a chunk that brings nothing else to its choice, as nearly all do. Return False for others."""
    delta = choice.get("delta")
    if not isinstance(delta, dict) or len(delta) != 1:
        return False
    text, message = delta.get("content"), target.get("message")
    pieces = message.get("content") if message else None
    if type(text) is not str or type(pieces) is not _Growing:
        return False
    for key, value in choice.items():
        if key == "delta" or (value is None and key in target):
            continue
        if isinstance(value, dict | list) or key not in target or value != target[key]:
            return False
    pieces.append(text)
    return True


def _add_choice(target: Body, choice: Body, endpoint: Endpoint, calls: ToolCalls) -> None:
    if target and _append_text(target, choice):
        return
    if endpoint == "chat":
        message = target.setdefault("message", {"role": "assistant", "content": None})
        delta = choice.get("delta") or {}
        _merge(message, delta)
        if parts := delta.get("tool_calls"):
            _merge_tool_calls(message.setdefault("tool_calls", []), calls.read(parts))
    for key, value in choice.items():
        if key == "text":
            target.setdefault("text", _Growing()).append(value or "")
        elif key == "logprobs" and isinstance(value, dict):
            target["logprobs"] = target.get("logprobs") or {}
            _merge(target["logprobs"], value)
        elif isinstance(value, list) and key != "delta":
            _extend(target, key, value)
        elif key != "delta" and (value is not None or key not in target):
            target[key] = value


UNSPLIT_KEYS = frozenset({"role", "id", "type"})
"""Keys whose value arrives in one piece. A repeated or empty value from a later chunk is ignored."""


def _merge(target: Body, delta: Body) -> Body:
    for key, value in delta.items():
        current = target.get(key)
        if current and key in UNSPLIT_KEYS:
            continue
        if key == "tool_calls":
            continue
        if isinstance(value, dict):
            target[key] = _merge(current if isinstance(current, dict) else {}, value)
        elif isinstance(value, list):
            _extend(target, key, value)
        elif isinstance(value, str):
            _extend_text(target, key, value)
        elif value is not None:
            target[key] = value
    return target


def _extend(target: Body, key: str, value: list[Any]) -> None:
    """The list is ours: an event's own stays as it is."""
    held = target.get(key)
    if type(held) is list:
        held += value
    else:
        target[key] = [*value]


def _extend_text(target: Body, key: str, value: str) -> None:
    held = target.get(key)
    if not isinstance(held, _Growing):
        held = target[key] = _Growing()
    if value:
        held.append(value)


def _merge_tool_calls(calls: list[Body], deltas: list[Body]) -> None:
    for delta in deltas:
        if delta["index"] == len(calls):
            calls.append({})
        _merge(calls[delta["index"]], delta)
