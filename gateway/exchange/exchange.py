"""One request's whole life, and the account of it."""

import random
import time
from collections.abc import Sequence
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

_ids = random.Random()  # noqa: S311  unique is enough, and the system's generator costs 10 us a number


def _decode_steps(usage: Usage) -> int:
    """Tokens that took a step each; those of a prediction are read."""
    return usage.completion_tokens - usage.accepted - usage.rejected


@dataclass(slots=True)
class Exchange:
    """`started` is on the monotonic clock, `at` on the wall's (seconds since 1970)."""

    surface: str
    """The endpoint that was asked, as metrics and records name it; `endpoint` is the upstream's that answers."""
    endpoint: Endpoint
    policy: Policy
    body: Body
    raw: bytes
    request: Request
    alone_price: Price | None
    """The LLM's price, for what it alone would have cost; None without an LLM."""
    expected: AnswerForm = ANY_FORM
    """What the request asks of its answer's form."""
    needs: Requirements = NO_REQUIREMENTS
    tags: dict[str, str] = field(default_factory=dict)
    shadow_of: str | None = None
    """The exchange that this one is tried beside; nobody gets its answer."""
    private: bool = False
    """Whether no cloud may see any of it."""
    passages: Passages | None = None
    """What was retrieved for it: all of it stands in `body`, until a plan has chosen what is shown."""
    transforms: Sequence[Transform] = ()
    """What rewrites its bodies as they leave, and their answers as they arrive."""
    skills: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each skill of the small model did for it, by the skill's name; no text of the request or the answer."""
    compressions: dict[Any, Any] = field(default_factory=dict)
    """What compression made of it, by the policy's section and the texts: its shadows have the same."""
    compressed_tokens: int = 0
    """Tokens of its prompt that its large model does not read, for they were compressed away."""
    hidden_tokens: int = 0
    """Tokens, estimated, of the passages that no writer is shown."""
    aside: str | None = None
    """What is performed instead of the policy's plan, where it has no reply: an evaluation, a skill asked by itself."""
    captured: CapturedAnswer | None = None
    """What was sent of its answer, where somebody will read it afterwards."""
    id: str = field(default_factory=lambda: f"sf-{_ids.getrandbits(80):020x}")
    at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    upstream_wait_s: float = 0.0
    """Seconds spent waiting for upstreams: the rest is our own overhead."""
    ttft: float | None = None
    calls: list[Call] = field(default_factory=list)
    answer: Answer | None = None
    decided: tuple[str, Reason, float | None] | None = None
    """Who writes, why, and the draft's confidence, once the first byte is decided on: for a stream's headers."""
    status: int = 200
    error: str | None = None
    cancelled: bool = False
    cost_usd: float = 0.0
    llm_alone_usd: float | None = None

    @property
    def wanted_logprobs(self) -> int | None:
        """Alternatives a token that the client asked for; None where it asked for no log-probabilities."""
        asked = self.body.get("logprobs")
        if self.endpoint == "completions":
            return asked if isinstance(asked, int) and not isinstance(asked, bool) else None
        return (self.body.get("top_logprobs") or 0) if asked else None

    @property
    def wants_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    def choice_count(self, ask: Generate | Question | Skill) -> int:
        """How many answers an ask has written at once."""
        if isinstance(ask, Judge):
            return ask.samples or 1
        return ask.n or self.body.get("n") or 1 if isinstance(ask, Generate) else 1

    @property
    def full_body(self) -> Body:
        """Its body as it came, with all passages."""
        return self.body if self.passages is None else self.passages.body_with()

    @property
    def max_calls(self) -> int:
        """Upstream calls that it may take, judgements of its passages included, and one more that its server may not be
        able to make."""
        judged = self.request.passages if self.policy.filter is not None else 0
        return self.policy.max_calls + judged + bool(judged)

    def show_passages(self, places: Sequence[int] | None) -> None:
        """From here on its body holds the passages at `places`, in that order: whatever is asked of it next (scores,
        judgements, evaluations) is asked of what its writers were shown. None: all, as given."""
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

    @property
    def saved_usd(self) -> float | None:
        return None if self.llm_alone_usd is None else self.llm_alone_usd - self.cost_usd

    @property
    def route(self) -> str:
        return self.answer.route if self.answer else "none"

    def create_shadow(self, policy: Policy, request: Request) -> "Exchange":
        """A second exchange on the same request under another policy, which nobody waits for."""
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
        """That this call's tier writes: its first part is about to leave. Why is what gave a draft up, where one was,
        else what it was asked for."""
        confidence = next((done.confidence for done in self.calls if done.confidence is not None), None)
        given_up = (done.reason for done in self.calls if done.verdict is Verdict.GIVE_UP)
        self.decided = (call.tier, next(given_up, None) or call.ask.because, confidence)

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def note_first_byte(self) -> None:
        if self.ttft is None:
            self.ttft = self.elapsed()

    def account(self) -> None:
        """Sums the calls, and estimates what the LLM alone would have cost."""
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
        if self.answer is not None and self.alone_price is not None:
            prompt = prompt or self.answer.parts[0].usage.prompt_tokens + self.hidden_tokens
            served = sum([part.usage.completion_tokens for part in self.answer.parts])
            self.llm_alone_usd = llm_alone_cost(prompt, served, self.policy.length_ratio, self.alone_price)

    def figures(self) -> dict[str, Any]:
        """What is known of this exchange, for headers, the last event and GET /v1/exchanges/{id}."""
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
            **({"speculation": self.speculation()} if answer and answer.speculation else {}),
            **({"skills": self.skills} if self.skills else {}),
        }

    def speculation(self) -> dict[str, float]:
        """How drafts fared that the large model verified, and what that took: the tokens that it wrote, each a decode
        step; those that it alone would have written; and the seconds of both models' calls."""
        assert self.answer is not None  # noqa: S101  asked of answered exchanges
        found = self.answer.speculation or Speculation(0, 0, 0)
        llm = [call for call in self.calls if call.tier == "llm"]
        return {
            **found._asdict(),
            "llm_calls": len(llm),
            "llm_tokens": sum(_decode_steps(call.usage) for call in llm),
            "llm_tokens_alone": sum(part.usage.completion_tokens for part in self.answer.parts),
            "slm_seconds": round(sum(call.seconds for call in self.calls if call.tier == "slm"), 6),
            "llm_seconds": round(sum(call.seconds for call in llm), 6),
        }


def without_stream_fields(body: Body) -> Body:
    return {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
