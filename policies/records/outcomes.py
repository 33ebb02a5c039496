"""What a replay makes of a record: of each of its calls, of the legs of a race, and in all."""

from dataclasses import dataclass, field
from math import inf

from routers.cost import compute_cost
from routers.plan import (
    Answer,
    Ask,
    Both,
    Draft,
    Reason,
    Token,
    Unavailable,
    Usage,
    Verdict,
    Watch,
)

from .schema import CallLine, Record

CLOCK_RESOLUTION_S = 1e-6
"""Seconds to which records tell the times of tokens."""


@dataclass(slots=True)
class ReplayedCall:
    """What the router made of one recorded call. `stopped_at` counts the tokens its watch took."""

    line: CallLine
    stopped_at: int | None = None
    verdict: Verdict | None = None
    reason: Reason | None = None
    confidence: float | None = None
    kept: int = 0
    first_commit_count: int | None = None
    """The count of tokens that the first commit took, where one came before the draft's end."""
    cost_usd: float = 0.0

    def commit_at(self, count: int) -> None:
        self.kept = count
        self.first_commit_count = self.first_commit_count or count

    def first_commit_s(self) -> float:
        """When its first part was committed, in seconds since the exchange began."""
        line = self.line
        if line.tokens is None:
            return _end_s(line) if line.first is None else line.first
        return line.tokens.at[self.first_commit_count - 1] if self.first_commit_count else _end_s(line)

    @property
    def is_censored(self) -> bool:
        """Whether its record ends before its verdict, where the other leg of a race won."""
        return self.line.outcome == "outrun" and self.verdict is None

    def end_s(self) -> float:
        """When it was over, in seconds since the exchange began."""
        line = self.line
        if self.verdict is Verdict.GIVE_UP and line.tokens is not None and self.stopped_at:
            return min(_end_s(line), line.tokens.at[self.stopped_at - 1])
        return _end_s(line)

    def cancel_at(self, at: float) -> Draft:
        """What it has when it is cancelled at `at`, before its verdict; what that costs is an estimate."""
        self.verdict = self.reason = self.confidence = None
        self.kept, self.first_commit_count = 0, None
        line = self.line
        began = line.started if line.sent is None else line.sent
        seconds = max(0.0, at - began)
        share = min(1.0, seconds / max(CLOCK_RESOLUTION_S, _end_s(line) - began))
        usage = Usage(line.usage.prompt_tokens, round(line.usage.completion_tokens * share), estimated=True)
        self.cost_usd = compute_cost(usage, line.price, seconds)
        return Draft(line.tier, usage=usage, verdict=Verdict.CONTINUE)

    def conclude(self, watch: Watch, verdict: Verdict) -> None:
        self.verdict, self.reason, self.confidence = verdict, watch.reason, watch.confidence


@dataclass(slots=True)
class RaceLeg:
    """One leg of a replayed race, in seconds since the exchange began: `committed` is when it would have taken the
    floor, infinite where it would not; `ended` when it was over."""

    outcome: Draft | Unavailable
    call: ReplayedCall | None = None
    commit_s: float = inf
    end_s: float = 0.0

    def may_have_committed_by(self, at: float) -> bool:
        """Whether it may have committed by then, its record being of a race that it lost sooner."""
        is_censored = self.call is not None and self.call.is_censored
        return is_censored and (self.commit_s <= at or self.end_s + CLOCK_RESOLUTION_S < at)

    def outcome_at(self, at: float) -> Draft | Unavailable:
        """What is left of it when the other leg commits at `at`."""
        if self.call is None or self.call.is_censored or self.end_s <= at < self.commit_s:
            return self.outcome
        return self.call.cancel_at(at)


def _end_s(line: CallLine) -> float:
    return line.started + line.seconds if line.ended is None else line.ended


@dataclass(slots=True)
class ReplayResult:
    """`missing` is the ask that the record could not answer; `error` the code of a plan that ended in none."""

    record: Record
    answer: Answer | None = None
    missing: Ask | None = None
    error: str | None = None
    cancelled: bool = False
    calls: list[ReplayedCall] = field(default_factory=list)

    @property
    def cost_usd(self) -> float:
        """USD of all calls, added one by one as live: from Python 3.12 on `sum` rounds otherwise."""
        total = 0.0
        for call in self.calls:
            total += call.cost_usd
        return total

    @property
    def is_escalated(self) -> bool:
        """Whether the LLM is asked, its answer recorded or not."""
        missing = self.missing
        return any(call.line.tier == "llm" for call in self.calls) or (
            missing is not None and (isinstance(missing, Both) or missing.tier == "llm")
        )


def to_replayed_call(line: CallLine) -> ReplayedCall:
    """A call of which nothing is decided anew."""
    return ReplayedCall(
        line,
        stopped_at=len(line.tokens.ids) if line.tokens else None,
        verdict=line.verdict,
        reason=line.reason,
        confidence=line.confidence,
        kept=line.kept,
        cost_usd=line.cost_usd,
    )


def build_draft(call: ReplayedCall, tokens: list[Token], finish: str | None) -> Draft:
    """The draft, and its cost: the recorded one where the record ends at the same token."""
    line = call.line
    call.stopped_at = len(tokens)
    is_as_recorded = line.tokens is not None and len(tokens) == len(line.tokens.ids) and finish == line.finish
    usage = to_usage(line) if is_as_recorded else Usage(line.usage.prompt_tokens, len(tokens), estimated=True)
    call.cost_usd = (
        line.cost_usd if is_as_recorded else compute_cost(usage, line.price, _elapsed_s(line, len(tokens)))
    )
    return Draft(
        line.tier,
        tokens=tokens,
        finish=finish,
        usage=usage,
        verdict=call.verdict or Verdict.CONTINUE,
        reason=call.reason,
        confidence=call.confidence,
        kept=call.kept,
        committed_text="".join([token.text for token in tokens[: call.kept]]),
        seconds=0.0 if finish is None else line.duration_s,
    )


def _elapsed_s(line: CallLine, count: int) -> float:
    began = line.started if line.sent is None else line.sent
    return line.tokens.at[count - 1] - began if line.tokens else line.seconds


def to_usage(line: CallLine) -> Usage:
    return Usage(**line.usage.model_dump())
