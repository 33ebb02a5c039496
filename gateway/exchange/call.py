"""One upstream call of an exchange: its ask, its outcome and its cost."""

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
    """The account of one upstream call. Times are in seconds since the exchange began.

    started, sent, first, ended: when the call began, its request was sent, the first part of an unwatched draft was
        forwarded, and the response ended. `seconds` is from `started` to `settle`.
    prompt_tokens: an estimate, used if the server reports no usage.
    allowed: the maximum completion tokens that the ceilings leave to all choices; None if unlimited.
    tokens, at: the tokens of a watched draft, up to the one that stopped it, and their times.
    chunks: the number of chunks of a stream that was passed through.
    kept: how many of the tokens were committed.
    begun: whether a failed call's draft had already reached the client in part.
    reported_usd: the dollars that the server says the call cost, if the upstream has no price; else None.
    judged, scored: the outcome of a Judge or Score ask.
    retried: whether another upstream of the tier was tried after this call failed.
    inner: whether this call is only a part of a judgement, which a later call concludes.
    """

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
    reported_usd: float | None = None
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
        """Seconds from sending the request to the response's end; 0 if there was no response."""
        return 0.0 if self.sent is None or self.ended is None else self.ended - self.sent

    @property
    def completion_tokens(self) -> int:
        """The number of completion tokens; the allowed number while the call is running."""
        if self.settled:
            return self.usage.completion_tokens
        return max(len(self.tokens), self.chunks) if self.allowed is None else self.allowed

    @property
    def cost_so_far(self) -> float:
        """The cost in dollars; while the call is running, that of the allowed tokens."""
        return (
            self.cost_usd
            if self.settled
            else compute_cost(Usage(self.prompt_tokens, self.completion_tokens), self.price)
        )

    def settle(self, now: float, usage: Usage | None) -> None:
        """Set the duration, the usage and the cost. `now` is in seconds since the exchange began.

        `usage` is what the server reported; if None, it is estimated and marked so. A call that was never sent costs
        nothing. An hourly price counts from the time of sending.
        """
        self.seconds = now - self.started
        self.settled = True
        if usage is None:
            charged = self.outcome in CHARGED_OUTCOMES and self.sent is not None
            written = max(len(self.tokens), self.chunks)
            usage = Usage(self.prompt_tokens if charged or written else 0, written, estimated=True)
        self.usage = usage
        if self.reported_usd is not None:
            self.cost_usd = self.reported_usd
            return
        self.cost_usd = compute_cost(usage, self.price, 0.0 if self.sent is None else now - self.sent)


CHARGED_OUTCOMES = frozenset(
    {"ok", "stopped", "cancelled", "shutdown", "outrun", "ceiling", "lost", "garbage", "timeout"}
)
"""Outcomes of calls whose prompt the server has read and charges for."""
