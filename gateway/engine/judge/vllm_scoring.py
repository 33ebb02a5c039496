"""Scores texts with vLLM: its tokenizer endpoints, and `prompt_logprobs` of its completions endpoint.

All texts are sent as vLLM's own token ids, made with its chat template and vocabulary.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from gateway.wire.body_types import Body, Endpoint
from routers.plan import GreedyToken, Scored, ScoredToken, Usage

TEMPLATE_FIELDS = ("chat_template_kwargs", "chat_template", "documents", "reasoning_effort")
"""Fields of a request that its prompt's tokens depend on, apart from the messages."""
SCHEDULING_FIELDS = ("priority", "cache_salt")
"""Fields that affect scheduling and caching, but not the answer."""
FIELDS_LEFT_OUT = frozenset(
    {"messages", "prompt", "smallfirst", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs"}
) | set(TEMPLATE_FIELDS)
SPECIAL_TOKEN = re.compile(r"\s*|[<\[|].*[>\]|]")
"""Matches the text of tokens that end an answer, and of few others: empty, or a name in marks such as `<|end|>`."""


class Prompt(NamedTuple):
    """A request in the scorer's token ids. `context` is the scorer's context length in tokens."""

    ids: Sequence[int]
    context: int


def build_tokenize_request(body: Body, endpoint: Endpoint, model: str) -> Body:
    """Return the tokenizer's request for a prompt, or for messages in the chat template."""
    if endpoint == "completions":
        return {"model": model, "prompt": body["prompt"]}
    template = {name: body[name] for name in TEMPLATE_FIELDS if name in body}
    return {"model": model, "messages": body["messages"], "add_generation_prompt": True, **template}


def parse_prompt(answer: Body) -> Prompt:
    """Return the prompt of an answer of /tokenize. Raises one of MISSHAPEN for a malformed answer."""
    return Prompt([int(id_) for id_ in answer["tokens"]], int(answer["max_model_len"]))


def parse_detokenized(answer: Body) -> str:
    """Return the text of an answer of /detokenize. Raises one of MISSHAPEN for a malformed answer."""
    text = answer["prompt"]
    if not isinstance(text, str):
        raise TypeError(f"a text was expected, not {text!r}")
    return text


def build_text_request(text: str, model: str) -> Body:
    """Return the tokenizer's request for a part of an answer, without special tokens."""
    return {"model": model, "prompt": text, "add_special_tokens": False}


def added_text(prefix: str, draft: str) -> str:
    """Return the text that a draft adds to `prefix`.

    The drafting model saw `prefix` without its trailing whitespace, so its draft mostly begins with this whitespace.
    """
    joined = prefix.rstrip() + draft
    return joined.removeprefix(prefix) if joined.startswith(prefix) else draft.lstrip()


def build_score_request(body: Body, ids: Sequence[int], model: str) -> Body:
    """Return the request that scores `ids` and writes one more token, at temperature 0.

    The answer has the log-probability of each token, and the greedy token at its place.
    """
    scheduling: Body = {name: body[name] for name in SCHEDULING_FIELDS if name in body}
    return {
        "model": model,
        "prompt": ids,
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": 1,
        "logprobs": 0,
        "return_token_ids": True,
        **scheduling,
    }


def build_forced_request(ids: Sequence[int], forced: int, model: str) -> Body:
    """Return the request that forces one token. Its finish reason tells whether the token ends an answer."""
    return {"model": model, "prompt": ids, "max_tokens": 1, "allowed_token_ids": [forced]}


def build_continuation(
    body: Body, prompt: Prompt, after: Sequence[int], model: str, limit: int | None
) -> Body:
    """Return the request for a stream that continues token ids, with the sampling fields of `body`.

    `limit` is the maximum number of tokens to write; None if only the body and the context length limit them.
    """
    fields = {name: value for name, value in body.items() if name not in FIELDS_LEFT_OUT}
    requested_limits = [
        body[name] for name in ("max_tokens", "max_completion_tokens") if isinstance(body.get(name), int)
    ]
    limits = [
        prompt.context - len(prompt.ids),
        *requested_limits,
        *([] if limit is None else [limit + len(after)]),
    ]
    return fields | {
        "model": model,
        "prompt": [*prompt.ids, *after],
        "max_tokens": max(1, min(limits) - len(after)),
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": 0,
    }


class ParsedScores(NamedTuple):
    """Parsed scores. `undetermined` holds the greedy tokens that may end the answer: token ids by place in the text."""

    scored: Scored
    undetermined: dict[int, int]


def parse_scores(
    answer: bytes, usage: Usage, before: int, ids: Sequence[int], ending: dict[int, bool]
) -> ParsedScores:
    """Return the scores of the tokens `ids`, which follow `before` other tokens.

    `ending` tells by token id whether a special token ends an answer; an entry is added if the answer shows one.
    Raises one of MISSHAPEN for a malformed answer.
    """
    data = orjson.loads(answer)
    choice = data["choices"][0]
    places: list[dict[str, Any]] = choice["prompt_logprobs"][before:]
    tokens, undetermined = [], {}
    for place, (id_, entry) in enumerate(zip(ids, places, strict=True)):
        greedy_id, best = next((int(key), token) for key, token in entry.items() if token["rank"] == 1)
        if greedy_id not in ending and SPECIAL_TOKEN.fullmatch(best["decoded_token"] or ""):
            undetermined[place] = greedy_id
        greedy = GreedyToken(greedy_id, _to_logprob(best["logprob"]), ending.get(greedy_id, False))
        tokens.append(ScoredToken(id_, _to_logprob(entry[str(id_)]["logprob"]), greedy))
    written = choice["token_ids"][0]
    ends = choice["finish_reason"] == "stop"
    if ends:
        ending[written] = True
    following = GreedyToken(written, _to_logprob(choice["logprobs"]["token_logprobs"][0]), ends)
    return ParsedScores(Scored(tokens, following, usage), undetermined)


def _to_logprob(value: Any) -> float:
    """Return a log-probability. Raises TypeError or ValueError for what is none, which would not be written again."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no log-probability")
    return float(value)


def to_chat_chunk(event: Body) -> Body:
    """Convert a chunk of the completions endpoint to a chat chunk."""
    choices = []
    for choice in event.get("choices") or ():
        fields = {name: value for name, value in choice.items() if name != "text"}
        choices.append({**fields, "delta": {"content": choice["text"]}})
    return {**event, "object": "chat.completion.chunk", "choices": choices}
