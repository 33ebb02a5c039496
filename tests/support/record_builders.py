"""Records of exchanges, as they would have run live."""

from collections.abc import Mapping, Sequence
from typing import Any

from support.router_builders import calibrator

from policies.records.schema import (
    AnswerLine,
    CallLine,
    ExchangeLine,
    JudgedLine,
    Record,
    RequestLine,
    TokensLine,
    UsageLine,
)
from policies.schema.policy import Policy
from routers.confidence.answer_words import token_shape
from routers.confidence.signals import compute_signals
from routers.cost import FREE, Price, compute_cost
from routers.plan import NO_FEATURES, Reason, Tier, Token, Usage, Verdict
from routers.strategies.cascade import Cascade
from routers.strategies.hedge import Hedge

PRICE: dict[Tier, Price] = {"slm": Price(per_hour=3.6), "llm": Price(input=2.0, output=8.0)}
PROMPT = 100


def policy(**changes: Any) -> Policy:
    fields = {"accept": 0.6, "commit": 0.8, "give_up": 0.2, "calibrator": calibrator(), **changes}
    return Policy(name="test", description="For tests.", router=Cascade(**fields))


def hedged(**changes: Any) -> Policy:
    fields = {"accept": 0.6, "commit": 0.8, "give_up": 0.2, "calibrator": calibrator(), **changes}
    return Policy(name="hedged", description="For tests.", router=Hedge(**fields))


def confidence(tokens: Sequence[Token], finish: str | None = "stop") -> float:
    return calibrator().confidence(compute_signals(tokens, finish), finished=True)


def tokens_line(tokens: Sequence[Token]) -> TokensLine:
    return TokensLine(
        ids=list(range(len(tokens))),
        shapes="".join(token_shape(token.text) for token in tokens),
        logprobs=[token.logprob for token in tokens],
        top=[list(token.top) for token in tokens],
        at=[0.1 * number for number in range(1, len(tokens) + 1)],
        reasoning=[place for place, token in enumerate(tokens) if token.reasoning],
    )


def call(tier: Tier, tokens: Sequence[Token] | None = None, **changes: Any) -> CallLine:
    """A call that ended well; with tokens, one that a watch followed."""
    count = 20 if tokens is None else len(tokens)
    usage = UsageLine(prompt_tokens=PROMPT, completion_tokens=count)
    dollars = compute_cost(Usage(PROMPT, count), PRICE[tier], 2.0)
    fields = {
        "tier": tier,
        "upstream": tier,
        "model": tier,
        "because": Reason.POLICY,
        "outcome": "ok",
        "finish": "stop",
        "usage": usage,
        "price": PRICE[tier],
        "cost_usd": dollars,
        "started": 0.0,
        "seconds": 2.0,
        "verdict": None,
        "reason": None,
        "confidence": None,
        "kept": 0,
        "tokens": None if tokens is None else tokens_line(tokens),
    }
    return CallLine(**{**fields, **changes})


def failed(tier: Tier, why: str = "down", tokens: Sequence[Token] | None = None, **changes: Any) -> CallLine:
    nothing = {"usage": UsageLine(prompt_tokens=0, completion_tokens=0, estimated=True), "cost_usd": 0.0}
    return call(tier, tokens, **{"outcome": why, "finish": None, **nothing, **changes})


def refused(tier: Tier, why: str = "ceiling", **changes: Any) -> CallLine:
    """A call that admission refused."""
    nobody = {"upstream": "", "model": "", "price": FREE}
    return failed(tier, why, [] if tier == "slm" else None, **{**nobody, **changes})


def stopped(tokens: Sequence[Token], **changes: Any) -> CallLine:
    """A draft given up at its last token."""
    decided = {"verdict": Verdict.GIVE_UP, "reason": Reason.GAVE_UP}
    if "confidence" not in changes:
        changes["confidence"] = calibrator().confidence(compute_signals(tokens), finished=False)
    return call("slm", tokens, **{"outcome": "stopped", "finish": None, **decided, **changes})


def outrun(tier: Tier, at: float, tokens: Sequence[Token] | None = None, **changes: Any) -> CallLine:
    """A leg of a race that was cancelled at `at`."""
    count = 20 if tokens is None else len(tokens)
    spent = {"cost_usd": compute_cost(Usage(PROMPT, count), PRICE[tier], at), "seconds": at}
    return call(tier, tokens, **{"outcome": "outrun", "finish": None, **spent, **changes})


def judgement(yes: float, tier: Tier = "slm", because: Reason = Reason.JUDGED) -> CallLine:
    """A judge's call."""
    found = JudgedLine(p={"yes": yes, "no": 1.0 - yes}, mass=0.9)
    return call(tier, ask="judge", because=because, judged=found)


def judged(tokens: Sequence[Token], accept: float = 0.6) -> CallLine:
    """A plain draft held to its end."""
    found = confidence(tokens)
    if found >= accept:
        decided = {"verdict": Verdict.COMMIT, "reason": Reason.CONFIDENT, "kept": len(tokens)}
    else:
        decided = {"verdict": Verdict.GIVE_UP, "reason": Reason.LOW_CONFIDENCE}
    return call("slm", tokens, confidence=found, **decided)


def answered(route: str, reason: Reason, confidence: float | None = None) -> AnswerLine:
    return AnswerLine(route=route, reason=reason, confidence=confidence)


def record(
    calls: Sequence[CallLine],
    answer: AnswerLine | None,
    ran_under: Policy | None = None,
    *,
    stream: bool = False,
    judgeable: bool = True,
    tiers: Sequence[Tier] = ("llm", "slm"),
    features: Mapping[str, float] = NO_FEATURES,
    whole: bool = False,
    able: Sequence[Tier] = ("llm", "slm"),
    stays: int = 0,
    **changes: Any,
) -> Record:
    ran = ran_under or policy()
    fields: dict[str, Any] = {
        "id": "sf-1",
        "at": 1.8e9,
        "endpoint": "chat/completions",
        "policy": ran.name,
        "digest": ran.digest,
        "request": RequestLine(
            stream=stream,
            judgeable=judgeable,
            whole=whole,
            tiers=list(tiers),
            able=list(able),
            stays=stays,
            features=dict(features),
        ),
        "calls": list(calls),
        "answer": answer,
        "status": 200,
        "error": None,
        "cancelled": False,
        "cost_usd": sum(line.cost_usd for line in calls),
        "llm_alone_usd": None,
        "alone_price": None,
        "seconds": 2.0,
        "ttft": None,
    }
    return Record(exchange=ExchangeLine(**{**fields, **changes}), policy=ran)
