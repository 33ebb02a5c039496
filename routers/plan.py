"""Asks, outcomes and verdicts: the vocabulary between a router and the driver that performs its plan.

A router's `plan()` is a generator that yields asks and is sent outcomes. The live engine performs asks
against models, replay answers them from records, and a test answers them by hand.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol, TypeVar

from .reasons import Reason as Reason

Tier = Literal["slm", "llm"]
Comparison = Literal["text", "number", "entailment"]
"""How an answer is compared with new samples of the same request."""
BOTH_TIERS = frozenset[Tier](("slm", "llm"))
NO_FEATURES: Mapping[str, float] = MappingProxyType({})


Capability = Literal[
    "logprobs",
    "scoring",
    "prediction",
    "prefill",
    "tools",
    "custom_tools",
    "json_schema",
    "vision",
    "audio",
    "logit_bias",
    "min_p",
    "choices",
    "completions",
    "embeddings",
    "grammar",
    "structured_outputs",
]
"""A feature that some models' servers lack."""


class Verdict(StrEnum):
    """A watch's decision about a draft after each token: see `Watch`."""

    CONTINUE = "continue"
    COMMIT = "commit"
    GIVE_UP = "give_up"


class TokenLike(Protocol):
    """One generated token. Its log-probabilities may be computed lazily."""

    @property
    def text(self) -> str:
        """The token's text. In replay of records without content, a stand-in that equal tokens share."""
        ...

    @property
    def logprob(self) -> float | None:
        """The token's log-probability in nats, or None if the server sent none."""
        ...

    @property
    def top(self) -> Sequence[float]:
        """Log-probabilities of the likeliest tokens at this position, best first, in nats."""
        ...

    @property
    def reasoning(self) -> bool:
        """True if the token belongs to the model's reasoning, not to its answer."""
        ...


class Token(NamedTuple):
    """A `TokenLike` with stored values."""

    text: str
    logprob: float | None
    top: Sequence[float]
    reasoning: bool = False


class ToolCall(NamedTuple):
    """A tool call in a draft. `arguments` is JSON text, exactly as the model wrote it."""

    name: str
    arguments: str


