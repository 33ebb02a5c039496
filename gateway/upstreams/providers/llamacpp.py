"""Differences of llama.cpp's server from OpenAI's API."""

from collections.abc import Sequence
from typing import Any

from gateway.upstreams.capabilities import Capabilities
from gateway.upstreams.transport.malformed import parsing
from gateway.upstreams.transport.transport import Garbage
from gateway.wire.body_types import Body
from gateway.wire.structured_outputs import drop_fields, parse_constraint, to_response_format
from gateway.wire.vendor_fields import OPENAI, REMOVED_FROM_VLLM, VLLM

from .server_kind import Post, Scorer, ServerKind, TokenizedText, Tokenizer, build_root_health_url

FORCING_BIAS = 1000.0
"""Logit bias that makes the server generate a given token."""
MAX_ALTERNATIVES = 256
"""Maximum size of a grammar. The server tries each token against each alternative, and writes for nobody meanwhile:
3,000 alternatives take it several seconds a token, even after the client has left."""
ALL_ALTERNATIVES = 1_000_000
"""Number of alternatives that exceeds the size of every vocabulary."""


def build_capabilities(model: str, url: str) -> Capabilities:
    """Return the capabilities of a server with only a text model. Images and audio need a projector file, and
    embeddings need `--embeddings`. The server ignores `echo`, so it does not offer scoring."""
    return Capabilities(
        logprobs=True,
        top_logprobs=100,
        scoring=False,
        prediction=False,
        prefill=True,
        tools=True,
        custom_tools=False,
        json_schema=True,
        vision=False,
        audio=False,
        logit_bias=True,
        min_p=True,
        choices=True,
        completions=True,
        embeddings=False,
        grammar=True,
        structured_outputs=False,
    )


def adapt_body(body: Body, continues: bool) -> Body:
    """Replace fields that the server does not support: it rejects `logprobs` in a stream with tools but
    accepts its own `n_probs`, and its completions ignore `response_format` but support `json_schema`."""
    if "prompt" in body and body.get("response_format"):
        body = _move_schema(body, body["response_format"])
    if not (body.get("stream") and body.get("tools") and body.get("logprobs")):
        return body
    adapted = {key: value for key, value in body.items() if key not in ("logprobs", "top_logprobs")}
    return adapted | {"n_probs": max(1, body.get("top_logprobs") or 0)}


def _move_schema(body: Body, form: Any) -> Body:
    """Replace a `response_format` that requests JSON by `json_schema`. Leave any other body unchanged."""
    match form:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return drop_fields(body, "response_format") | {"json_schema": schema}
        case {"type": "json_object"}:
            return drop_fields(body, "response_format") | {"json_schema": {"type": "object"}}
    return body


def adapt_constraint(body: Body) -> Body:
    """Convert `structured_outputs`: choices and grammars to `grammar`, JSON forms to `response_format`."""
    constraint = parse_constraint(body)
    if constraint is None or constraint.form in ("json", "json_object"):
        return to_response_format(body)
    choices = constraint.form == "choice"
    grammar = f"root ::= {' | '.join(map(_to_literal, constraint.value))}" if choices else constraint.value
    return drop_fields(body, "structured_outputs") | {"grammar": grammar}


def _to_literal(text: str) -> str:
    """Return the text as a GBNF terminal."""
    return f'"{"".join(map(_escape, text))}"'


def _escape(letter: str) -> str:
    return f"\\x{ord(letter):02X}" if letter < " " or letter in '"\\' else letter


async def tokenize(post: Post, body: Body) -> Body:
    """Return the tokens in vLLM's shape. The server applies the chat template to messages and adds special
    tokens.

    A token's string is its text, whereas vLLM returns the vocabulary entry.
    """
    text = body["prompt"] if "messages" not in body else (await post("apply-template", body))["prompt"]
    request = {"content": text, "add_special": body.get("add_special_tokens", True), "parse_special": True}
    strings = None
    if body.get("return_token_strs"):
        pieces = (await post("tokenize", request | {"with_pieces": True}))["tokens"]
        strings = [_to_bytes(one["piece"]).decode(errors="replace") for one in pieces]
        tokens = [one["id"] for one in pieces]
    else:  # a long text has a tenth of the bytes without its pieces
        tokens = (await post("tokenize", request))["tokens"]
    return {"count": len(tokens), "max_model_len": None, "tokens": tokens, "token_strs": strings}


