"""The results of a replay: of each call, of each leg of a race, and of the whole exchange."""

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
"""Seconds; the precision of token times in records."""


@dataclass(slots=True)
class ReplayedCall:
    """The router's decision on one recorded call. `stopped_at` is the number of tokens that its watch was fed, and
    `kept` the number of leading tokens that it committed."""

    line: CallLine
    stopped_at: int | None = None
    verdict: Verdict | None = None
    reason: Reason | None = None
    confidence: float | None = None
    kept: int = 0
    first_commit_count: int | None = None
    """Number of tokens in the first commit, or None if there was none before the draft's end."""
    cost_usd: float = 0.0

    def commit_at(self, count: int) -> None:
        """Note that the watch committed the first `count` tokens."""
        self.kept = count
        self.first_commit_count = self.first_commit_count or count

    def first_commit_s(self) -> float:
        """Return when the first part was committed, in seconds since the exchange began."""
        line = self.line
        if line.tokens is None:
            return _end_s(line) if line.first is None else line.first
        return line.tokens.at[self.first_commit_count - 1] if self.first_commit_count else _end_s(line)

    @property
    def is_censored(self) -> bool:
        """True if the record ends before the verdict, because the other leg of a race won."""
        return self.line.outcome == "outrun" and self.verdict is None

    def end_s(self) -> float:
        """Return when the call ended, in seconds since the exchange began."""
        line = self.line
        if self.verdict is Verdict.GIVE_UP and line.tokens is not None and self.stopped_at:
            return min(_end_s(line), line.tokens.at[self.stopped_at - 1])
        return _end_s(line)

    def cancel_at(self, at: float) -> Draft:
        """Cancel the call at `at` seconds, before its verdict, and return its draft so far. Its cost is an estimate."""
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
        """Take the verdict, and the watch's reason and confidence."""
        self.verdict, self.reason, self.confidence = verdict, watch.reason, watch.confidence


@dataclass(slots=True)
class RaceLeg:
    """One leg of a replayed race. Times are in seconds since the exchange began: `commit_s` is when the leg would have
    committed first, or infinity if it would not have; `end_s` is when it ended."""

    outcome: Draft | Unavailable
    call: ReplayedCall | None = None
    commit_s: float = inf
    end_s: float = 0.0

    def may_have_committed_by(self, at: float) -> bool:
        """Return whether the leg may have committed by `at`, though its record ends sooner because it lost its race."""
        is_censored = self.call is not None and self.call.is_censored
        return is_censored and (self.commit_s <= at or self.end_s + CLOCK_RESOLUTION_S < at)

    def outcome_at(self, at: float) -> Draft | Unavailable:
        """Return the leg's outcome if the other leg commits at `at`."""
        if self.call is None or self.call.is_censored or self.end_s <= at < self.commit_s:
            return self.outcome
        return self.call.cancel_at(at)


def _end_s(line: CallLine) -> float:
    return line.started + line.seconds if line.ended is None else line.ended


@dataclass(slots=True)
class ReplayResult:
    """The result of replaying one exchange. `missing` is the ask that the record cannot answer, and `error` the code of
    the error that the plan ended in; both are None otherwise."""

    record: Record
    answer: Answer | None = None
    missing: Ask | None = None
    error: str | None = None
    cancelled: bool = False
    calls: list[ReplayedCall] = field(default_factory=list)

    @property
    def cost_usd(self) -> float:
        """Cost of all calls in USD, added one by one as in the live gateway: from Python 3.12 on, `sum` rounds
        differently."""
        total = 0.0
        for call in self.calls:
            total += call.cost_usd
        return total

    @property
    def is_escalated(self) -> bool:
        """True if the plan asks the LLM, even if its answer is not recorded."""
        missing = self.missing
        return any(call.line.tier == "llm" for call in self.calls) or (
            missing is not None and (isinstance(missing, Both) or missing.tier == "llm")
        )


def to_replayed_call(line: CallLine) -> ReplayedCall:
    """Convert a recorded call, without deciding anything anew."""
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
    """Return the draft that ends with `tokens`, and set the call's cost: the recorded cost if the record ends at the
    same token, else an estimate."""
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
