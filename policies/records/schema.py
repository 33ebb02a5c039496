"""What one exchange leaves behind for tuning: a line of JSON.

A record set is one or more .jsonl files. A `policy` line holds a whole policy, calibrator included, and stands
before the first exchange that ran under it; `exchange` lines name it by digest. Records hold no prompt and no
answer unless the operator turned content on: a token's text is then replaced by a number that equal tokens of
the draft share and by its shape (where words begin, where sentences end), which is all that signals need.

These models are the one declaration of a record. The writer (`gateway.telemetry.record_lines`), the reader,
`GET /v1/exchanges/{id}` and the tables of docs/records.md derive from them.
"""

from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from policies.schema.policy import Policy
from routers.confidence.answer_words import SHAPES, build_stand_in
from routers.cost import Price
from routers.plan import Capability, GreedyToken, Reason, Scored, ScoredToken, Tier, Token, Usage, Verdict
from routers.router import Request

from .formats import CURRENT, Format

MAX_COUNT = 2**53 - 1
"""Maximum of a count of tokens: the largest integer that all readers of JSON hold exactly."""


SHUTTING_DOWN = "shutting_down"
"""The error of an exchange that ended because the gateway stopped."""


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InApi(NamedTuple):
    """Marks a field that `GET /v1/exchanges/{id}` shows, by `name` or else the field's own."""

    name: str | None = None


Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class UsageLine(Line):
    """Token counts."""

    prompt_tokens: Annotated[Count, InApi()]
    """Tokens of the prompt."""
    completion_tokens: Annotated[Count, InApi()]
    """Tokens that were written."""
    cached_tokens: Count = 0
    """Tokens of the prompt that the server had in its cache."""
    estimated: Annotated[bool, InApi()] = False
    """Whether the counts are an estimate, since the server reported none."""
    accepted: Count = 0
    """Tokens of a prediction that are part of the answer."""
    rejected: Count = 0
    """Tokens of a prediction that are not part of the answer."""


class TokensLine(Line):
    """Tokens of a draft: parallel lists with one entry a token."""

    ids: list[int]
    """Numbers of the texts, by first occurrence."""
    shapes: Annotated[str, Field(pattern=f"^[{SHAPES}]*$")]
    """A letter for each token's shape: see Privacy."""
    logprobs: list[float | None]
    """Natural log-probabilities."""
    top: list[list[float]]
    """Log-probabilities of the alternatives, best first."""
    at: list[float]
    """Seconds since the exchange began."""
    texts: list[str] | None = None
    """Texts, if the record has content; else null."""
    reasoning: list[int] = []
    """Places of the tokens that belong to the model's reasoning."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        texts = self.shapes if self.texts is None else self.texts
        lists = (self.ids, self.shapes, self.logprobs, self.top, self.at, texts)
        if len({len(values) for values in lists}) > 1:
            raise ValueError("the lists of tokens are of different lengths")
        return self

    def to_tokens(self) -> list[Token]:
        """Return the tokens. Without texts, each has a stand-in with the same signals."""
        texts = self.texts
        if texts is None:
            texts = [build_stand_in(*token) for token in zip(self.shapes, self.ids, strict=True)]
        reasoning = set(self.reasoning)
        return [
            Token(text, logprob, top, place in reasoning)
            for place, (text, logprob, top) in enumerate(zip(texts, self.logprobs, self.top, strict=True))
        ]


class JudgedLine(Line):
    """The outcome of a judgement."""

    p: dict[str, float]
    """The probability of each label, among the labels."""
    mass: float
    """The share of all probability that fell on the labels."""


class ScoredLine(Line):
    """A text's tokens as a model scored them: parallel lists with one entry a token."""

    ids: list[int]
    """Numbers of the text's tokens, by first occurrence."""
    logprobs: list[float]
    """Their natural log-probabilities."""
    own: list[int]
    """Numbers of the tokens that the scorer would have written in their places, and one more after the text."""
    own_logprobs: list[float]
    """Natural log-probabilities of the scorer's own tokens."""
    ends: list[int]
    """Places whose own token ends the answer."""

    def to_scored(self, usage: Usage, seconds: float) -> Scored:
        choices = [
            GreedyToken(id_, logprob, place in self.ends)
            for place, (id_, logprob) in enumerate(zip(self.own, self.own_logprobs, strict=True))
        ]
        tokens = [ScoredToken(*token) for token in zip(self.ids, self.logprobs, choices, strict=False)]
        return Scored(tokens, choices[-1], usage, seconds)


