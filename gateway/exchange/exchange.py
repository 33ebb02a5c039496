"""One request's whole life: its body and policy, its calls, its answer, its cost."""

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.skills.transforms import Transform
from gateway.wire.body_types import Body, Endpoint
from gateway.wire.requests import estimate_prompt_tokens
from gateway.wire.requirements import NO_REQUIREMENTS, Requirements, min_prompt_tokens
from policies.schema.policy import Policy
from routers.cost import Price, llm_alone_cost
from routers.plan import (
    Answer,
    Generate,
    Judge,
    Question,
    Reason,
    Say,
    Skill,
    Speculation,
    Usage,
    Verdict,
)
from routers.router import Request
from routers.structure.answer_form import ANY_FORM, AnswerForm

from .call import Call
from .captured import CapturedAnswer
from .filter_report import report_filter
from .passages import Passages

ID_BYTES = 10
IDS_PER_READ = 256


def generate_ids() -> Iterator[str]:
    """Yield ids that nobody can guess, since whoever knows one can read its exchange's figures.

    The system's random numbers are read many at once, which takes a quarter of the time.
    """
    while True:
        digits = secrets.token_hex(ID_BYTES * IDS_PER_READ)
        for at in range(0, len(digits), 2 * ID_BYTES):
            yield f"sf-{digits[at : at + 2 * ID_BYTES]}"


_ids = generate_ids()


def _decode_steps(usage: Usage) -> int:
    """Return the number of decode steps: completion tokens, without those of a prediction, which are prefilled."""
    return usage.completion_tokens - usage.accepted - usage.rejected


