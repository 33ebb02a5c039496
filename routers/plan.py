"""The vocabulary between a router and whatever performs its plan.

A router's `plan()` is a generator: it yields asks and is sent outcomes. The live engine performs asks against
models, replay answers them from records, a test answers them by hand.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

Tier = Literal["slm", "llm"]
BOTH_TIERS = frozenset[Tier](("slm", "llm"))
NO_FEATURES: Mapping[str, float] = MappingProxyType({})


Capability = Literal[
    "logprobs",
    "scoring",
    "prediction",
    "prefill",
    "tools",
    "json_schema",
    "vision",
    "audio",
    "logit_bias",
    "min_p",
    "choices",
    "completions",
    "embeddings",
]
"""What not every model's server can do."""


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
    """The request (several choices, audio) is one whose draft no calibrator here judges."""
    NOT_CAPABLE = "not_capable"
    """The request needs what no upstream of the tier that would be asked first can do."""
    TOO_HARD = "too_hard"
    """The prompt's difficulty score says that the small model is not worth asking."""
    EASY = "easy"
    """The prompt's difficulty score says that the small model will do."""
    JUDGED = "judged"
    """A judgement of the draft, asked after it was finished, decided."""
    OUTRAN = "outran"
    """Both tiers were asked together, and this one committed first."""
    AFFINITY = "affinity"
    """The conversation was escalated before, and stays with the large model for a while."""
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


ESCALATIONS = frozenset(
    {
        *(Reason.LOW_CONFIDENCE, Reason.GAVE_UP, Reason.EMPTY, Reason.NO_LOGPROBS, Reason.JUDGED),
        *(Reason.INVALID_JSON, Reason.SCHEMA_MISMATCH, Reason.TOOL_NOT_OFFERED, Reason.TOOL_ARGUMENTS),
        *(Reason.LOOP, Reason.REFUSAL, Reason.TRUNCATED, Reason.CONTEXT_TOO_LONG, Reason.TOO_HARD),
    }
)
"""Why the large model answered, where that says something of the conversation and not of the servers."""


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

    @property
    def reasoning(self) -> bool:
        """Whether it belongs to the model's reasoning, not to its answer."""
        ...


