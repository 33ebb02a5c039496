"""Builds the record lines of an exchange, field by field as `policies.records.schema` declares them.

A field is read from the attribute of the same name. A field without one needs a source here.
"""

from typing import Any

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from policies.records.schema import (
    AnswerLine,
    CallLine,
    ExchangeLine,
    JudgedLine,
    RequestLine,
    UsageLine,
)
from routers.confidence.answer_words import token_shape
from routers.plan import Answer, Generate, Judged, Scored, Usage
from routers.router import Request

from .account_values import are_finite, keep_logprobs, to_logprob
from .line_builder import compile_builder


def _build_speculation(exchange: Exchange) -> dict[str, float] | None:
    return exchange.speculation() if exchange.answer and exchange.answer.speculation else None


def _build_scored(scored: Scored) -> dict[str, Any]:
    """Build a ScoredLine. It numbers token ids as drafts do, since an id gives its text away."""
    numbers: dict[int, int] = {}
    own = [*(token.greedy for token in scored.tokens), scored.next]
    return {
        "ids": [numbers.setdefault(token.id, len(numbers)) for token in scored.tokens],
        "logprobs": [token.logprob for token in scored.tokens],
        "own": [numbers.setdefault(choice.id, len(numbers)) for choice in own],
        "own_logprobs": [choice.logprob for choice in own],
        "ends": [place for place, choice in enumerate(own) if choice.ends],
    }


_build_usage = compile_builder(UsageLine, Usage)
_build_judged = compile_builder(JudgedLine, Judged)
_build_answer = compile_builder(AnswerLine, Answer)
_build_request = compile_builder(
    RequestLine,
    Request,
    converters={"tiers": sorted, "able": sorted, "features": dict, "verifies": sorted, "configured": sorted},
)
_build_call = compile_builder(
    CallLine,
    Call,
    {
        "because": "ask.because",
        "resumed": lambda call: isinstance(call.ask, Generate) and bool(call.ask.prefix),
        "price": "price.fields",
        "max_tokens": lambda call: call.ask.max_tokens if isinstance(call.ask, Generate) else None,
    },
    converters={
        "ask": lambda ask: type(ask).__name__.lower(),
        "usage": _build_usage,
        "judged": lambda judged: judged and _build_judged(judged),
        "scored": lambda scored: scored and _build_scored(scored),
    },
    absent=("tokens",),
)
build_exchange_line = compile_builder(
    ExchangeLine,
    Exchange,
    {
        "endpoint": "surface",
        "policy": "policy.name",
        "digest": "policy.digest",
        "speculation": _build_speculation,
        "uncalibrated": "is_uncalibrated",
    },
    converters={
        "request": _build_request,
        "calls": lambda calls: [_build_call(call) for call in calls],
        "answer": lambda answer: answer and _build_answer(answer),
        "alone_price": lambda price: price and price.fields,
    },
    constants=("type", "format"),
    absent=("content", "reply"),
)
"""Builds an exchange's line, without its content, its reply and the tokens of its calls."""


def build_tokens_line(call: Call, with_text: bool) -> dict[str, Any]:
    """Build the TokensLine of a call that a watch followed."""
    numbers: dict[str, int] = {}
    logprobs = [token.logprob for token in call.tokens]
    top = [token.top for token in call.tokens]
    if not are_finite(logprobs, top):
        logprobs, top = [to_logprob(value) for value in logprobs], [keep_logprobs(values) for values in top]
    return {
        "ids": [numbers.setdefault(token.text, len(numbers)) for token in call.tokens],
        "shapes": "".join([token_shape(token.text) for token in call.tokens]),
        "logprobs": logprobs,
        "top": top,
        "at": [round(at, 6) for at in call.at],
        "texts": [token.text for token in call.tokens] if with_text else None,
        "reasoning": [place for place, token in enumerate(call.tokens) if token.reasoning],
    }
