"""Parses a request to /v1/evaluate: the answers and their evaluators. Errors name the path of the bad field."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Tag, TypeAdapter, ValidationError

from gateway.background.evaluators import EVALUATE, Evaluator, Output, parse_output
from gateway.catalog.catalog import Catalog
from gateway.errors import ApiError, invalid
from gateway.exchange.policy_resolution import resolve_policy
from gateway.exchange.smallfirst_field import read_smallfirst_field
from gateway.upstreams.transport.malformed import MISSHAPEN
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from gateway.wire.validation import check_chat, check_type
from policies.loading.yaml_files import explain_problem, list_problems
from policies.schema.ceilings import Ceilings
from routers.judges.evaluators import Agreement, Rating, Structure, Verification, kind_discriminator
from routers.judges.rubric import Rubric
from routers.plan import Tier
from routers.structure.answer_form import AnswerForm

MAX_ITEMS = 128
"""Maximum number of answers in one request."""
MAX_EVALUATORS = 8
MAX_CALLS = 512
"""Maximum upstream calls that one request may need, so that a small body can not cost much."""
KEYS = ("items", "evaluators", "tier", "model", "smallfirst")
ITEM_KEYS = ("messages", "input", "output", "context")


class RequestedStructure(Structure):
    """A structure evaluator with the format and tools that the answer must obey, in the chat endpoint's fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None

    def read_form(self, request: AnswerForm) -> AnswerForm:
        return AnswerForm.from_body(self.model_dump(exclude_none=True, exclude={"kind"}))


AnyEvaluator: TypeAdapter[Verification | Rating | Agreement | RequestedStructure] = TypeAdapter(
    Annotated[
        Annotated[Verification, Tag("verify")]
        | Annotated[Rating, Tag("rate")]
        | Annotated[Agreement, Tag("agree")]
        | Annotated[RequestedStructure, Tag("structure")],
        kind_discriminator("verify", "rate", "agree", "structure"),
    ]
)


class Item(NamedTuple):
    """An answer to be judged. `messages` is the conversation that it answers."""

    messages: list[Body]
    output: Output
    context: str | None


class EvaluationRequest(NamedTuple):
    """A parsed request to /v1/evaluate. `batch` is True if it has `items`. `ceilings` are for all answers together."""

    items: Sequence[Item]
    evaluators: Sequence[Evaluator]
    tier: Tier
    model: str
    private: bool
    tags: dict[str, str]
    batch: bool
    ceilings: Ceilings

    @property
    def calls_per_item(self) -> int:
        return sum(evaluator.calls for evaluator in self.evaluators)


def read_request(
    body: Body, rubrics: Mapping[str, Rubric], catalog: Catalog, upstreams: Mapping[str, Upstream]
) -> EvaluationRequest:
    """Return the parsed request. Raises ApiError."""
    field = read_smallfirst_field(body)
    policy = resolve_policy(body, field, catalog) if field.policy is not None else None
    batch = "items" in body
    known = KEYS if batch else (*KEYS, *ITEM_KEYS)
    if unknown := next((key for key in body if key not in known), None):
        raise invalid(f"{unknown} is not known here; expected {', '.join(known)}", unknown)
    model, tier = _read_judge(body, upstreams)
    evaluators = _read_evaluators(body.get("evaluators"), tier, rubrics)
    items = [
        _read_item(item, f"items[{place}].") if batch else _read_item(body, "")
        for place, item in enumerate(_read_items(body) if batch else [body])
    ]
    for place, item in enumerate(items):
        _check_item(item, evaluators, f"items[{place}]." if batch else "")
    private = field.private or (policy is not None and bool(policy.private))
    ceilings = Ceilings() if policy is None else policy.ceilings
    evaluation = EvaluationRequest(items, evaluators, tier, model, private, field.tags, batch, ceilings)
    _check_calls(evaluation)
    return evaluation


def _check_calls(evaluation: EvaluationRequest) -> None:
    """Raise ApiError if the request needs more calls than one may, or than its policy's ceiling."""
    answers, each = len(evaluation.items), evaluation.calls_per_item
    limit = min(MAX_CALLS, evaluation.ceilings.calls or MAX_CALLS)
    if answers * each > limit:
        what = f"{answers} answers need {answers * each} upstream calls ({each} each), and one request may need {limit}"
        raise invalid(
            f"{what}: send fewer answers or evaluators", "items" if evaluation.batch else "evaluators"
        )


def _read_items(body: Body) -> list[Any]:
    items = body["items"]
    check_type("items", items, list, "a list of answers")
    if not 0 < len(items) <= MAX_ITEMS:
        raise invalid(f"items must hold 1 to {MAX_ITEMS} answers, not {len(items)}", "items")
    return list(items)