class Token(NamedTuple):
    """A token whose values are at hand."""

    text: str
    logprob: float | None
    top: Sequence[float]
    reasoning: bool = False


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
    follows is held until the next COMMIT. GIVE_UP cancels the draft now. `end` gives the last verdict: accepting a
    draft is committing its rest, and CONTINUE, for a draft that its plan is going to judge, holds it until the plan
    has settled. Its `flaw` is the structural reason, if any, why the finished draft can't be served.
    """

    reason: Reason | None
    """Why the last COMMIT or GIVE_UP."""
    confidence: float | None
    """P(the draft is good enough) when last computed, in [0, 1]."""

    def token(self, token: TokenLike) -> Verdict: ...

    def end(self, finish: str | None, flaw: Reason | None = None) -> Verdict: ...


WatchFactory = Callable[[], Watch]


class Generate(NamedTuple):
    """Ask a tier to write.

    `watch` makes a fresh watch for each attempt; without one everything written is committed as it comes.
    `prefix` is text the answer already begins with, to be continued. `patience` is how many seconds a tier
    that is restarting may be waited for. `max_tokens` and `n` stand over the request's own. `prediction` is
    text that the answer probably repeats (OpenAI's Predicted Outputs).
    """

    tier: Tier
    watch: WatchFactory | None = None
    prefix: str = ""
    patience: float = 0.0
    because: Reason = Reason.POLICY
    max_tokens: int | None = None
    n: int | None = None
    prediction: str = ""


class Judge(NamedTuple):
    """Ask a tier which of a few labels comes next. In `question`, `{request}` stands for the conversation and
    `{answer}` for `answer`."""

    tier: Tier
    question: str
    labels: tuple[str, ...]
    answer: str = ""
    because: Reason = Reason.JUDGED


class Both(NamedTuple):
    """Ask two together. The first leg to commit wins and the other is cancelled; where none commits, both
    come to their ends."""

    a: Generate
    b: Generate


Ask = Generate | Judge | Both


class Draft(NamedTuple):
    """What a tier wrote. `kept` counts the leading tokens that were committed while it was written, and
    `kept_text` is their text; `calls` are the tools it wants called."""

    tier: Tier
    text: str = ""
    tokens: Sequence[TokenLike] = ()
    finish: str | None = None
    usage: Usage = NO_USAGE
    verdict: Verdict = Verdict.COMMIT
    reason: Reason | None = None
    confidence: float | None = None
    kept: int = 0
    kept_text: str = ""
    calls: Sequence[ToolCall] = ()


class Judged(NamedTuple):
    """`p` is the probability of each label among the labels, summing to 1; `mass` is the share of all
    probability that fell on labels at all, in [0, 1]."""

    p: Mapping[str, float]
    mass: float
    usage: Usage = NO_USAGE


class Raced(NamedTuple):
    """The legs of a `Both`: each one's draft, or why it has none. The leg that was outrun has the draft it had
    (it was paid for), its verdict CONTINUE."""

    a: "Draft | Unavailable"
    b: "Draft | Unavailable"


Outcome = Draft | Judged | Raced


class Unavailable(Exception):
    """An ask could not be performed.

    `why` is a code: the door's `not_configured`, `ceiling` or `private`, or an upstream's `down`, `busy`,
    `timeout`, `rate_limited`, `refused`, `context`, `rejected`, `error`, `overloaded`, `garbage` or `lost`.
    `partial` is what had been written, if anything was committed.
    """

    def __init__(self, why: str, tier: Tier, message: str = "", partial: Draft | None = None) -> None:
        super().__init__(message or f"{tier}: {why}")
        self.why = why
        self.tier = tier
        self.partial = partial


class Missing(Exception):
    """Replay's only guess is none: the records hold no outcome for this ask."""

    def __init__(self, ask: Ask) -> None:
        asks = (ask.a, ask.b) if isinstance(ask, Both) else (ask,)
        named = " and ".join([f"the {one.tier} because of {one.because}" for one in asks])
        super().__init__(f"no recorded outcome of asking {named}")
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


T = TypeVar("T")
Fragment = Generator[Ask, Outcome, T]
"""A part of a plan, for `yield from`: it asks, is sent outcomes, and gives a T."""
Plan = Fragment[Answer]


class Request(NamedTuple):
    """What a router may know of a request; all of it is kept in the record."""

    stream: bool = False
    judgeable: bool = True
    """False where a draft is not one text whose log-probabilities mean something (n > 1, audio)."""
    whole: bool = False
    """The answer can be checked only once it is complete (tools, a response schema): no part of a draft is
    committed before its end."""
    tiers: frozenset[Tier] = BOTH_TIERS
    """Tiers that are configured and not known to be down as the exchange begins."""
    able: frozenset[Tier] = BOTH_TIERS
    """Tiers of which nothing is known that keeps them from doing what the request needs; whether its prompt fits their
    context is not asked here."""
    stays: int = 0
    """For how many turns, this one included, the conversation stays with the large model: see a policy's
    `affinity`."""
    features: Mapping[str, float] = NO_FEATURES
    """What is measured of the prompt, where the router reads it: see `difficulty`."""


class Router(BaseModel):
    """A strategy: its fields are its YAML, `plan` is its decision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    """Names the strategy."""

    def plan(self, request: Request) -> Plan:
        raise NotImplementedError

    @property
    def needs(self) -> Mapping[Tier, Mapping[Capability, str]]:
        """What it asks of a tier, where that is there, beside what requests do: which field of its asks for it."""
        return {}

    @property
    def reads_features(self) -> bool:
        """Whether its plan reads the request's `features`, which are measured only then."""
        return False
