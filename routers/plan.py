"""The vocabulary between a router and whatever performs its plan.

A router's `plan()` is a generator: it yields asks and is sent outcomes. The live engine performs asks against
models, replay answers them from records, a test answers them by hand.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol, TypeVar

from .reasons import Reason as Reason

Tier = Literal["slm", "llm"]
Compare = Literal["text", "number", "entailment"]
"""How samples of an answer are compared with it."""
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
    "grammar",
    "structured_outputs",
]
"""What not every model's server can do."""


class Verdict(StrEnum):
    """What a watch says of a draft after a token: see `Watch`."""

    CONTINUE = "continue"
    COMMIT = "commit"
    GIVE_UP = "give_up"


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
    """Tokens of one call. `estimated`: the server reported none, as for a cancelled call. Of those of a prediction the
    `accepted` and the `rejected` ones are among the `completion_tokens`, and only the accepted ones in the answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    estimated: bool = False
    accepted: int = 0
    rejected: int = 0


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
    text that the answer probably repeats (OpenAI's Predicted Outputs). `after`: the tier's own token ids of
    `prefix`, from a `Score`, where it is to go on from exactly these. `passages` are the places of those of the
    request's retrieved passages that it is shown, in this order; None: all, as given. `logprobs`: its watch reads the
    tokens' log-probabilities, so they are asked for.
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
    """Ask a tier how it would have written a text, all of it in one prefill. `prefix` is the answer's text so far, and
    `after` the tier's own token ids of it: they are carried, never made anew from the text."""

    tier: Tier
    text: str
    prefix: str = ""
    after: Sequence[int] = ()
    because: Reason = Reason.VERIFIED


class Say(NamedTuple):
    """Commit tokens that the plan itself has verified, in the `tier`'s own ids; those `after` which they come have been
    said before. `finish` ends the answer."""

    tier: Tier
    ids: Sequence[int]
    after: Sequence[int] = ()
    finish: str | None = None
    because: Reason = Reason.VERIFIED


class Judge(NamedTuple):
    """Ask a tier which of a few labels comes next. In `question`, `{request}` stands for the conversation, `{messages}`
    for it without system messages, `{answer}` for `answer`, and `{passage}` for the retrieved passage at the place
    `passage` of the request's; `{context}` and `{sample}` for the ask's own. `model` names the only model that may be
    asked; empty, any of the tier.

    Without labels nothing is asked: the `question`, which ends in `{request}`, is read, and how likely the model finds
    what the user asks there, a token's probability on (geometric) average, is the `p` of "request".

    With `samples` the request itself is written so many times, and the labels' first is how far these agree with
    `answer`, by `compare` (see `agreement`); where that is by entailment, `question` is put for each `sample`."""

    tier: Tier
    question: str
    labels: tuple[str, ...]
    answer: str = ""
    because: Reason = Reason.JUDGED
    passage: int | None = None
    model: str = ""
    context: str = ""
    samples: int = 0
    compare: Compare = "text"
    sample: str = ""


class Both(NamedTuple):
    """Ask two together. The first leg to commit wins and the other is cancelled; where none commits, both
    come to their ends."""

    a: Generate
    b: Generate


Ask = Generate | Score | Judge | Both | Say
Question = Score | Judge
"""An ask for numbers: nothing of it flows to the client."""


class Skill(NamedTuple):
    """What rewrites a request asks a tier while it does. No plan yields it; it leaves through the same door, and is in
    the same account."""

    tier: Tier
    because: Reason


class Draft(NamedTuple):
    """What a tier wrote. `kept` counts the leading tokens that were committed while it was written, and
    `kept_text` is their text; `calls` are the tools it wants called. `seconds` passed between its request and its end,
    where it came to one."""

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
    seconds: float = 0.0


class Choice(NamedTuple):
    """The token that a tier itself would write at temperature 0: its id, its natural log-probability, and whether it
    ends the answer."""

    id: int
    logprob: float
    ends: bool = False


class ScoredToken(NamedTuple):
    """A token of a scored text, and what the scorer would have written in its place."""

    id: int
    logprob: float
    own: Choice

    @property
    def agreed(self) -> bool:
        return self.id == self.own.id


class Scored(NamedTuple):
    """The tokens of a text as its scorer reads it, each given the ones before it, and the `next` that it would write
    after all of them. `seconds` as of a draft."""

    tokens: Sequence[ScoredToken]
    next: Choice
    usage: Usage = NO_USAGE
    seconds: float = 0.0


class Said(NamedTuple):
    """`text` is the answer's, as far as it has been said; an unfinished character at its end is left out."""

    text: str


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


Outcome = Draft | Scored | Judged | Raced | Said


class Unavailable(Exception):
    """An ask could not be performed.

    `why` is a code: the door's `not_configured`, `ceiling` or `private`, a guard's `guarded` or `leak`, or an
    upstream's `down`, `busy`, `timeout`, `rate_limited`, `refused`, `context`, `rejected`, `error`, `overloaded`,
    `garbage` or `lost`.
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


class Speculation(NamedTuple):
    """How drafts fared that the large model verified, in its own tokens: `blocks` were scored, `drafted` tokens
    stood in them, and `accepted` of these stand in the answer."""

    blocks: int
    drafted: int
    accepted: int


class Answer(NamedTuple):
    """What the plan settled on: the drafts that make up the reply, in order, and why. A last one that was given up
    while it was written ends the reply as at a limit of tokens, finish reason `length`."""

    parts: Sequence[Draft]
    reason: Reason
    confidence: float | None = None
    speculation: Speculation | None = None
    local: bool = False
    """Whether no cloud may see anything of the exchange afterwards either, in a shadow or an evaluation."""

    @property
    def route(self) -> str:
        """The tiers that wrote it: `slm`, `llm` or `slm+llm`."""
        first = self.parts[0].tier
        alone = len(self.parts) == 1 or all(part.tier == first for part in self.parts)
        return first if alone else "slm+llm"


T = TypeVar("T")
Fragment = Generator[Ask, Outcome, T]
"""A part of a plan, for `yield from`: it asks, is sent outcomes, and gives a T."""
Plan = Fragment[Answer]