def _read_judge(body: Body, upstreams: Mapping[str, Upstream]) -> tuple[str, Tier]:
    """Return the model that judges ("" if the request names none) and its tier. Raises ApiError."""
    model, tier = body.get("model") or "", body.get("tier")
    if tier not in (None, "slm", "llm"):
        raise invalid(f"tier must be 'slm' or 'llm', not {tier!r}", "tier")
    check_type("model", model, str, "the name of an upstream's model")
    if not model:
        return "", tier or "slm"
    serving = [
        upstream
        for upstream in upstreams.values()
        if model in upstream.models and tier in (None, upstream.tier)
    ]
    if not serving:
        known = ", ".join(sorted({name for upstream in upstreams.values() for name in upstream.models}))
        where = f" of tier {tier}" if tier else ""
        what = f"no upstream{where} serves the model {model!r}; there are: {known}"
        raise ApiError(404, "model_not_found", what, param="model")
    return model, serving[0].tier


def _read_evaluators(names: Any, tier: Tier, rubrics: Mapping[str, Rubric]) -> list[Evaluator]:
    if names is None:
        raise invalid("evaluators is required: a list", "evaluators", "missing_required_parameter")
    check_type("evaluators", names, list, "a list")
    if not 0 < len(names) <= MAX_EVALUATORS:
        raise invalid(f"evaluators must hold 1 to {MAX_EVALUATORS}, not {len(names)}", "evaluators")
    return [_read_evaluator(name, f"evaluators[{place}]", tier, rubrics) for place, name in enumerate(names)]


def _read_evaluator(value: Any, where: str, tier: Tier, rubrics: Mapping[str, Rubric]) -> Evaluator:
    fields = {"kind": value} if isinstance(value, str) else value
    check_type(where, fields, dict, "an evaluator's name, or an object with its kind")
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
        return AnyEvaluator.validate_python(fields)
    except ValidationError as error:
        detail = list_problems(error)[0]
        at = [part for part in detail["loc"] if part not in ("verify", "rate", "agree", "structure")]
        path = ".".join([where, *map(str, at)])
        raise invalid(f"{path}: {explain_problem(detail)}", path) from error


def _read_item(value: Any, where: str) -> Item:
    check_type(where.removesuffix("."), value, dict, "an object")
    if where and (unknown := next((key for key in value if key not in ITEM_KEYS), None)):
        path = f"{where}{unknown}"
        raise invalid(f"{path} is not known here; expected {', '.join(ITEM_KEYS)}", path)
    context = value.get("context")
    if context is not None:
        check_type(f"{where}context", context, str, "a string")
    return Item(_read_item_messages(value, where), _read_output(value, where), context)


def _read_item_messages(item: Body, where: str) -> list[Body]:
    """Return the conversation: `messages`, or `input` as one user message. Raises ApiError."""
    if ("messages" in item) == ("input" in item):
        raise invalid(f"{where}messages, or {where}input, is required", f"{where}messages")
    if "input" in item:
        check_type(f"{where}input", item["input"], str, "a string")
        return [{"role": "user", "content": item["input"]}]
    try:
        check_chat({"model": EVALUATE, "messages": item["messages"]})
    except ApiError as error:
        raise invalid(f"{where}{error.message}", f"{where}{error.param}") from error
    messages: list[Body] = item["messages"]
    return messages


def _read_output(item: Body, where: str) -> Output:
    """Return the answer: a text, or an assistant message of the chat endpoint. Raises ApiError."""
    output = item.get("output")
    if isinstance(output, str):
        return Output(output)
    path = f"{where}output"
    if output is None:
        what = f"{path} is required: a string, or an assistant's message"
        raise invalid(what, path, "missing_required_parameter")
    check_type(path, output, dict, "a string, or an assistant's message")
    try:
        return parse_output(output)
    except MISSHAPEN as error:
        raise invalid(f"{path} must be a message in the chat endpoint's shape", path) from error


def _check_item(item: Item, evaluators: Sequence[Evaluator], where: str) -> None:
    """Raise ApiError if the item lacks a text or a context that an evaluator needs."""
    for place, evaluator in enumerate(evaluators):
        if evaluator.kind != "structure" and not item.output.text.strip():
            raise invalid(f"{where}output is empty: {evaluator.kind} needs a text", f"{where}output")
        if evaluator.needs_context and item.context is None:
            what = (
                f"evaluators[{place}] ({evaluator.name}) names {{context}}: expected {where}context, a string"
            )
            raise invalid(what, f"{where}context", "missing_required_parameter")