class CallLine(Line):
    """One upstream call. Times are in seconds since the exchange began."""

    ask: Annotated[Literal["generate", "score", "judge", "say", "skill"], InApi()] = "generate"
    """What was asked: `generate`, `judge`, `score`, `skill` (by what rewrites the request, not by the plan) or, if
    verified tokens could not be turned into text, `say`."""
    tier: Annotated[Tier, InApi()]
    """`slm` or `llm`."""
    upstream: Annotated[str, InApi()]
    """The upstream's name; empty if no call was let out."""
    model: Annotated[str, InApi()]
    """The model's name at the upstream."""
    because: Annotated[Reason, InApi()]
    """Why the plan asked."""
    resumed: bool = False
    """Whether the call went on from text that was already delivered."""
    outcome: Annotated[str, InApi()]
    """`ok`, `stopped` (given up, or broken off by a fault of the gateway's or of a plan's), `outrun` (the other leg
    of a race committed first), `cancelled` (the client left), `shutdown` (the gateway stopped), or why the call failed.
    For `incapable`, and for `context` without `sent`, nothing was sent. `ceiling` and `private` with an empty
    `upstream` are asks for which no call was let out; so are `ceiling`, `cancelled` and `shutdown` of a `say`, or it
    was cut short."""
    finish: Annotated[str | None, InApi()]
    """The upstream's finish reason."""
    usage: UsageLine
    """Token counts."""
    price: Price
    """What the call was charged at."""
    cost_usd: Annotated[float, InApi()]
    """The call's cost."""
    started: float
    """When the call began."""
    sent: float | None = None
    """When its request left; null if it never did."""
    first: float | None = None
    """When an unwatched answer began to flow."""
    ended: float | None = None
    """When the response had ended."""
    seconds: Annotated[float, InApi()]
    """The call's duration."""
    verdict: Annotated[Verdict | None, InApi()]
    """The watch's last verdict on the draft."""
    reason: Annotated[Reason | None, InApi()]
    """Why the watch decided so."""
    confidence: Annotated[float | None, InApi()]
    """The watch's last confidence in the draft."""
    kept: int
    """Leading tokens that were committed while the draft was written."""
    begun: bool = False
    """Whether the client had part of the answer when the call failed."""
    flaw: Reason | None = None
    """What the finished draft's structure lacked."""
    retried: Annotated[bool, InApi()] = False
    """Whether the call failed and another upstream of its tier was asked instead, which is the tier's next call. Its
    cost counts, and the plan never heard of it."""
    inner: bool = False
    """Whether the call is a part of what the next call of its kind concludes (the samples that an agreement is read
    from)."""
    tokens: TokensLine | None = None
    """Tokens of a followed draft, up to where its watch stopped."""
    judged: JudgedLine | None = None
    """The outcome of a judgement."""
    scored: ScoredLine | None = None
    """The outcome of a score."""
    max_tokens: int | None = None
    """Tokens that the plan allowed the call."""

    @property
    def duration_s(self) -> float:
        """Seconds from the request's leaving to the response's end; 0 if there was no end."""
        return 0.0 if self.sent is None or self.ended is None else self.ended - self.sent


class RequestLine(Line):
    """What the router knew of the request."""

    stream: Annotated[bool, InApi()]
    """Whether the answer was streamed."""
    judgeable: bool
    """Whether a draft is one text with meaningful log-probabilities."""
    whole: bool = False
    """Whether only a complete answer can be checked (tools, a response schema)."""
    tiers: list[Tier]
    """Tiers that could be asked."""
    able: list[Tier] = ["slm", "llm"]
    """Configured tiers that can do what the request needs, the length of its prompt aside. Older records also name
    tiers that were not configured."""
    stays: int = 0
    """Turns for which the conversation stays with the large model."""
    features: dict[str, float] = {}
    """The prompt's features, if the router reads them."""
    verifies: list[Capability] = []
    """How the large model could verify drafts, if the router speculates."""
    greedy: bool = False
    """Whether the request asks for temperature 0."""
    most: int | None = None
    """Maximum tokens of the answer, if the request sets a limit."""
    renormalised: bool = False
    """Whether a constraint on the answer makes the server renormalise the small model's log-probabilities."""
    passages: int = 0
    """Retrieved passages in the request."""
    configured: list[Tier] = ["slm", "llm"]
    """Tiers that had an upstream."""

    def to_request(self) -> Request:
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        sets = {name: frozenset(fields[name]) for name in ("tiers", "able", "verifies", "configured")}
        return Request(**fields | sets)


