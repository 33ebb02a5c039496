"""The evaluators that policies and requests name: P(True), a rubric, agreement of samples, and structure."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field

from routers.config_models import Finite
from routers.plan import Capability, Comparison, Fragment, Tier
from routers.structure.answer_form import AnswerForm

from .judgements import Judgement, agree, rate, verify
from .rubric import Rubric


class Verification(Finite):
    """P(True): whether the answer is correct, asked with the labels in both orders."""

    kind: Literal["verify"] = "verify"
    """Names the judgement."""
    tier: Tier = "slm"
    """The tier that judges."""

    @property
    def name(self) -> str:
        """The evaluator's name in metrics and results."""
        return self.kind

    @property
    def calls(self) -> int:
        """Number of upstream calls of one judgement."""
        return 2

    @property
    def needs(self) -> tuple[Capability, ...]:
        """The capabilities that the judgement needs of its tier."""
        return ("logprobs",)

    @property
    def needs_context(self) -> bool:
        return False

    def judge(self, answer: str, model: str = "", context: str = "") -> Fragment[Judgement]:
        return verify(answer, self.tier, model)


class Rating(Finite):
    """A rubric's score: the mean over its scale, weighted by the probability of each score."""

    kind: Literal["rate"] = "rate"
    """Names the judgement."""
    tier: Tier = "slm"
    """The tier that judges."""
    rubric: Rubric
    """The name of a built-in rubric, or of one in `rubrics/` beside the policy's file."""

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.rubric.name}"

    @property
    def calls(self) -> int:
        return 1

    @property
    def needs(self) -> tuple[Capability, ...]:
        return ("logprobs",)

    @property
    def needs_context(self) -> bool:
        return self.rubric.needs_context

    def judge(self, answer: str, model: str = "", context: str = "") -> Fragment[Judgement]:
        return rate(answer, self.rubric, self.tier, model, context)


class Agreement(Finite):
    """How far new samples of the same request agree with the answer."""

    kind: Literal["agree"] = "agree"
    """Names the judgement."""
    tier: Tier = "slm"
    """The tier that writes the samples and judges entailment."""
    samples: Annotated[int, Field(ge=1, le=16)] = 4
    """Number of samples, all written in one call."""
    compare: Comparison = "text"
    """`text`: the F1 score of their words; `number`: equality of the last number in each; `entailment`:
    whether the sample supports the answer, judged by the same tier in one more call per sample."""

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.compare}"

    @property
    def calls(self) -> int:
        return 1 + (self.samples if self.compare == "entailment" else 0)

    @property
    def needs(self) -> tuple[Capability, ...]:
        sampling_needs: tuple[Capability, ...] = ("choices",) if self.samples > 1 else ()
        return ("logprobs", *sampling_needs) if self.compare == "entailment" else sampling_needs

    @property
    def needs_context(self) -> bool:
        return False

    def judge(self, answer: str, model: str = "", context: str = "") -> Fragment[Judgement]:
        return agree(answer, self.samples, self.compare, self.tier, model)


class Structure(Finite):
    """Whether the answer has the form that its request demanded. No model is asked."""

    kind: Literal["structure"] = "structure"
    """Names the judgement."""

    @property
    def name(self) -> str:
        return self.kind

    @property
    def calls(self) -> int:
        return 0

    @property
    def needs_context(self) -> bool:
        return False

    def read_form(self, request: AnswerForm) -> AnswerForm:
        """Return the form to check, given the form that the answer's request demanded."""
        return request


def read_kind(value: Any) -> str | None:
    """Return an evaluator's kind, for discriminated unions. The default is `verify`."""
    return value.get("kind", "verify") if isinstance(value, dict) else getattr(value, "kind", None)


def kind_discriminator(*kinds: str) -> Discriminator:
    """Return the discriminator of a union of evaluators. Its error message names the expected kinds."""
    return Discriminator(
        read_kind,
        custom_error_type="kind",
        custom_error_message=f"expected one of the kinds {', '.join(kinds)}",
    )


def expand_kind(value: Any) -> Any:
    """Expand a kind's name alone to a mapping with its defaults. Other values are returned as they are."""
    return {"kind": value} if isinstance(value, str) else value
