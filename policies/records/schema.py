"""What one exchange leaves behind for tuning: a line of JSON.

A record set is one or more .jsonl files. A `policy` line holds a policy whole, calibrator included, and stands
before the first exchange that ran under it; `exchange` lines name it by digest. Records hold no prompt and no
answer unless the operator turned content on: a token's text is then replaced by a number that equal tokens of
the draft share and by its shape (where words begin, where sentences end), which is all that signals need.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from policies.schema.policy import Policy
from routers.confidence.answer_words import SHAPES, build_stand_in
from routers.cost import Price
from routers.plan import Capability, GreedyToken, Reason, Scored, ScoredToken, Tier, Token, Usage, Verdict
from routers.router import Request

from .formats import CURRENT, Format


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UsageLine(Line):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    estimated: bool = False
    accepted: int = 0
    rejected: int = 0


class TokensLine(Line):
    """Parallel lists, one entry a token: `ids` number the texts by first occurrence, `shapes` has a letter of
    `routers.confidence.answer_words` for each, `at` is seconds since the exchange began. `reasoning` lists
    the places of the tokens that belong to the model's reasoning."""

    ids: list[int]
    shapes: Annotated[str, Field(pattern=f"^[{SHAPES}]*$")]
    logprobs: list[float | None]
    top: list[list[float]]
    at: list[float]
    texts: list[str] | None = None
    reasoning: list[int] = []

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        texts = self.shapes if self.texts is None else self.texts
        lists = (self.ids, self.shapes, self.logprobs, self.top, self.at, texts)
        if len({len(values) for values in lists}) > 1:
            raise ValueError("the lists of tokens are of different lengths")
        return self

    def to_tokens(self) -> list[Token]:
        texts = self.texts
        if texts is None:
            texts = [build_stand_in(*token) for token in zip(self.shapes, self.ids, strict=True)]
        reasoning = set(self.reasoning)
        return [
            Token(text, logprob, top, place in reasoning)
            for place, (text, logprob, top) in enumerate(zip(texts, self.logprobs, self.top, strict=True))
        ]


class JudgedLine(Line):
    p: dict[str, float]
    mass: float


class ScoredLine(Line):
    """Parallel lists, one entry a token of the scored text: `ids` and `own`, the scorer's choices, are numbered by
    first occurrence; `own` has one more, after the text; `ends` are the places of choices that end the answer."""

    ids: list[int]
    logprobs: list[float]
    own: list[int]
    own_logprobs: list[float]
    ends: list[int]

    def to_scored(self, usage: Usage, seconds: float) -> Scored:
        choices = [
            GreedyToken(id_, logprob, place in self.ends)
            for place, (id_, logprob) in enumerate(zip(self.own, self.own_logprobs, strict=True))
        ]
        tokens = [ScoredToken(*token) for token in zip(self.ids, self.logprobs, choices, strict=False)]
        return Scored(tokens, choices[-1], usage, seconds)


class CallLine(Line):
    """One upstream call. `outcome` is ok, stopped (its watch gave it up), outrun (the other leg of a race committed
    first), cancelled (the client left), or why it failed. `started`, `sent` (when its request left), `first` (when
    an unwatched answer began to flow) and `ended` (when the response had) are seconds since the exchange began.
    `resumed`: it went on from text that was already delivered; `begun`: the client had part of its answer when it
    failed. `tokens` are those of a call that a watch followed, up to where it stopped; `flaw` is what its structure
    lacked; `judged` and `scored` are outcomes of questions; `max_tokens` is what its plan allowed it; `retried`: it
    failed, and the next call to its tier was another upstream's in its stead; `inner`: it is a part of what the next
    call of its kind concludes. A `skill` is asked by what rewrites the request, not by the plan."""

    ask: Literal["generate", "score", "judge", "say", "skill"] = "generate"
    tier: Tier
    upstream: str
    model: str
    because: Reason
    resumed: bool = False
    outcome: str
    finish: str | None
    usage: UsageLine
    price: Price
    cost_usd: float
    started: float
    sent: float | None = None
    first: float | None = None
    ended: float | None = None
    seconds: float
    verdict: Verdict | None
    reason: Reason | None
    confidence: float | None
    kept: int
    begun: bool = False
    flaw: Reason | None = None
    retried: bool = False
    inner: bool = False
    tokens: TokensLine | None = None
    judged: JudgedLine | None = None
    scored: ScoredLine | None = None
    max_tokens: int | None = None

    @property
    def duration_s(self) -> float:
        """Seconds between its request and its response's end, 0 where it came to none."""
        return 0.0 if self.sent is None or self.ended is None else self.ended - self.sent


class RequestLine(Line):
    stream: bool
    judgeable: bool
    whole: bool = False
    tiers: list[Tier]
    able: list[Tier] = ["slm", "llm"]
    stays: int = 0
    features: dict[str, float] = {}
    verifies: list[Capability] = []
    greedy: bool = False
    most: int | None = None
    renormalised: bool = False
    passages: int = 0

    def to_request(self) -> Request:
        return Request(
            stream=self.stream,
            judgeable=self.judgeable,
            whole=self.whole,
            tiers=frozenset(self.tiers),
            able=frozenset(self.able),
            stays=self.stays,
            features=self.features,
            verifies=frozenset(self.verifies),
            greedy=self.greedy,
            most=self.most,
            renormalised=self.renormalised,
            passages=self.passages,
        )


class AnswerLine(Line):
    route: str
    reason: Reason
    confidence: float | None


class SpeculationLine(Line):
    """As in `routers.plan.Speculation`; `llm_tokens` are those that the large model wrote, `llm_tokens_alone` those
    that it alone would have; seconds are of both models' calls."""

    blocks: int
    drafted: int
    accepted: int
    llm_calls: int
    llm_tokens: int
    llm_tokens_alone: int
    slm_seconds: float
    llm_seconds: float


class PolicyLine(Line):
    type: Literal["policy"] = "policy"
    format: Format = CURRENT
    digest: str
    policy: Policy


class ExchangeLine(Line):
    type: Literal["exchange"] = "exchange"
    format: Format = CURRENT
    id: str
    at: float
    endpoint: str
    policy: str
    digest: str
    request: RequestLine
    calls: list[CallLine]
    answer: AnswerLine | None
    status: int
    error: str | None
    cancelled: bool
    cost_usd: float
    llm_alone_usd: float | None
    alone_price: Price | None
    seconds: float
    ttft: float | None
    speculation: SpeculationLine | None = None
    skills: dict[str, dict[str, Any]] = {}
    """What each skill of the small model did, by its name."""
    aside: str | None = None
    """What was performed instead of the policy's plan: such an exchange has no answer, and nothing to replay."""
    tags: dict[str, str] = {}
    shadow_of: str | None = None
    content: dict[str, Any] | None = None
    reply: dict[str, Any] | None = None
    """The assistant's message that was served."""


AnyLine = TypeAdapter[PolicyLine | ExchangeLine](
    Annotated[PolicyLine | ExchangeLine, Field(discriminator="type")]
)


class Record(Line):
    """An exchange with the policy it ran under."""

    exchange: ExchangeLine
    policy: Policy


class RecordError(ValueError):
    """Records that can't be used; the text says which, and why."""
