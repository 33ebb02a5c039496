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

from routers.fragments.draft_blocks import Block, agreement, verified
from routers.fragments.fallback import instead, large, served, write
from routers.fragments.verified import Verified, score
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
from routers.strict import Finite
from routers.watch import HeldWatch

from .cascade import Cascade
from .direct import Direct

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Tokens = Annotated[int, Field(ge=1, le=256)]

MOST_CALLS = 1024
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

    def fitted(self, request: Request) -> Router:
        return self.model_copy(update={"otherwise": self.otherwise.fitted(request)})

    @property
    def needs(self) -> Mapping[Tier, Mapping[Capability, str]]:
        return self.otherwise.needs

    @property
    def reads_features(self) -> bool:
        return self.otherwise.reads_features

    @property
    def speculates(self) -> bool:
        return True

    @property
    def calls(self) -> int:
        return MOST_CALLS

    def plan(self, request: Request) -> Plan:
        if not request.tiers >= {"slm", "llm"} <= request.able:
            return (yield from self.otherwise.plan(request))
        if "scoring" in request.verifies and isinstance(self.rule, Probe):
            return (yield from _drafted(partial(_probed, self.rule, request.most)))
        if "scoring" in request.verifies and request.greedy and isinstance(self.rule, Greedy):
            return (yield from _greedy(self.rule, request.most))
        if "prediction" in request.verifies:
            return (yield from _drafted(_predicted))
        answer = yield from self.otherwise.plan(request)
        return answer._replace(reason=Reason.NOT_SPECULATED)


def _greedy(rule: Greedy, most: int | None) -> Plan:
    answer, block = Verified(most), Block(rule.block, rule.longest, rule.least)
    finish: str | None = None
    while finish is None:
        if block.hopeless:
            return (yield from answer.alone(Reason.REJECTED))
        tokens = int(min(answer.left, block.size(len(answer.ids))))
        try:
            draft = yield from write(Generate("slm", HeldWatch, answer.text, max_tokens=tokens))
        except Unavailable as lost:
            if lost.why == "ceiling":
                return (yield from answer.unscored(lost))
            return (yield from answer.alone(instead(lost)))
        try:
            scored = yield from score(Score("llm", draft.text, answer.text, answer.ids))
            block.seen(draft, scored)
            finish = yield from answer.take(draft, scored)
        except Unavailable as lost:
            return (yield from answer.unscored(lost))
    return answer.answer(Reason.VERIFIED, finish)


def _drafted(settle: Callable[[Draft], Plan]) -> Plan:
    """Draft a whole answer and pass it to `settle`. The large model rewrites a flawed draft.

    A truncated draft is passed on too, since it may be right as far as it goes.
    """
    try:
        draft = yield from write(Generate("slm", HeldWatch))
    except Unavailable as lost:
        return (yield from large(instead(lost)))
    if draft.reason is not None and draft.reason is not Reason.TRUNCATED:
        return (yield from _written_anew(draft, draft.reason))
    return (yield from settle(draft))


def _probed(rule: Probe, most: int | None, draft: Draft) -> Plan:
    try:
        scored = yield from score(Score("llm", draft.text))
    except Unavailable as lost:
        return served(draft, instead(lost))
    share, tokens = agreement(scored, draft.finish), len(scored.tokens)
    if share >= rule.accept:
        return Answer((draft,), Reason.VERIFIED, share, Speculation(1, tokens, tokens))
    if share < rule.discard or not verified(scored)[0]:
        anew = yield from _written_anew(draft, Reason.REJECTED)
        return anew._replace(confidence=share, speculation=Speculation(1, tokens, 0))
    continued = yield from _continued(Verified(most, Reason.REJECTED), draft, scored)
    return continued._replace(confidence=share)


def _continued(answer: Verified, draft: Draft, scored: Scored) -> Plan:
    """Keep the draft up to its first rejected token, and let the large model continue from there."""
    try:
        finish = yield from answer.take(draft, scored)
    except Unavailable as lost:
        return (yield from answer.unscored(lost))
    if finish is not None:
        return answer.answer(Reason.REJECTED, finish)
    return (yield from answer.alone(Reason.REJECTED))


def _predicted(draft: Draft) -> Plan:
    answer = yield from _written_anew(draft, Reason.PREDICTED, prediction=draft.text)
    (part,) = answer.parts
    if part is draft:
        return answer
    usage = part.usage
    kept = usage._replace(completion_tokens=usage.completion_tokens - usage.rejected)
    predicted = Speculation(1, usage.accepted + usage.rejected, usage.accepted)
    return answer._replace(parts=(part._replace(usage=kept),), speculation=predicted)


def _written_anew(draft: Draft, reason: Reason, prediction: str = "") -> Plan:
    """The large model answers. If it is unavailable, the draft is served."""
    try:
        better = yield from write(Generate("llm", because=reason, prediction=prediction))
        return Answer((better,), reason)
    except Unavailable as gone:
        if gone.partial:
            raise
        return served(draft, instead(gone))