class AnswerLine(Line):
    """Who wrote the answer, and why."""

    route: Annotated[str, InApi()]
    """The tiers that wrote it: `slm`, `llm` or `slm+llm`."""
    reason: Annotated[Reason, InApi()]
    """Why this route."""
    confidence: Annotated[float | None, InApi()]
    """The draft's confidence, if there was one."""


class SpeculationLine(Line):
    """How drafts fared that the large model verified."""

    blocks: int
    """Blocks that were verified."""
    drafted: int
    """Tokens in these blocks."""
    accepted: int
    """Drafted tokens that are part of the answer."""
    llm_calls: int
    """Calls of the large model."""
    llm_tokens: int
    """Tokens that the large model wrote."""
    llm_tokens_alone: int
    """Tokens that the large model alone would have written."""
    slm_seconds: float
    """Seconds of the small model's calls."""
    llm_seconds: float
    """Seconds of the large model's calls."""


class PolicyLine(Line):
    """A policy that exchanges of the same file ran under."""

    type: Literal["policy"] = "policy"
    """`policy`."""
    format: Format = CURRENT
    """The format's version."""
    digest: str
    """The policy's digest."""
    policy: Policy
    """The whole policy, calibrator included."""


class ExchangeLine(Line):
    """What is known of one exchange."""

    type: Literal["exchange"] = "exchange"
    """`exchange`."""
    format: Format = CURRENT
    """The format's version."""
    id: Annotated[str, InApi()]
    """The id of `x-smallfirst-id`."""
    at: float
    """When the exchange began, in seconds since 1970."""
    endpoint: Annotated[str, InApi()]
    """`chat`, `completions`, `responses` or `embeddings`."""
    policy: Annotated[str, InApi()]
    """The policy's name."""
    digest: str
    """The digest of the policy's line."""
    request: RequestLine
    """All that the router knew of the request."""
    calls: list[CallLine]
    """The upstream calls, in order."""
    answer: AnswerLine | None
    """Who wrote the answer, and why; null if there was no answer."""
    status: Annotated[int, InApi()]
    """The HTTP status."""
    error: Annotated[str | None, InApi()]
    """The error's code, or null."""
    cancelled: Annotated[bool, InApi()]
    """Whether the client left."""
    cost_usd: Annotated[float, InApi()]
    """The cost of all calls."""
    llm_alone_usd: Annotated[float | None, InApi()]
    """An estimate of what the large model alone would have cost."""
    alone_price: Price | None
    """The price that this estimate was made with."""
    seconds: Annotated[float, InApi()]
    """The exchange's duration."""
    ttft: Annotated[float | None, InApi("time_to_first_token")]
    """Seconds to the first byte of the answer, or null."""
    speculation: Annotated[SpeculationLine | None, InApi()] = None
    """How drafts fared that the large model verified, if there were any."""
    skills: Annotated[dict[str, dict[str, Any]], InApi()] = {}
    """What each skill of the small model did, by its name: numbers and marks, no text."""
    aside: Annotated[str | None, InApi()] = None
    """What was performed instead of the policy's plan (an evaluation, a skill asked by itself). Such an exchange has no
    answer, and nothing of it is decided anew in replay. Else null."""
    left_out: Annotated[list[str], InApi()] = []
    """Kinds of the request's tools (`web_search`) that no model was offered, since nobody here can run them."""
    uncalibrated: Annotated[bool, InApi()] = False
    """Whether its confidences are those of a generic calibrator, since the small model has none of its own."""
    tags: Annotated[dict[str, str], InApi()] = {}
    """The request's `smallfirst.tags`."""
    shadow_of: Annotated[str | None, InApi()] = None
    """The exchange that this one shadowed, or evaluated."""
    content: dict[str, Any] | None = None
    """The request's body as chat or a text completion has it, if `records.content` is on and the exchange is not
    private."""
    reply: dict[str, Any] | None = None
    """Likewise the assistant's message that was served, its tool calls included; of several choices the first. Null if
    none was served, and for long answers: see Privacy."""

    @property
    def is_interrupted(self) -> bool:
        """True if the exchange was ended from outside: its client left, or the gateway stopped."""
        return self.cancelled or self.error == SHUTTING_DOWN


AnyLine = TypeAdapter[PolicyLine | ExchangeLine](
    Annotated[PolicyLine | ExchangeLine, Field(discriminator="type")]
)


class Record(Line):
    """An exchange with the policy it ran under."""

    exchange: ExchangeLine
    policy: Policy


class RecordError(ValueError):
    """Records that can't be used; the text says which, and why."""
