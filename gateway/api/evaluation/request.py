"""A request to /v1/evaluate -> what is to be judged, and by whom. What it can't read is told by its path."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Tag, TypeAdapter, ValidationError

from gateway.api.request_body import check_chat, expect
from gateway.background.evaluators import NAME, Evaluator, Output, output_of
from gateway.errors import ApiError, invalid
from gateway.exchange.builder import own_field
from gateway.upstreams.transport.garbage import MISSHAPEN
from gateway.upstreams.upstream import Upstream
from gateway.wire.shapes import Body
from routers.judges.evaluators import Agreeing, Rating, Structure, Verification, by_kind
from routers.judges.rubric import Rubric
from routers.plan import Tier
from routers.structure.expected import Expected

MOST_ITEMS = 128
"""Answers of one request."""
MOST_EVALUATORS = 8
KEYS = ("items", "evaluators", "tier", "model", "smallfirst")
OF_ITEM = ("messages", "input", "output", "context")


class StructureAsked(Structure):
    """With what the answer's request asked for, as the chat endpoint has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None

    def expected_of(self, request: Expected) -> Expected:
        return Expected.of(self.model_dump(exclude_none=True, exclude={"kind"}))


AnyAsked: TypeAdapter[Verification | Rating | Agreeing | StructureAsked] = TypeAdapter(
    Annotated[
        Annotated[Verification, Tag("verify")]
        | Annotated[Rating, Tag("rate")]
        | Annotated[Agreeing, Tag("agree")]
        | Annotated[StructureAsked, Tag("structure")],
        by_kind("verify", "rate", "agree", "structure"),
    ]
)


class Item(NamedTuple):
    """An answer to be judged: `messages` are what it answers."""

    messages: list[Body]
    output: Output
    context: str | None


class Asked(NamedTuple):
    """A request that was read."""

    items: Sequence[Item]
    evaluators: Sequence[Evaluator]
    tier: Tier
    model: str
    private: bool
    tags: dict[str, str]
    batch: bool


def read(body: Body, rubrics: Mapping[str, Rubric], upstreams: Mapping[str, Upstream]) -> Asked:
    """Raises ApiError."""
    own = own_field(body)
    batch = "items" in body
    known = KEYS if batch else (*KEYS, *OF_ITEM)
    if unknown := next((key for key in body if key not in known), None):
        raise invalid(f"{unknown} is not known here; expected {', '.join(known)}", unknown)
    model, tier = _judge(body, upstreams)
    evaluators = _evaluators(body.get("evaluators"), tier, rubrics)
    items = [
        _item(one, f"items[{place}].") if batch else _item(body, "")
        for place, one in enumerate(_items(body) if batch else [body])
    ]
    for place, item in enumerate(items):
        _check(item, evaluators, f"items[{place}]." if batch else "")
    return Asked(items, evaluators, tier, model, own.private, own.tags, batch)


def _items(body: Body) -> list[Any]:
    items = body["items"]
    expect("items", items, list, "a list of answers")
    if not 0 < len(items) <= MOST_ITEMS:
        raise invalid(f"items must hold 1 to {MOST_ITEMS} answers, not {len(items)}", "items")
    return list(items)


def _judge(body: Body, upstreams: Mapping[str, Upstream]) -> tuple[str, Tier]:
    """The model that is to judge, if one is named, and its tier."""
    model, tier = body.get("model") or "", body.get("tier")
    if tier not in (None, "slm", "llm"):
        raise invalid(f"tier must be 'slm' or 'llm', not {tier!r}", "tier")
    expect("model", model, str, "the name of an upstream's model")
    if not model:
        return "", tier or "slm"
    serving = [one for one in upstreams.values() if model in one.models and tier in (None, one.tier)]
    if not serving:
        there = ", ".join(sorted({name for one in upstreams.values() for name in one.models}))
        where = f" of tier {tier}" if tier else ""
        what = f"no upstream{where} serves the model {model!r}; there are: {there}"
        raise ApiError(404, "model_not_found", what, param="model")
    return model, serving[0].tier