def _to_bytes(piece: str | list[int]) -> bytes:
    """Return the bytes of a piece. The server sends an incomplete character as a list of bytes."""
    return piece.encode() if isinstance(piece, str) else bytes(piece)


async def detokenize(post: Post, body: Body) -> Body:
    return {"prompt": (await post("detokenize", {"tokens": body["tokens"]}))["content"]}


TOOL_NAME = "smallfirst_template_probe"
TOOL_QUESTION: Body = {"messages": [{"role": "user", "content": "Hi"}]}
"""A request whose prompt shows what the chat template makes of tools."""


async def shows_tools(post: Post) -> bool:
    """Return whether the prompt that the chat template makes has the request's tools.

    Without them the server constrains nothing and says nothing: the model never learns of the tools. It refuses tools
    if it was started without `--jinja`.
    """
    with parsing("what /apply-template gives"):
        plain = str((await post("apply-template", TOOL_QUESTION))["prompt"])
    function = {
        "name": TOOL_NAME,
        "description": "Greets.",
        "parameters": {"type": "object", "properties": {}},
    }
    try:
        answer = await post(
            "apply-template", TOOL_QUESTION | {"tools": [{"type": "function", "function": function}]}
        )
    except Garbage:
        return False
    with parsing("what /apply-template gives"):
        return answer["prompt"] != plain and TOOL_NAME in answer["prompt"]


async def tokenize_text(post: Post, text: str) -> TokenizedText:
    request = {"content": text, "add_special": True, "parse_special": False, "with_pieces": True}
    answer = await post("tokenize", request)
    with parsing("what /tokenize gives"):
        pieces = answer["tokens"]
        return TokenizedText([one["id"] for one in pieces], [_to_bytes(one["piece"]) for one in pieces])


async def score_by_forcing(post: Post, ids: Sequence[int], after: int) -> Sequence[float]:
    """Return the log-probability of each id from index `after` on by forcing the server to generate it.

    The server returns no log-probabilities of prompt tokens. Those of generated tokens are taken before the
    logit bias applies. The tokens before each id are in the server's cache.
    """
    return [await _score_token(post, ids[:place], ids[place]) for place in range(after, len(ids))]


async def _score_token(post: Post, before: Sequence[int], id_: int) -> float:
    """Return the log-probability of one token.

    The server omits a token that ends within a character. In that case, force another token and read this one
    from the alternatives, which then list the whole vocabulary.
    """
    if probabilities := await _force_token(post, before, id_, 1):
        return _find_logprob(id_, probabilities[:1])
    answer = await post("tokenize", {"content": "a", "add_special": False})
    with parsing("one token"):
        (other,) = answer["tokens"]
    found = await _force_token(post, before, other, ALL_ALTERNATIVES)
    with parsing("alternatives"):
        alternatives = found[0]["top_logprobs"]
    return _find_logprob(id_, alternatives)


async def _force_token(post: Post, before: Sequence[int], id_: int, alternatives: int) -> Sequence[Any]:
    """Force the server to generate a token and return its `completion_probabilities`."""
    request = {
        "prompt": list(before),
        "n_predict": 1,
        "n_probs": alternatives,
        "logit_bias": [[id_, FORCING_BIAS]],
        "cache_prompt": True,
        "temperature": 0.0,
        "samplers": [],
        "response_fields": ["completion_probabilities"],
    }
    answer = await post("completion", request)
    with parsing("probabilities"):
        return list(answer.get("completion_probabilities", ()))


def _find_logprob(id_: int, probabilities: Sequence[Any]) -> float:
    with parsing("its log-probability"):
        return float({one["id"]: one["logprob"] for one in probabilities}[id_])


# The server continues a last assistant message unasked. It closes after a stream despite its keep-alive header.
KIND = ServerKind(
    build_capabilities,
    adapt_body,
    rewritten_fields=frozenset({"response_format"}),
    adapt_constraint=adapt_constraint,
    ignored_fields=VLLM | OPENAI,
    removed_fields=REMOVED_FROM_VLLM,
    max_alternatives=MAX_ALTERNATIVES,
    echoes_prefill=True,
    keep_alive=False,
    tokenizer=Tokenizer(tokenize, detokenize),
    shows_tools=shows_tools,
    scorer=Scorer(tokenize_text, score_by_forcing),
    health_url=build_root_health_url,
    context_path=("meta", "n_ctx"),
)