class Usage(NamedTuple):
    """Token counts of one call. `estimated` is true if the server reported none, as for a cancelled call.

    `accepted` and `rejected` count tokens of the ask's `prediction`. `completion_tokens` includes both, but
    only the accepted ones appear in the answer.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    estimated: bool = False
    accepted: int = 0
    rejected: int = 0


NO_USAGE = Usage()


class Watch(Protocol):
    """A pure state machine that follows one draft, token by token.

    `token` returns a verdict for each token. COMMIT makes all text up to and including this token
    irrevocable: it flows to the client, and later text is held until the next COMMIT. GIVE_UP cancels the
    draft now.
    `end` returns the last verdict. COMMIT accepts the draft and releases its rest. CONTINUE holds the draft
    until its plan has judged it. `flaw` is the structural reason why the finished draft can't be served, or
    None.
    """

    reason: Reason | None
    """The reason for the last COMMIT or GIVE_UP."""
    confidence: float | None
    """The latest P(the draft is good enough), in [0, 1]."""

    def token(self, token: TokenLike) -> Verdict: ...

    def end(self, finish: str | None, flaw: Reason | None = None) -> Verdict: ...


WatchFactory = Callable[[], Watch]


class Generate(NamedTuple):
    """Ask a tier to generate text. The outcome is a `Draft`.

    `watch` makes a fresh watch for each attempt. Without a watch, each token is committed as it arrives.
    `prefix` is the text that the answer already begins with, which the tier continues.
    `patience` is the longest wait, in seconds, for a tier that is restarting.
    `max_tokens` and `n` override the request's own values.
    `prediction` is text that the answer probably repeats (OpenAI's Predicted Outputs).
    `after` holds the tier's own token ids of `prefix`, from a `Score`, if it must continue from these.
    `passages` are the indices of the retrieved passages to show, in this order. None shows all, as given.
    `logprobs` is true if the watch reads log-probabilities, so that they are requested from the server.
    """

    tier: Tier
    watch: WatchFactory | None = None
    prefix: str = ""
    patience: float = 0.0
    because: Reason = Reason.POLICY
    max_tokens: int | None = None
    n: int | None = None
    prediction: str = ""
    after: Sequence[int] = ()
    passages: tuple[int, ...] | None = None
    logprobs: bool = True


class Score(NamedTuple):
    """Ask a tier for its log-probabilities of a given text, in one prefill. The outcome is a `Scored`.

    `prefix` is the answer's text so far. `after` holds the tier's own token ids of `prefix`; they are carried
    along and never re-tokenised from the text.
    """

    tier: Tier
    text: str
    prefix: str = ""
    after: Sequence[int] = ()
    because: Reason = Reason.VERIFIED


class Say(NamedTuple):
    """Commit tokens that the plan itself has verified. The outcome is a `Said`.

    `ids` are token ids of `tier`. `after` are the ids that were committed before them. `finish`, if not None,
    ends the answer with this finish reason.
    """

    tier: Tier
    ids: Sequence[int]
    after: Sequence[int] = ()
    finish: str | None = None
    because: Reason = Reason.VERIFIED


class Judge(NamedTuple):
    """Ask a tier for the probability that each of a few labels is the next token. The outcome is a `Judged`.

    `question` is a template: `{request}` is replaced by the conversation, `{messages}` by the conversation
    without system messages, `{passage}` by the retrieved passage with index `passage`, and `{answer}`,
    `{context}` and `{sample}` by the fields of these names. `model` names the only model that may be asked;
    if empty, any model of the tier may be.

    Without labels, no token is generated. The model reads `question`, which must end in `{request}`, and the
    outcome's p["request"] is the geometric mean of the probabilities of the tokens of the user's request.

    With `samples` > 0, the tier answers the request itself that many times. The probability of the first
    label is the agreement of these samples with `answer`, measured by `compare` (see
    `routers.judges.agreement`). If `compare` is "entailment", `question` is asked once for each sample.
    """

    tier: Tier
    question: str
    labels: tuple[str, ...]
    answer: str = ""
    because: Reason = Reason.JUDGED
    passage: int | None = None
    model: str = ""
    context: str = ""
    samples: int = 0
    compare: Comparison = "text"
    sample: str = ""


class Both(NamedTuple):
    """Run two asks together. The outcome is a `Raced`.

    The first leg to commit wins and the other is cancelled. If neither commits, both run to their ends.
    """

    a: Generate
    b: Generate


Ask = Generate | Score | Judge | Both | Say
Question = Score | Judge
"""An ask for probabilities. Its outcome never flows to the client."""


class Skill(NamedTuple):
    """A call that a skill makes while it rewrites the request. No plan yields it.

    It passes the same admission checks as a plan's asks, and its cost is counted with theirs.
    """

    tier: Tier
    because: Reason


class Draft(NamedTuple):
    """The text that a tier wrote: the outcome of a `Generate`.

    `kept` counts the leading tokens that were committed during generation; `committed_text` is their text.
    `finish` is None if the draft was stopped early. `tool_calls` are the tool calls that it contains.
    `seconds` is the time from the request to the end of the response, or 0 if the response did not end.
    """

    tier: Tier
    text: str = ""
    tokens: Sequence[TokenLike] = ()
    finish: str | None = None
    usage: Usage = NO_USAGE
    verdict: Verdict = Verdict.COMMIT
    reason: Reason | None = None
    confidence: float | None = None
    kept: int = 0
    committed_text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    seconds: float = 0.0


class GreedyToken(NamedTuple):
    """The token that a tier would write at temperature 0: its id and its log-probability in nats.

    `ends` is true if the token ends the answer.
    """

    id: int
    logprob: float
    ends: bool = False


class ScoredToken(NamedTuple):
    """One token of a scored text, and the token that the scorer would have written in its place."""

    id: int
    logprob: float
    greedy: GreedyToken

    @property
    def is_greedy(self) -> bool:
        return self.id == self.greedy.id


class Scored(NamedTuple):
    """A text's tokens, each scored given the tokens before it: the outcome of a `Score`.

    `next` is the token that the scorer would write after the text. `seconds` is as in `Draft`.
    """

    tokens: Sequence[ScoredToken]
    next: GreedyToken
    usage: Usage = NO_USAGE
    seconds: float = 0.0


class Said(NamedTuple):
    """The outcome of a `Say`. `text` is all committed text, without an incomplete character at its end."""

    text: str


class Judged(NamedTuple):
    """The outcome of a `Judge`.

    `p` maps each label to its probability among the labels; the values sum to 1. `mass` is the share of the
    total probability that fell on the labels, in [0, 1].
    """

    p: Mapping[str, float]
    mass: float
    usage: Usage = NO_USAGE


class Raced(NamedTuple):
    """The outcome of a `Both`: each leg's draft, or the error why it has none.

    The cancelled leg has the draft as far as it was written (it was paid for), with the verdict CONTINUE.
    """

    a: "Draft | Unavailable"
    b: "Draft | Unavailable"


Outcome = Draft | Scored | Judged | Raced | Said


class Unavailable(Exception):
    """An ask could not be performed. The driver throws this into the plan.

    `why` is a code: `not_configured`, `ceiling` or `private` from admission, `guarded` or `leak` from a
    guard, `incapable` if no upstream of the tier can do it, or an upstream's `down`, `busy`, `timeout`,
    `rate_limited`, `out_of_quota`, `misconfigured`, `refused`, `context`, `rejected`, `error`, `overloaded`,
    `garbage` or `lost`.
    `partial` is the draft so far, if any of it was committed.
    """

    def __init__(self, why: str, tier: Tier, message: str = "", partial: Draft | None = None) -> None:
        super().__init__(message or f"{tier}: {why}")
        self.why = why
        self.tier = tier
        self.partial = partial


class Missing(Exception):
    """The records hold no outcome for this ask. Replay raises it instead of guessing one."""

    def __init__(self, ask: Ask) -> None:
        asks = (ask.a, ask.b) if isinstance(ask, Both) else (ask,)
        names = " and ".join([f"the {one.tier} because of {one.because}" for one in asks])
        super().__init__(f"no recorded outcome of asking {names}")
        self.ask = ask


class Speculation(NamedTuple):
    """Verification counts of one answer, in the large model's tokens.

    `blocks` were scored, they held `drafted` tokens, and `accepted` of these are part of the answer.
    """

    blocks: int
    drafted: int
    accepted: int


class Answer(NamedTuple):
    """A plan's result: the drafts that make up the reply, in order, and the reason for this route.

    If the last part was given up during generation, the reply ends with the finish reason `length`.
    """

    parts: Sequence[Draft]
    reason: Reason
    confidence: float | None = None
    speculation: Speculation | None = None
    local_only: bool = False
    """True if the exchange must never reach a cloud, not even later in a shadow or an evaluation."""

    @property
    def route(self) -> str:
        """The tiers that wrote the answer: `slm`, `llm` or `slm+llm`."""
        first = self.parts[0].tier
        is_single_tier = len(self.parts) == 1 or all(part.tier == first for part in self.parts)
        return first if is_single_tier else "slm+llm"


T = TypeVar("T")
Fragment = Generator[Ask, Outcome, T]
"""A part of a plan, for `yield from`: it yields asks, is sent outcomes, and returns a T."""
Plan = Fragment[Answer]
