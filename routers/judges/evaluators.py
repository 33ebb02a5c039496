"""What may judge an answer, as a policy or a request names it: each judges through a fragment of `judge`."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field

from routers.plan import Capability, Compare, Fragment, Tier
from routers.strict import Finite
from routers.structure.expected import Expected

from .judgements import Judgement, agree, rate, verify
from .rubric import Rubric


class Verification(Finite):
    """P(True): whether the answer is correct, asked with the labels in either order."""

    kind: Literal["verify"] = "verify"
    """Names the judgement."""
    tier: Tier = "slm"
    """Who judges."""

    @property
    def name(self) -> str:
        """As metrics and results name it."""
        return self.kind

    @property
    def calls(self) -> int:
        """Upstream calls that it takes."""
        return 2

    @property
    def needs(self) -> tuple[Capability, ...]:
        """What it asks of its tier."""
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
    """Who judges."""
    rubric: Rubric
    """What is rated: the name of a built-in rubric, or of one in `rubrics/` beside the policy's file."""

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


class Agreeing(Finite):
    """How far new samples of the same request agree with the answer."""

    kind: Literal["agree"] = "agree"
    """Names the judgement."""
    tier: Tier = "slm"
    """Who samples, and judges entailment."""
    samples: Annotated[int, Field(ge=1, le=16)] = 4
    """How many are written, in one call."""
    compare: Compare = "text"
    """By the F1 of their words; by the last `number` in each; or by `entailment`, one more call a sample, in which the
    same tier judges whether the sample supports the answer."""

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.compare}"

    @property
    def calls(self) -> int:
        return 1 + (self.samples if self.compare == "entailment" else 0)

    @property
    def needs(self) -> tuple[Capability, ...]:
        sampling: tuple[Capability, ...] = ("choices",) if self.samples > 1 else ()
        return ("logprobs", *sampling) if self.compare == "entailment" else sampling

    @property
    def needs_context(self) -> bool:
        return False

    def judge(self, answer: str, model: str = "", context: str = "") -> Fragment[Judgement]:
        return agree(answer, self.samples, self.compare, self.tier, model)


class Structure(Finite):
    """Whether the answer has the form that its request asked for: no model is asked."""

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

    def expected_of(self, request: Expected) -> Expected:
        """The form that is checked, of an answer whose request asked for this one."""
        return request


def kind_of(value: Any) -> str | None:
    """For unions of these: `verify` where nothing else is said."""
    return value.get("kind", "verify") if isinstance(value, dict) else getattr(value, "kind", None)


def by_kind(*kinds: str) -> Discriminator:
    """Tells the members of a union of these apart, and names the kinds to whoever gives another."""
    return Discriminator(
        kind_of,
        custom_error_type="kind",
        custom_error_message=f"expected one of the kinds {', '.join(kinds)}",
    )


def spelled_out(value: Any) -> Any:
    """A kind's name alone stands for it with its defaults."""
    return {"kind": value} if isinstance(value, str) else value
