"""The vocabulary between a router and whatever performs its plan.

A router's `plan()` is a generator: it yields asks and is sent outcomes. The live engine performs asks against
models, replay answers them from records, a test answers them by hand.
"""

from collections.abc import Callable, Generator, Sequence
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

Tier = Literal["slm", "llm"]


class Verdict(StrEnum):
    """What a watch says of a draft after a token: see `Watch`."""

    CONTINUE = "continue"
    COMMIT = "commit"
    GIVE_UP = "give_up"


class Reason(StrEnum):
    """Why an exchange took its route, as `x-smallfirst-reason` reports it."""

    POLICY = "policy"
    """The policy always asks this tier first."""
    CONFIDENT = "confident"
    """The finished draft's confidence reached `accept`."""
    COMMITTED = "committed"
    """A stream's running confidence reached `commit` before the draft was finished."""
    LOW_CONFIDENCE = "low_confidence"
    """The finished draft's confidence stayed under `accept`."""
    GAVE_UP = "gave_up"
    """The running confidence fell under `give_up`: the draft was stopped early."""
    EMPTY = "empty"
    """The draft had no text."""
    NO_LOGPROBS = "no_logprobs"
    """The small model's server sent no log-probabilities to judge the draft by."""
    NOT_JUDGED = "not_judged"
    """The request (tools, several choices, images) is one whose draft no calibrator here judges."""
    INVALID_JSON = "invalid_json"
    """The request asked for JSON, and the draft does not parse."""
    SCHEMA_MISMATCH = "schema_mismatch"
    """The draft's JSON does not meet the request's schema."""
    TOOL_NOT_OFFERED = "tool_not_offered"
    """The draft calls a tool that the request did not offer, or calls none where one was required."""
    TOOL_ARGUMENTS = "tool_arguments"
    """A tool call's arguments are not JSON that meets the tool's schema."""
    LOOP = "loop"
    """The draft repeats itself."""
    REFUSAL = "refusal"
    """The draft declines to answer."""
    TRUNCATED = "truncated"
    """The draft reached its token limit before its end."""
    CONTEXT_TOO_LONG = "context_too_long"
    """The prompt does not fit the context of the tier that was asked first."""
    NO_LLM = "no_llm"
    """No large model could be had (none configured, down, busy, or it refused): the small model's answer stands."""
    NO_SLM = "no_slm"
    """No small model could be had (none configured, down, busy, or it refused): the large model answers."""


class TokenLike(Protocol):
    """One generated token. What it says of log-probabilities may be computed when it is asked for."""

    @property
    def text(self) -> str:
        """Its text; in replay of records without content, a stand-in that equal tokens share."""
        ...

    @property
    def logprob(self) -> float | None:
        """Its natural log-probability."""
        ...

    @property
    def top(self) -> Sequence[float]:
        """Log-probabilities of the likeliest alternatives, best first."""
        ...


class Token(NamedTuple):
    """A token whose values are at hand."""

    text: str
    logprob: float | None
    top: Sequence[float]


class ToolCall(NamedTuple):
    """A call that a draft makes: `arguments` is JSON as text, as the model wrote it."""

    name: str
    arguments: str


class Usage(NamedTuple):
    """Tokens of one call. `estimated`: the server reported none, as for a cancelled call."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    estimated: bool = False


NO_USAGE = Usage()


class Watch(Protocol):
    """Follows one draft, a pure state machine.

    COMMIT makes everything up to and including this token irrevocable: it flows to the client, and what
    follows is held until the next COMMIT. GIVE_UP cancels the draft now. `end` gives the last verdict, never
    CONTINUE: accepting a draft is committing its rest.
    """

    reason: Reason | None
    """Why the last COMMIT or GIVE_UP."""
    confidence: float | None
    """P(the draft is good enough) when last computed, in [0, 1]."""

    def token(self, token: TokenLike) -> Verdict: ...

    def end(self, finish: str | None) -> Verdict: ...


WatchFactory = Callable[[], Watch]


class Generate(NamedTuple):
    """Ask a tier to write.

    `watch` makes a fresh watch for each attempt; without one everything written is committed as it comes.
    `prefix` is text the answer already begins with, to be continued. `patience` is how many seconds a tier
    that is restarting may be waited for.
    """

    tier: Tier
    watch: WatchFactory | None = None
    prefix: str = ""
    patience: float = 0.0
    because: Reason = Reason.POLICY


Ask = Generate


class Draft(NamedTuple):
    """What a tier wrote. `kept` counts the leading tokens that were committed while it was written."""

    tier: Tier
    text: str = ""
    tokens: Sequence[TokenLike] = ()
    finish: str | None = None
    usage: Usage = NO_USAGE
    verdict: Verdict = Verdict.COMMIT
    reason: Reason | None = None
    confidence: float | None = None
    kept: int = 0


Outcome = Draft


class Unavailable(Exception):
    """An ask could not be performed.

    `why` is a code (`not_configured`, `down`, `busy`, `timeout`, `rate_limited`, `refused`, `context`,
    `rejected`, `garbage`, `lost`); `partial` is what had been written, if anything was committed.
    """

    def __init__(self, why: str, tier: Tier, message: str = "", partial: Draft | None = None) -> None:
        super().__init__(message or f"{tier}: {why}")
        self.why = why
        self.tier = tier
        self.partial = partial


class Missing(Exception):
    """Replay's only guess is none: the records hold no outcome for this ask."""

    def __init__(self, ask: Ask) -> None:
        super().__init__(f"no recorded outcome of asking the {ask.tier} because of {ask.because}")
        self.ask = ask


class Answer(NamedTuple):
    """What the plan settled on: the drafts that make up the reply, in order, and why."""

    parts: Sequence[Draft]
    reason: Reason
    confidence: float | None = None

    @property
    def route(self) -> str:
        """The tiers that wrote it: `slm`, `llm` or `slm+llm`."""
        first = self.parts[0].tier
        return first if all(part.tier == first for part in self.parts) else "slm+llm"


Plan = Generator[Ask, Outcome, Answer]


class Request(NamedTuple):
    """What a router may know of a request; all of it is kept in the record."""

    stream: bool = False
    judgeable: bool = True
    """False where a draft is not one text whose log-probabilities mean something (tools, n > 1, images)."""
    tiers: frozenset[Tier] = frozenset[Tier](("slm", "llm"))
    """Tiers that are configured and not known to be down as the exchange begins."""


class Router(BaseModel):
    """A strategy: its fields are its YAML, `plan` is its decision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def plan(self, request: Request) -> Plan:
        raise NotImplementedError
