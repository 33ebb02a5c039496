"""Speculative: the small model drafts, the large one verifies, and writes only what the draft got wrong.

Rule `greedy`, block by block: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding" (arXiv
2211.17192), at temperature 0, over HTTP: the answer is the large model's own. Rule `probe`, the whole draft once: its
agreement with the large model defers, as in Narasimhan et al., "Faster Cascades via Speculative Decoding" (arXiv
2405.19261), whose rules mix the two models token by token; ours serves, continues or discards the draft as a whole.
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
"""Two calls a block of one token would write an answer of 512."""


class Greedy(Finite):
    """The answer is what the large model alone writes at temperature 0; requests at others are not speculated on."""

    kind: Literal["greedy"] = "greedy"
    """Names the rule."""
    block: Tokens | None = None
    """Tokens that are drafted at a time; null: adapted to the acceptance and the times seen."""
    longest: Tokens = 32
    """Most that are, where it is adapted."""
    least: Share = 0.2
    """Share of drafted tokens accepted, after the first few, under which the large model goes on alone."""


class Probe(Finite):
    """The share of a whole draft's tokens that the large model would have written itself, each after the draft's own
    ones before it, is the confidence in it."""

    kind: Literal["probe"] = "probe"
    """Names the rule."""
    accept: Share
    """Lowest share with which the draft is served."""
    discard: Share = 0.0
    """Share under which nothing of the draft is kept; between the two the large model goes on from the first token that
    it would not have written."""


class Speculative(Router):
    """The small model drafts and the large one verifies, where an upstream of its tier can."""

    kind: Literal["speculative"] = "speculative"
    """Names the strategy."""
    rule: Annotated[Greedy | Probe, Field(discriminator="kind")] = Greedy()
    """Which drafted tokens stand."""
    otherwise: Annotated[Cascade | Direct, Field(discriminator="kind")]
    """The strategy for requests whose drafts nobody can verify."""

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
    """What is made of a whole draft; the large model's answer for one that is no use to anybody. What was cut off may
    still be right as far as it goes."""
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
    """The draft as far as the large model would have written it, and the large model from there."""
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
    """The large model's answer; where it can't be had, the draft stands."""
    try:
        better = yield from write(Generate("llm", because=reason, prediction=prediction))
        return Answer((better,), reason)
    except Unavailable as gone:
        if gone.partial:
            raise
        return served(draft, instead(gone))
