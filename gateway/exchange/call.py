"""One upstream call of an exchange: what was asked, what came of it, what it cost."""

from dataclasses import dataclass, field

from routers.cost import Price, compute_cost
from routers.plan import (
    NO_USAGE,
    Generate,
    Judged,
    Question,
    Reason,
    Say,
    Scored,
    Skill,
    Tier,
    TokenLike,
    Usage,
    Verdict,
)


@dataclass(slots=True)
class Call:
    """One upstream call's account. `tokens` and their times (seconds since the exchange began) are kept where
    a watch followed them, up to the token that stopped it; `sent` is when the request left, `first` when an
    unwatched leg's first part was passed on, `ended` when the response had come to its end; `chunks` counts
    those of a relayed stream; `prompt_tokens` estimates what no usage reports, and `allowed` is how many tokens
    the ceilings left it. `judged` and `scored` are what a question found; `retried`: another upstream of the
    tier was asked in its stead; `inner`: it is a part of what the next call concludes."""

    ask: Generate | Question | Say | Skill
    tier: Tier
    upstream: str
    model: str
    price: Price
    started: float
    prompt_tokens: int
    allowed: int | None = None
    sent: float | None = None
    first: float | None = None
    ended: float | None = None
    chunks: int = 0
    seconds: float = 0.0
    outcome: str = "ok"
    message: str = ""
    finish: str | None = None
    usage: Usage = NO_USAGE
    cost_usd: float = 0.0
    tokens: list[TokenLike] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    verdict: Verdict | None = None
    reason: Reason | None = None
    confidence: float | None = None
    kept: int = 0
    begun: bool = False
    flaw: Reason | None = None
    judged: Judged | None = None
    scored: Scored | None = None
    settled: bool = False
    retried: bool = False
    inner: bool = False

    @property
    def duration_s(self) -> float:
        """Seconds between its request and its response's end, 0 where it came to none."""
        return 0.0 if self.sent is None or self.ended is None else self.ended - self.sent

    @property
    def completion_tokens(self) -> int:
        """Completion tokens; of a call under way, as many as it was allowed."""
        if self.settled:
            return self.usage.completion_tokens
        return max(len(self.tokens), self.chunks) if self.allowed is None else self.allowed

    @property
    def cost_so_far(self) -> float:
        """Dollars; of a call under way, as many as it was allowed."""
        return (
            self.cost_usd
            if self.settled
            else compute_cost(Usage(self.prompt_tokens, self.completion_tokens), self.price)
        )

    def settle(self, now: float, usage: Usage | None) -> None:
        """Counts the cost once, from what the server reported or an estimate marked so. A call that never left
        costs nothing; an hour's price counts from when it did."""
        self.seconds = now - self.started
        self.settled = True
        if usage is None:
            answered = self.outcome in CHARGED_OUTCOMES and self.sent is not None
            written = max(len(self.tokens), self.chunks)
            usage = Usage(self.prompt_tokens if answered or written else 0, written, estimated=True)
        self.usage = usage
        self.cost_usd = compute_cost(usage, self.price, 0.0 if self.sent is None else now - self.sent)


CHARGED_OUTCOMES = frozenset(
    {"ok", "stopped", "cancelled", "outrun", "ceiling", "lost", "garbage", "timeout"}
)
"""Outcomes of calls whose prompt the server has read, and charges for."""
