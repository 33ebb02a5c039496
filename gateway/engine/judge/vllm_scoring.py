"""How an upstream that scores is asked: vLLM's tokenizer pages, and `prompt_logprobs` on its completions endpoint.

Texts are put to it as its own token ids throughout: the chat template and the vocabulary are its own.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from gateway.wire.body_types import Body, Endpoint
from gateway.wire.responses import usage_of
from routers.plan import GreedyToken, Scored, ScoredToken

TEMPLATE_FIELDS = ("chat_template_kwargs", "chat_template", "documents", "reasoning_effort")
"""Fields of a request that its prompt's tokens depend on."""
SCHEDULING_FIELDS = ("priority", "cache_salt")
"""Fields that say when and beside whom it is answered."""
FIELDS_LEFT_OUT = frozenset(
    {"messages", "prompt", "smallfirst", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs"}
) | set(TEMPLATE_FIELDS)
SPECIAL_TOKEN = re.compile(r"\s*|[<\[|].*[>\]|]")
"""What tokens that end an answer look like, and few others: nothing, or a name within marks."""


class Prompt(NamedTuple):
    """A request as the scorer's token ids; `context` is how many tokens it takes at all."""

    ids: Sequence[int]
    context: int


def build_tokenize_request(body: Body, endpoint: Endpoint, model: str) -> Body:
    """For the tokenizer: the request's prompt, its chat template filled in."""
    if endpoint == "completions":
        return {"model": model, "prompt": body["prompt"]}
    given = {name: body[name] for name in TEMPLATE_FIELDS if name in body}
    return {"model": model, "messages": body["messages"], "add_generation_prompt": True, **given}


def parse_prompt(answer: bytes) -> Prompt:
    """Raises what reading an answer of another shape ends in."""
    data = orjson.loads(answer)
    return Prompt([int(id_) for id_ in data["tokens"]], int(data["max_model_len"]))


def parse_detokenized(answer: bytes) -> str:
    """The text of token ids. Raises as `prompt_of`."""
    text = orjson.loads(answer)["prompt"]
    if not isinstance(text, str):
        raise TypeError(f"a text was expected, not {text!r}")
    return text


def build_text_request(text: str, model: str) -> Body:
    """For the tokenizer: a part of an answer."""
    return {"model": model, "prompt": text, "add_special_tokens": False}


def added_text(prefix: str, draft: str) -> str:
    """What a draft adds to the text it goes on from. It was shown that text without the whitespace at its end, and
    mostly begins with it."""
    joined = prefix.rstrip() + draft
    return joined.removeprefix(prefix) if joined.startswith(prefix) else draft.lstrip()


def build_score_request(body: Body, ids: Sequence[int], model: str) -> Body:
    """Reads `ids`, tells how likely it found each of them and what it would have written instead, and writes one more,
    at temperature 0."""
    given: Body = {name: body[name] for name in SCHEDULING_FIELDS if name in body}
    return {
        "model": model,
        "prompt": ids,
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": 1,
        "logprobs": 0,
        "return_token_ids": True,
        **given,
    }


def build_forced_request(ids: Sequence[int], forced: int, model: str) -> Body:
    """Writes one given token; how that finishes tells whether it is one that ends answers."""
    return {"model": model, "prompt": ids, "max_tokens": 1, "allowed_token_ids": [forced]}


def build_continuation(
    body: Body, prompt: Prompt, after: Sequence[int], model: str, limit: int | None
) -> Body:
    """A stream that goes on from token ids, sampled as the request says."""
    fields = {name: value for name, value in body.items() if name not in FIELDS_LEFT_OUT}
    limits_asked = [
        body[name] for name in ("max_tokens", "max_completion_tokens") if isinstance(body.get(name), int)
    ]
    limits = [
        prompt.context - len(prompt.ids),
        *limits_asked,
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
    """A score as it was answered. `doubtful` are the tokens, of those that the scorer would have written, whose looks
    do not tell whether they end the answer: their places, and one past the text for the next one."""

    scored: Scored
    undetermined: dict[int, int]


def parse_scores(answer: bytes, before: int, ids: Sequence[int], ending: dict[int, bool]) -> ParsedScores:
    """Of a text of `ids` after `before` other tokens; `ending` is what is known of special tokens, and learns. Raises
    what reading an answer of another shape ends in."""
    data = orjson.loads(answer)
    choice = data["choices"][0]
    places: list[dict[str, Any]] = choice["prompt_logprobs"][before:]
    tokens, doubtful = [], {}
    for place, (id_, entry) in enumerate(zip(ids, places, strict=True)):
        own_id, own = next((int(key), found) for key, found in entry.items() if found["rank"] == 1)
        if own_id not in ending and SPECIAL_TOKEN.fullmatch(own["decoded_token"] or ""):
            doubtful[place] = own_id
        best = GreedyToken(own_id, float(own["logprob"]), ending.get(own_id, False))
        tokens.append(ScoredToken(id_, float(entry[str(id_)]["logprob"]), best))
    written = choice["token_ids"][0]
    ends = choice["finish_reason"] == "stop"
    if ends:
        ending[written] = True
    following = GreedyToken(written, float(choice["logprobs"]["token_logprobs"][0]), ends)
    usage = usage_of(data)
    assert usage is not None  # noqa: S101  this kind of server always reports it
    return ParsedScores(Scored(tokens, following, usage), doubtful)


def to_chat_chunk(event: Body) -> Body:
    """A chunk of the completions endpoint as one of chat."""
    choices = []
    for choice in event.get("choices") or ():
        fields = {name: value for name, value in choice.items() if name != "text"}
        choices.append({**fields, "delta": {"content": choice["text"]}})
    return {**event, "object": "chat.completion.chunk", "choices": choices}
