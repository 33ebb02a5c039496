"""Runs evaluators on an answer and formats their results for the API and for records."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.engine.judge.prompt import shorten
from gateway.exchange.call import Call
from gateway.exchange.error_mapping import to_api_error
from gateway.exchange.exchange import Exchange
from gateway.wire.body_types import Body
from routers.judges.evaluators import Agreement, Rating, Structure, Verification
from routers.plan import Fragment, ToolCall, Unavailable
from routers.structure.flaws import find_flaw

Evaluator = Verification | Rating | Agreement | Structure
Result = dict[str, Any]

EVALUATE = "evaluate"
"""The key of evaluations in records."""


class Output(NamedTuple):
    """The judged output: an answer's text and its tool calls."""

    text: str
    calls: Sequence[ToolCall] = ()
    finish: str | None = None
    refusal: str | None = None


def parse_output(message: Mapping[str, Any], finish: str | None = None) -> Output:
    """Parse an assistant message in the chat endpoint's shape. Raises KeyError, TypeError or AttributeError
    for another shape."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    calls = [_parse_tool_call(call) for call in message.get("tool_calls") or ()]
    return Output(content or "", calls, finish, message.get("refusal"))


def _parse_tool_call(call: Mapping[str, Any]) -> ToolCall:
    if custom := call.get("custom"):
        return ToolCall(custom["name"], custom["input"])
    return ToolCall(call["function"]["name"], call["function"]["arguments"])


def evaluate_output(
    exchange: Exchange,
    evaluators: Iterable[Evaluator],
    output: Output,
    *,
    model: str = "",
    context: str | None = None,
) -> Fragment[list[Result]]:
    """Return one result per evaluator, in order. If an evaluator's model is unavailable, its result holds the
    error. The results are also stored in the exchange's account."""
    results: list[Result] = []
    for evaluator in evaluators:
        if isinstance(evaluator, Structure):
            results.append(_check_structure(evaluator, exchange, output))
            continue
        text = output.text if isinstance(evaluator, Agreement) else shorten(output.text)
        try:
            judgement = yield from evaluator.judge(text, model, context or "")
        except Unavailable as failure:
            error = to_api_error(failure, [])
            results.append({"evaluator": evaluator.name, "status": error.status, **error.body()})
        else:
            judge = _judge_fields(exchange.calls[-1])
            results.append({"evaluator": evaluator.name, **judgement._asdict(), **judge})
    exchange.skills[EVALUATE] = {"of": exchange.shadow_of, "results": results}
    return results


def _check_structure(evaluator: Structure, exchange: Exchange, output: Output) -> Result:
    expected = evaluator.read_form(exchange.expected)
    problem = find_flaw(output.text, output.calls, output.finish, expected, output.refusal)
    p = float(problem is None)
    return {"evaluator": evaluator.name, "score": p, "p": p, "flaw": problem}


def _judge_fields(call: Call) -> Result:
    return {"tier": call.tier, "upstream": call.upstream, "model": call.model}


def sum_usage(exchanges: Iterable[Exchange]) -> Body:
    """Return the summed usage of evaluations, in OpenAI's shape."""
    calls = [call for exchange in exchanges for call in exchange.calls]
    prompt = sum(call.usage.prompt_tokens for call in calls)
    completion = sum(call.usage.completion_tokens for call in calls)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def read_scores(results: Iterable[Result]) -> Iterator[tuple[str, float]]:
    """Yield the name and score, in [0, 1], of each evaluator that returned a score."""
    for result in results:
        if "p" in result:
            yield result["evaluator"], result["p"]