@dataclass(slots=True)
class Exchange:
    """One request, from its arrival to its record.

    `started` is on the monotonic clock, `at` on the wall clock (seconds since 1970).
    """

    surface: str
    """The requested endpoint, as metrics and records name it. `endpoint` is the upstream's endpoint that answers."""
    endpoint: Endpoint
    policy: Policy
    body: Body
    raw: bytes
    request: Request
    alone_price: Price | None
    """The price of the LLM, to estimate the cost of the LLM alone; None without an LLM."""
    expected: AnswerForm = ANY_FORM
    """The form (JSON, schema, tool calls) that the request demands of its answer."""
    needs: Requirements = NO_REQUIREMENTS
    tags: dict[str, str] = field(default_factory=dict)
    shadow_of: str | None = None
    """The id of the exchange that this one shadows. No client gets a shadow's answer."""
    private: bool = False
    """Whether no cloud upstream may see any of the request."""
    passages: Passages | None = None
    """The retrieved passages. `body` holds all of them until a plan has chosen which to show."""
    transforms: Sequence[Transform] = ()
    """Transforms that rewrite request bodies before they are sent, and answers as they arrive."""
    skills: dict[str, dict[str, Any]] = field(default_factory=dict)
    """A report of each skill, by the skill's name. Reports hold no text of the request or the answer."""
    compressions: dict[Any, Any] = field(default_factory=dict)
    """Compressions of its texts, by the policy's section and the texts. Shadows share this cache."""
    compressed_tokens: int = 0
    """Prompt tokens that compression has removed for the large model."""
    hidden_tokens: int = 0
    """Estimated tokens of the passages that are shown to no model that writes."""
    aside: str | None = None
    """What is performed instead of the policy's plan, if the exchange has no reply: an evaluation or a single skill."""
    left_out: list[str] = field(default_factory=list)
    """Kinds of the request's tools that no model was offered, since nobody here can run them."""
    captured: CapturedAnswer | None = None
    """The sent answer, if it is needed after the request; else None."""
    id: str = field(default_factory=_ids.__next__)
    at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    upstream_wait_s: float = 0.0
    """Seconds spent waiting for upstreams. The rest of `seconds` is the gateway's overhead."""
    ttft: float | None = None
    calls: list[Call] = field(default_factory=list)
    answer: Answer | None = None
    decided: tuple[str, Reason, float | None] | None = None
    """Route, reason and the draft's confidence, once it is decided which model writes: for a stream's headers."""
    status: int = 200
    error: str | None = None
    """The code of the error that the client got, which may be an upstream's own."""
    error_reason: str | None = None
    """What metrics count the error as."""
    cancelled: bool = False
    route: str = "none"
    """The tiers whose text the answer holds, once the exchange is accounted for; "none" without an answer."""
    cost_usd: float = 0.0
    llm_alone_usd: float | None = None
    saved_usd: float | None = None

    @property
    def is_uncalibrated(self) -> bool:
        """Whether its confidences are those of a generic calibrator."""
        return self.policy.is_uncalibrated(self.request)

    @property
    def wanted_logprobs(self) -> int | None:
        """The requested number of alternatives for each token; None if no log-probabilities are requested."""
        logprobs = self.body.get("logprobs")
        if self.endpoint == "completions":
            return logprobs if isinstance(logprobs, int) and not isinstance(logprobs, bool) else None
        return (self.body.get("top_logprobs") or 0) if logprobs else None

    @property
    def wants_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    def choice_count(self, ask: Generate | Question | Say | Skill) -> int:
        """Return how many choices or samples a call of the ask writes."""
        if isinstance(ask, Judge):
            return ask.samples or 1
        return ask.n or self.body.get("n") or 1 if isinstance(ask, Generate) else 1

    @property
    def full_body(self) -> Body:
        """The body with all passages, before a plan has chosen which to show."""
        return self.body if self.passages is None else self.passages.body_with()

    @property
    def max_calls(self) -> int:
        """The maximum number of upstream calls, including one for each passage that a filter judges.

        A filter gets one more, since a server may turn out to be unable to judge.
        """
        judgements = self.request.passages if self.policy.filter is not None else 0
        return self.policy.max_calls + judgements + bool(judgements)

    def show_passages(self, places: Sequence[int] | None) -> None:
        """Make the body hold only the passages at `places`, in that order; None means all, in the given order.

        Later asks (drafts, scores, judgements, evaluations) then see the same passages as the models that write.
        """
        if self.passages is None or self.policy.filter is None or "filter" in self.skills:
            return
        self.skills["filter"] = report_filter(
            self.calls, self.policy.filter, len(self.passages.retrieved), places
        )
        if places is not None:
            self.body = self.passages.body_with(places)
            before, self.raw = estimate_prompt_tokens(self.raw), orjson.dumps(self.body)
            self.hidden_tokens = max(0, before - estimate_prompt_tokens(self.raw))
            if self.needs.tokens:
                self.needs = self.needs._replace(tokens=min_prompt_tokens(self.body, self.endpoint))

    def create_shadow(self, policy: Policy, request: Request) -> "Exchange":
        """Return a second exchange of the same request under another policy. No client waits for it."""
        body = without_stream_fields(self.full_body)
        return Exchange(
            surface=self.surface,
            endpoint=self.endpoint,
            policy=policy,
            body=body,
            raw=orjson.dumps(body),
            request=request,
            alone_price=self.alone_price,
            expected=self.expected,
            needs=self.needs,
            tags=self.tags,
            private=self.private
            or policy.private is True
            or (self.answer is not None and self.answer.local_only),
            passages=self.passages and self.passages._replace(bare=without_stream_fields(self.passages.bare)),
            transforms=self.transforms,
            compressions=self.compressions,
            shadow_of=self.id,
        )

    def note_decision(self, call: Call) -> None:
        """Set `decided` when the first part of the call's answer is about to be sent.

        The reason is why an earlier draft was given up, if one was, else why this call was made.
        """
        confidence = next((done.confidence for done in self.calls if done.confidence is not None), None)
        given_up = (done.reason for done in self.calls if done.verdict is Verdict.GIVE_UP)
        self.decided = (call.tier, next(given_up, None) or call.ask.because, confidence)

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def note_first_byte(self) -> None:
        if self.ttft is None:
            self.ttft = self.elapsed()

    def account(self) -> None:
        """Sum up the exchange: its route, the costs of its calls, and what the LLM alone would have cost."""
        self.cost_usd = 0.0
        prompt = 0
        for call in self.calls:
            self.cost_usd += call.cost_usd
            if not prompt and call.outcome == "ok" and not isinstance(call.ask, (Skill, Judge)):
                prompt = (
                    call.usage.prompt_tokens
                    + (self.compressed_tokens if call.tier == "llm" else 0)
                    + self.hidden_tokens
                )
        if self.answer is None:
            return
        self.route = self.answer.route
        if self.alone_price is not None:
            prompt = prompt or self.answer.parts[0].usage.prompt_tokens + self.hidden_tokens
            served = sum([part.usage.completion_tokens for part in self.answer.parts])
            self.llm_alone_usd = llm_alone_cost(prompt, served, self.policy.length_ratio, self.alone_price)
            self.saved_usd = self.llm_alone_usd - self.cost_usd

    def figures(self) -> dict[str, Any]:
        """Return the known figures, for the last event of a stream and GET /v1/exchanges/{id}. Costs are in dollars."""
        answer = self.answer
        return {
            "id": self.id,
            "policy": self.policy.name,
            "route": self.route,
            "reason": answer.reason if answer else None,
            "confidence": answer.confidence if answer else None,
            "cost_usd": self.cost_usd,
            "llm_alone_usd": self.llm_alone_usd,
            "saved_usd": self.saved_usd,
            **({"uncalibrated": True} if self.is_uncalibrated else {}),
            **({"speculation": self.speculation()} if answer and answer.speculation else {}),
            **({"skills": self.skills} if self.skills else {}),
        }

    def speculation(self) -> dict[str, float]:
        """Return the figures of speculative decoding: draft tokens and acceptance, and what the verification took.

        `llm_tokens` are the LLM's decode steps, `llm_tokens_alone` those of the LLM without drafts.
        """
        assert self.answer is not None  # noqa: S101  only answered exchanges have these figures
        speculation = self.answer.speculation or Speculation(0, 0, 0)
        llm = [call for call in self.calls if call.tier == "llm"]
        return {
            **speculation._asdict(),
            "llm_calls": len(llm),
            "llm_tokens": sum(_decode_steps(call.usage) for call in llm),
            "llm_tokens_alone": sum(part.usage.completion_tokens for part in self.answer.parts),
            "slm_seconds": round(sum(call.seconds for call in self.calls if call.tier == "slm"), 6),
            "llm_seconds": round(sum(call.seconds for call in llm), 6),
        }


def without_stream_fields(body: Body) -> Body:
    return {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