def _evaluators(given: Any, tier: Tier, rubrics: Mapping[str, Rubric]) -> list[Evaluator]:
    if given is None:
        raise invalid("evaluators is required: a list", "evaluators", "missing_required_parameter")
    expect("evaluators", given, list, "a list")
    if not 0 < len(given) <= MOST_EVALUATORS:
        raise invalid(f"evaluators must hold 1 to {MOST_EVALUATORS}, not {len(given)}", "evaluators")
    return [_evaluator(one, f"evaluators[{place}]", tier, rubrics) for place, one in enumerate(given)]


def _evaluator(given: Any, where: str, tier: Tier, rubrics: Mapping[str, Rubric]) -> Evaluator:
    fields = {"kind": given} if isinstance(given, str) else given
    expect(where, fields, dict, "an evaluator's name, or an object with its kind")
    fields = dict(fields)
    if fields.get("kind") != "structure":
        fields.setdefault("tier", tier)
    rubric = fields.get("rubric")
    if isinstance(rubric, str):
        if rubric not in rubrics:
            what = f"expected a rubric's name ({', '.join(sorted(rubrics))}) or one, found {rubric!r}"
            raise invalid(f"{where}.rubric: {what}", f"{where}.rubric")
        fields["rubric"] = rubrics[rubric]
    try:
        return AnyAsked.validate_python(fields)
    except ValidationError as error:
        detail = error.errors()[0]
        at = [part for part in detail["loc"] if part not in ("verify", "rate", "agree", "structure")]
        path = ".".join([where, *map(str, at)])
        raise invalid(f"{path}: {detail['msg'].removeprefix('Value error, ')}", path) from error


def _item(given: Any, where: str) -> Item:
    expect(where.removesuffix("."), given, dict, "an object")
    if where and (unknown := next((key for key in given if key not in OF_ITEM), None)):
        path = f"{where}{unknown}"
        raise invalid(f"{path} is not known here; expected {', '.join(OF_ITEM)}", path)
    context = given.get("context")
    if context is not None:
        expect(f"{where}context", context, str, "a string")
    return Item(_messages(given, where), _output(given, where), context)


def _messages(given: Body, where: str) -> list[Body]:
    """What was asked: the chat endpoint's messages, or a text as `input`."""
    if ("messages" in given) == ("input" in given):
        raise invalid(f"{where}messages, or {where}input, is required", f"{where}messages")
    if "input" in given:
        expect(f"{where}input", given["input"], str, "a string")
        return [{"role": "user", "content": given["input"]}]
    try:
        check_chat({"model": NAME, "messages": given["messages"]})
    except ApiError as error:
        raise invalid(f"{where}{error.message}", f"{where}{error.param}") from error
    messages: list[Body] = given["messages"]
    return messages


def _output(given: Body, where: str) -> Output:
    """A text, or an assistant's message in the chat endpoint's shape."""
    output = given.get("output")
    if isinstance(output, str):
        return Output(output)
    path = f"{where}output"
    if output is None:
        what = f"{path} is required: a string, or an assistant's message"
        raise invalid(what, path, "missing_required_parameter")
    expect(path, output, dict, "a string, or an assistant's message")
    try:
        return output_of(output)
    except MISSHAPEN as error:
        raise invalid(f"{path} must be a message in the chat endpoint's shape", path) from error


def _check(item: Item, evaluators: Sequence[Evaluator], where: str) -> None:
    """That the item has what the evaluators read."""
    for place, evaluator in enumerate(evaluators):
        if evaluator.kind != "structure" and not item.output.text.strip():
            raise invalid(f"{where}output is empty: {evaluator.kind} needs a text", f"{where}output")
        if evaluator.needs_context and item.context is None:
            what = (
                f"evaluators[{place}] ({evaluator.name}) names {{context}}: expected {where}context, a string"
            )
            raise invalid(what, f"{where}context", "missing_required_parameter")
