"""Difficulty: route before any generation, by a score of the prompt.

Deferral rule: ask the large model if P(the small model's answer is good enough | prompt) < easy_from, or if a
feature of the prompt exceeds its limit. Ding et al., "Hybrid LLM" (arXiv 2404.14618) and Ong et al.,
"RouteLLM" (arXiv 2406.18665) route by a learned score of the prompt alone.
"""

import re
from collections.abc import Mapping
from math import exp, log1p
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from routers.confidence.calibration import Logistic, LogprobSource, TrainingSet
from routers.config_models import Finite
from routers.fragments.fallback import answer_with, ask_capable_tier, ask_llm, ask_slm, fallback_reason, write
from routers.plan import Generate, Plan, Reason, Unavailable
from routers.router import Request, Router

FeatureName = Literal[
    "log_length",
    "log_context",
    "turns",
    "lines",
    "numbers",
    "digit_share",
    "code",
    "questions",
    "non_ascii_share",
    "long_word_share",
]
FEATURES: tuple[FeatureName, ...] = get_args(FeatureName)

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_CODE = re.compile(r"```|`[^`\n]+`|\b(?:def|class|function|return|import|SELECT)\b|[{};]\s*$", re.MULTILINE)
LONG_WORD_CHARS = 8
MAX_PROMPT_CHARS = 20_000
"""Only this many characters at the prompt's end are measured, since measuring delays the request."""


def measure_features(prompt: str, context_chars: int, turns: int) -> dict[str, float]:
    """Return the features of a request.

    `prompt` is the last user message, `context_chars` the number of characters of all messages, and `turns`
    the number of user messages. Lengths are ln(1 + characters), shares are in [0, 1], and all others are
    counts: `code` counts signs of code.
    """
    prompt = prompt[-MAX_PROMPT_CHARS:]
    length = max(1, len(prompt))
    words = prompt.split()
    return {
        "log_length": log1p(len(prompt)),
        "log_context": log1p(context_chars),
        "turns": float(turns),
        "lines": float(prompt.count("\n") + 1),
        "numbers": float(len(_NUMBER.findall(prompt))),
        "digit_share": sum(map(str.isdigit, prompt)) / length,
        "code": float(len(_CODE.findall(prompt))),
        "questions": float(prompt.count("?")),
        "non_ascii_share": 0.0 if prompt.isascii() else sum(ord(char) > 127 for char in prompt) / length,
        "long_word_share": sum(len(word) >= LONG_WORD_CHARS for word in words) / max(1, len(words)),
    }


class Scorer(Finite):
    """A logistic rule for P(the small model's answer is good enough), from the prompt's features alone."""

    made_for: LogprobSource
    trained_on: TrainingSet
    features: Annotated[tuple[FeatureName, ...], Field(min_length=1)]
    center: tuple[float, ...]
    scale: tuple[Annotated[float, Field(gt=0)], ...]
    rule: Logistic

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        for name, values in (
            ("center", self.center),
            ("scale", self.scale),
            ("rule.weights", self.rule.weights),
        ):
            if len(values) != len(self.features):
                raise ValueError(f"{name} has {len(values)} values for {len(self.features)} features")
        return self

    def score(self, features: Mapping[str, float]) -> float:
        """Return P(the small model's answer is good enough), in (0, 1). Hard prompts score low."""
        z = self.rule.intercept
        for name, weight, center, scale in zip(
            self.features, self.rule.weights, self.center, self.scale, strict=True
        ):
            z += weight * (features[name] - center) / scale
        return 1.0 / (1.0 + exp(-max(min(z, 30.0), -30.0)))


class Gate(Finite):
    """Decides which prompts are easy: their score reaches `easy_from` and no feature exceeds its limit."""

    scorer: Scorer | None = None
    """A scorer's JSON file, its path relative to the policy's; null: the limits alone decide."""
    easy_from: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Lowest score of a prompt that goes to the small model."""
    limits: dict[FeatureName, float] = Field(default_factory=dict)
    """Highest value of each feature; a prompt above a limit is hard, whatever its score."""

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if self.scorer is None and not self.limits:
            raise ValueError("a gate needs a scorer, or limits, or both")
        return self

    def is_easy(self, features: Mapping[str, float]) -> bool:
        if any(features[name] > limit for name, limit in self.limits.items()):
            return False
        return self.scorer is None or self.scorer.score(features) >= self.easy_from


class Difficulty(Router):
    """Easy prompts go to the small model and hard ones to the large model, before any generation."""

    kind: Literal["difficulty"] = "difficulty"
    """Names the strategy."""
    gate: Gate
    """Decides which prompts are easy."""

    @property
    def reads_features(self) -> bool:
        return True

    def plan(self, request: Request) -> Plan:
        if "llm" not in request.tiers or "llm" not in request.able:
            return (yield from ask_slm(None))
        if "slm" in request.incapable:
            return (yield from ask_capable_tier("llm"))
        if not self.gate.is_easy(request.features):
            return (yield from ask_llm(Reason.TOO_HARD))
        try:
            return answer_with((yield from write(Generate("slm", because=Reason.EASY))), Reason.EASY)
        except Unavailable as failure:
            if failure.partial or failure.why == "rejected":
                raise
            reason = fallback_reason(failure)
        return answer_with((yield from write(Generate("llm", because=reason))), reason)
