"""Speculative: the small model drafts; the large model verifies the draft and writes only what it rejects.

Rule `greedy` verifies block by block: Leviathan et al., "Fast Inference from Transformers via Speculative
Decoding" (arXiv 2211.17192), at temperature 0 and over HTTP. The answer is what the large model alone would
write. Rule `probe` verifies a whole draft once, and the share of accepted tokens decides whether to defer.
Narasimhan et al., "Faster Cascades via Speculative Decoding" (arXiv 2405.19261), mix the two models token by
token; this rule serves, continues or discards the draft as a whole.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from routers.confidence.calibration import LogprobSource
from routers.config_models import Finite
from routers.fragments.draft_blocks import BlockLength, accepted_share, count_accepted
from routers.fragments.fallback import answer_with, ask_llm, fallback_reason, write
from routers.fragments.verified_answer import VerifiedAnswer, score
from routers.plan import (
    Answer,
    Capability,
    Draft,
    Generate,
    Plan,
    Reason,
    Score,
    Scored,
    Speculation,
    Tier,
    Unavailable,
)
from routers.router import Request, Router
from routers.watch import HeldWatch

from .cascade import Cascade
from .direct import Direct

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Tokens = Annotated[int, Field(ge=1, le=256)]

MAX_CALLS = 1024
"""Maximum calls of one exchange: enough for 512 tokens in blocks of one token, at two calls per block."""


class Greedy(Finite):
    """The answer is what the large model alone writes at temperature 0, the only one it speculates at."""

    kind: Literal["greedy"] = "greedy"
    """Names the rule."""
    block: Tokens | None = None
    """Tokens drafted per block; null: adapted to the measured acceptance and times."""
    longest: Tokens = 32
    """Maximum tokens per block if the length is adapted."""
    least: Share = 0.2
    """Acceptance rate below which, after the first few tokens, the large model continues alone."""


class Probe(Finite):
    """The confidence in a draft is the share of its tokens that the large model would have written itself.

    Each token is compared with the large model's choice after the draft's own tokens before it.
    """

    kind: Literal["probe"] = "probe"
    """Names the rule."""
    accept: Share
    """Lowest share at which the draft is served."""
    discard: Share = 0.0
    """Share below which the whole draft is discarded; from here up to `accept`, the large model continues
    from the first token that it would not have written."""


class Speculative(Router):
    """The small model drafts and the large model verifies, if an upstream of its tier can."""

    kind: Literal["speculative"] = "speculative"
    """Names the strategy."""
    rule: Annotated[Greedy | Probe, Field(discriminator="kind")] = Greedy()
    """The rule that accepts drafted tokens."""
    otherwise: Annotated[Cascade | Direct, Field(discriminator="kind")]
    """The strategy for requests whose drafts no upstream can verify."""

    def adapt_to(self, request: Request) -> Router:
        return self.model_copy(update={"otherwise": self.otherwise.adapt_to(request)})

    @property
    def needs(self) -> Mapping[Tier, Mapping[Capability, str]]:
        return self.otherwise.needs

    @property
    def reads_features(self) -> bool:
        return self.otherwise.reads_features

    @property
    def made_for(self) -> LogprobSource | None:
        return self.otherwise.made_for

    @property
    def speculates(self) -> bool:
        return True

    @property
    def max_calls(self) -> int:
        return MAX_CALLS

    def plan(self, request: Request) -> Plan:
        if not request.tiers >= {"slm", "llm"} <= request.able:
            return (yield from self.otherwise.plan(request))
        if "scoring" in request.verifies and isinstance(self.rule, Probe):
            return (yield from _plan_whole_draft(partial(_probe, self.rule, request.most)))
        if "scoring" in request.verifies and request.greedy and isinstance(self.rule, Greedy):
            return (yield from _plan_greedy(self.rule, request.most))
        if "prediction" in request.verifies:
            return (yield from _plan_whole_draft(_rewrite_with_prediction))
        answer = yield from self.otherwise.plan(request)
        return answer._replace(reason=Reason.NOT_SPECULATED)


def _plan_greedy(rule: Greedy, max_tokens: int | None) -> Plan:
    answer, block = VerifiedAnswer(max_tokens), BlockLength(rule.block, rule.longest, rule.least)
    finish: str | None = None
    while finish is None:
        if block.is_hopeless:
            return (yield from answer.continue_with_llm(Reason.REJECTED))
        tokens = int(min(answer.remaining, block.next_length(len(answer.ids))))
        try:
            draft = yield from write(Generate("slm", HeldWatch, answer.text, max_tokens=tokens))
        except Unavailable as failure:
            if failure.why == "ceiling":
                return (yield from answer.settle_unscored(failure))
            return (yield from answer.continue_with_llm(fallback_reason(failure)))
        try:
            scored = yield from score(Score("llm", draft.text, answer.text, answer.ids))
            block.update(draft, scored)
            finish = yield from answer.commit_accepted(draft, scored)
        except Unavailable as failure:
            return (yield from answer.settle_unscored(failure))
    return answer.build_answer(Reason.VERIFIED, finish)


def _plan_whole_draft(settle: Callable[[Draft], Plan]) -> Plan:
    """Draft a whole answer and pass it to `settle`. The large model rewrites a flawed draft.

    A truncated draft is passed on too, since it may be right as far as it goes.
    """
    try:
        draft = yield from write(Generate("slm", HeldWatch))
    except Unavailable as failure:
        return (yield from ask_llm(fallback_reason(failure)))
    if draft.reason is not None and draft.reason is not Reason.TRUNCATED:
        return (yield from _rewrite(draft, draft.reason))
    return (yield from settle(draft))


def _probe(rule: Probe, max_tokens: int | None, draft: Draft) -> Plan:
    try:
        scored = yield from score(Score("llm", draft.text))
    except Unavailable as failure:
        return answer_with(draft, fallback_reason(failure))
    share, tokens = accepted_share(scored, draft.finish), len(scored.tokens)
    if share >= rule.accept:
        return Answer((draft,), Reason.VERIFIED, share, Speculation(1, tokens, tokens))
    if share < rule.discard or not count_accepted(scored)[0]:
        rewritten = yield from _rewrite(draft, Reason.REJECTED)
        return rewritten._replace(confidence=share, speculation=Speculation(1, tokens, 0))
    answer = yield from _continue_draft(VerifiedAnswer(max_tokens, Reason.REJECTED), draft, scored)
    return answer._replace(confidence=share)


def _continue_draft(answer: VerifiedAnswer, draft: Draft, scored: Scored) -> Plan:
    """Keep the draft up to its first rejected token, and let the large model continue from there."""
    try:
        finish = yield from answer.commit_accepted(draft, scored)
    except Unavailable as failure:
        return (yield from answer.settle_unscored(failure))
    if finish is not None:
        return answer.build_answer(Reason.REJECTED, finish)
    return (yield from answer.continue_with_llm(Reason.REJECTED))


def _rewrite_with_prediction(draft: Draft) -> Plan:
    answer = yield from _rewrite(draft, Reason.PREDICTED, prediction=draft.text)
    (part,) = answer.parts
    if part is draft:
        return answer
    usage = part.usage
    served_usage = usage._replace(completion_tokens=usage.completion_tokens - usage.rejected)
    speculation = Speculation(1, usage.accepted + usage.rejected, usage.accepted)
    return answer._replace(parts=(part._replace(usage=served_usage),), speculation=speculation)


def _rewrite(draft: Draft, reason: Reason, prediction: str = "") -> Plan:
    """The large model answers. If it is unavailable, the draft is served."""
    try:
        llm_draft = yield from write(Generate("llm", because=reason, prediction=prediction))
        return Answer((llm_draft,), reason)
    except Unavailable as failure:
        if failure.partial:
            raise
        return answer_with(draft, fallback_reason(failure))
