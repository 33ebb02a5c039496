"""An exchange of each kind, as the gateway would have recorded it."""

from typing import Any

from support.record_builders import (
    answered,
    call,
    confidence,
    failed,
    hedged,
    judged,
    judgement,
    outrun,
    policy,
    record,
    refused,
    stopped,
)
from support.router_builders import token, worth

from policies.records.schema import CallLine, Record
from policies.schema.policy import Affinity, Policy
from routers.judges.draft_judge import Agree, Verify
from routers.judges.guard import Guard
from routers.plan import Reason, Tier, Verdict
from routers.strategies.difficulty import Gate
from routers.strategies.direct import Direct

GOOD, POOR, HOPELESS, SURE = worth(0.7), worth(0.3), worth(0.1, 6), worth(0.9, 10)
SENTENCE = [*worth(0.9, 7), worth(0.9, 1)[0]._replace(text="t7."), *worth(0.0001, 5)]
"""A sure sentence, and a collapse."""
THOUGHT = [token(-5.0, f"hm{place}")._replace(reasoning=True) for place in range(9)]
GATE = Gate(limits={"turns": 3.0})
JUDGING = policy(release="hold", judge=Verify())
SLM_ONLY: tuple[Tier, ...] = ("slm",)


def committed(count: int = 10, **changes: Any) -> CallLine:
    """A sure stream: committed at its sixth token."""
    draft = worth(0.9, count)
    decided = {"verdict": Verdict.COMMIT, "reason": Reason.COMMITTED, "confidence": confidence(draft[:6])}
    return call("slm", draft, kept=count, **{**decided, **changes})


def lost_midway() -> CallLine:
    return failed("slm", "lost", SURE[:8], kept=8, begun=True, cost_usd=0.0005, verdict=None, confidence=None)


def observed(draft: list[Any], **changes: Any) -> CallLine:
    decided = {"verdict": Verdict.COMMIT, "confidence": confidence(draft), "kept": len(draft)}
    return call("slm", draft, **{**decided, **changes})


def held(draft: list[Any]) -> CallLine:
    """An accepted draft that waits for its judgement."""
    return judged(draft).model_copy(update={"verdict": Verdict.CONTINUE, "kept": 0})


def direct(**fields: Any) -> Policy:
    return Policy(name="direct", description="For tests.", router=Direct(**fields))


CASES: dict[str, Record] = {
    "the first llm failed, the second answered": record(
        [judged(POOR), failed("llm", "error", retried=True), call("llm")],
        answered("llm", Reason.LOW_CONFIDENCE, confidence(POOR)),
    ),
    "a draft lost while held, drafted anew by another": record(
        [failed("slm", "lost", GOOD, cost_usd=0.001, retried=True), judged(GOOD)],
        answered("slm", Reason.CONFIDENT, confidence(GOOD)),
    ),
    "all of a tier failed": record(
        [judged(POOR), failed("llm", "error", retried=True), failed("llm", "timeout", cost_usd=0.002)],
        answered("slm", Reason.NO_LLM, confidence(POOR)),
    ),
    "cancelled while another tried": record(
        [failed("slm", "down", [], retried=True), failed("slm", "cancelled", GOOD, cost_usd=0.001)],
        None,
        cancelled=True,
    ),
    "accepted plain": record([judged(GOOD)], answered("slm", Reason.CONFIDENT, confidence(GOOD))),
    "escalated": record(
        [judged(POOR), call("llm")], answered("llm", Reason.LOW_CONFIDENCE, confidence(POOR))
    ),
    "gave up early": record(
        [stopped(HOPELESS), call("llm")], answered("llm", Reason.GAVE_UP, stopped(HOPELESS).confidence)
    ),
    "no log-probabilities": record(
        [
            stopped([token(None)], reason=Reason.NO_LOGPROBS, confidence=None),
            call("llm"),
        ],
        answered("llm", Reason.NO_LOGPROBS),
    ),
    "empty": record(
        [call("slm", [], verdict=Verdict.GIVE_UP, reason=Reason.EMPTY), call("llm")],
        answered("llm", Reason.EMPTY),
    ),
    "doubted, the llm down": record(
        [judged(POOR), failed("llm")], answered("slm", Reason.NO_LLM, confidence(POOR))
    ),
    "given up, the llm down": record(
        [stopped(HOPELESS), failed("llm"), observed(POOR)],
        answered("slm", Reason.NO_LLM, confidence(POOR)),
    ),
    "committed early": record(
        [committed()], answered("slm", Reason.COMMITTED, confidence(SURE[:6])), stream=True
    ),
    "cancelled mid-draft": record([failed("slm", "cancelled", GOOD, cost_usd=0.001)], None, cancelled=True),
    "cancelled after a commit": record(
        [failed("slm", "cancelled", SURE[:8], kept=8)], None, stream=True, cancelled=True
    ),
    "cancelled while the llm wrote": record(
        [judged(POOR), failed("llm", "cancelled", cost_usd=0.002)], None, cancelled=True
    ),
    "cancelled before a call": record([], None, cancelled=True),
    "stopped with the gateway mid-draft": record(
        [failed("slm", "shutdown", GOOD, cost_usd=0.001)], None, error="shutting_down", status=503
    ),
    "stopped with the gateway before a call": record([], None, error="shutting_down", status=503),
    "stopped with the gateway while the answer left": record(
        [judged(GOOD)],
        answered("slm", Reason.CONFIDENT, confidence(GOOD)),
        error="shutting_down",
        status=503,
    ),
    "cancelled while the answer left": record(
        [judged(GOOD)], answered("slm", Reason.CONFIDENT, confidence(GOOD)), cancelled=True
    ),
    "lost mid-stream and resumed": record(
        [lost_midway(), observed(POOR, resumed=True)],
        answered("slm", Reason.COMMITTED, confidence(SURE[:6], None)),
        stream=True,
    ),
    "not judged": record([call("llm")], answered("llm", Reason.NOT_JUDGED), judgeable=False),
    "not judged, the llm down": record(
        [failed("llm"), call("slm")], answered("slm", Reason.NO_LLM), judgeable=False
    ),
    "the prompt too long": record(
        [failed("slm", "context", []), call("llm")], answered("llm", Reason.CONTEXT_TOO_LONG)
    ),
    "lost before anything was committed": record(
        [failed("slm", "lost", GOOD, cost_usd=0.001), call("llm")], answered("llm", Reason.NO_SLM)
    ),
    "no llm": record(
        [observed(POOR)], answered("slm", Reason.NO_LLM, confidence(POOR)), tiers=SLM_ONLY
    ),
    "no llm, not judged": record(
        [call("slm")], answered("slm", Reason.NO_LLM), tiers=SLM_ONLY, judgeable=False
    ),
    "nothing could be had": record(
        [failed("slm", tokens=[]), failed("llm"), failed("slm", tokens=[])], None, status=503, error="x"
    ),
    "the llm lost mid-stream": record(
        [judged(POOR), failed("llm", "lost", begun=True, cost_usd=0.003)], None, stream=True, status=502, error="x"
    ),
    "judged right": record(
        [held(GOOD), *[judgement(0.9)] * 2], answered("slm", Reason.JUDGED, confidence(GOOD)), JUDGING
    ),
    "judged wrong": record(
        [held(GOOD), *[judgement(0.1)] * 2, call("llm")], answered("llm", Reason.JUDGED, confidence(GOOD)), JUDGING
    ),
    "judged wrong, the llm down": record(
        [held(GOOD), *[judgement(0.1)] * 2, failed("llm")], answered("slm", Reason.NO_LLM, confidence(GOOD)), JUDGING
    ),
    "judged by samples, and by whether each supports it": record(
        [
            held(GOOD),
            call("slm", ask="judge", because=Reason.JUDGED, inner=True, cost_usd=0.003),
            judgement(0.2).model_copy(update={"inner": True}),
            judgement(0.7),
        ],
        answered("slm", Reason.JUDGED, confidence(GOOD)),
        policy(release="hold", judge=Agree(samples=2, compare="entailment")),
    ),
    "judged for itself, and by a guard": record(
        [held(GOOD), *[judgement(0.9)] * 2, judgement(0.1, because=Reason.GUARDED)],
        answered("slm", Reason.JUDGED, confidence(GOOD)),
        JUDGING.replace(guard=Guard(output=0.5)),
    ),
    "judged by a guard alone": record(
        [held(GOOD), judgement(0.1, because=Reason.GUARDED)],
        answered("slm", Reason.CONFIDENT, confidence(GOOD)),
        policy(release="hold").replace(guard=Guard(output=0.5)),
    ),
    "nobody could judge": record(
        [held(GOOD), failed("slm", "garbage", ask="judge", because=Reason.JUDGED)],
        answered("slm", Reason.CONFIDENT, confidence(GOOD)),
        JUDGING,
    ),
    "cancelled while it was judged": record(
        [held(GOOD), failed("slm", "cancelled", ask="judge", because=Reason.JUDGED)], None, JUDGING, cancelled=True
    ),
    "a flaw": record(
        [
            call("slm", GOOD, verdict=Verdict.GIVE_UP, reason=Reason.INVALID_JSON, flaw=Reason.INVALID_JSON),
            call("llm"),
        ],
        answered("llm", Reason.INVALID_JSON),
    ),
    "too hard": record(
        [call("llm")], answered("llm", Reason.TOO_HARD), policy(gate=GATE), features={"turns": 9.0}
    ),
    "spliced": record(
        [stopped(SENTENCE, kept=8), call("llm", resumed=True)],
        answered("slm+llm", Reason.GAVE_UP, stopped(SENTENCE).confidence),
        policy(release="splice"),
        stream=True,
    ),
    "reasoned": record(
        [judged([*THOUGHT, *GOOD])], answered("slm", Reason.CONFIDENT, confidence([*THOUGHT, *GOOD]))
    ),
    "direct": record([call("llm")], answered("llm", Reason.POLICY), direct(tier="llm")),
    "direct and followed": record(
        [call("slm", GOOD, verdict=Verdict.COMMIT, kept=3)],
        answered("slm", Reason.POLICY),
        direct(tier="slm", follow=True),
    ),
    "the slm won by a commit": record(
        [committed(), outrun("llm", 0.61, because=Reason.OUTRAN)],
        answered("slm", Reason.COMMITTED, confidence(SURE[:6])),
        hedged(),
        stream=True,
    ),
    "the slm won at its end": record(
        [judged(GOOD), outrun("llm", 2.01, because=Reason.OUTRAN)],
        answered("slm", Reason.CONFIDENT, confidence(GOOD)),
        hedged(),
    ),
    "the llm won by its first byte": record(
        [outrun("slm", 0.55, SURE[:5]), call("llm", because=Reason.OUTRAN, first=0.54)],
        answered("llm", Reason.OUTRAN),
        hedged(),
        stream=True,
    ),
    "the llm won at its end": record(
        [outrun("slm", 1.01, worth(0.7, 8)), call("llm", because=Reason.OUTRAN, seconds=1.0)],
        answered("llm", Reason.OUTRAN),
        hedged(),
    ),
    "the llm won after the slm had given up": record(
        [stopped(HOPELESS), call("llm", because=Reason.OUTRAN)],
        answered("llm", Reason.GAVE_UP, stopped(HOPELESS).confidence),
        hedged(),
    ),
    "the slm committed too, but second": record(
        [outrun("slm", 0.61, SURE[:6], kept=6), call("llm", because=Reason.OUTRAN, first=0.59)],
        answered("llm", Reason.OUTRAN),
        hedged(),
        stream=True,
    ),
    "no slm in the race": record(
        [failed("slm", tokens=[]), call("llm", because=Reason.OUTRAN)],
        answered("llm", Reason.NO_SLM),
        hedged(),
    ),
    "no slm configured for the race": record(
        [call("llm", because=Reason.OUTRAN)], answered("llm", Reason.NO_SLM), hedged(), tiers=("llm",)
    ),
    "no llm in the race": record(
        [judged(POOR), failed("llm", because=Reason.OUTRAN)],
        answered("slm", Reason.NO_LLM, confidence(POOR)),
        hedged(),
    ),
    "the race's winner lost midway and resumed": record(
        [lost_midway(), outrun("llm", 0.61, because=Reason.OUTRAN), observed(POOR, resumed=True)],
        answered("slm", Reason.COMMITTED, confidence(SURE[:6], None)),
        hedged(),
        stream=True,
    ),
    "the race's winner spliced": record(
        [stopped(SENTENCE, kept=8), outrun("llm", 0.81, because=Reason.OUTRAN), call("llm", resumed=True)],
        answered("slm+llm", Reason.GAVE_UP, stopped(SENTENCE).confidence),
        hedged(release="splice"),
        stream=True,
    ),
    "the llm lost after it won": record(
        [outrun("slm", 0.55, SURE[:5]), failed("llm", "lost", because=Reason.OUTRAN, begun=True, first=0.54)],
        None,
        hedged(),
        stream=True,
        status=502,
        error="x",
    ),
    "a race stopped with the gateway": record(
        [failed("slm", "shutdown", GOOD, cost_usd=0.001), failed("llm", "shutdown", because=Reason.OUTRAN)],
        None,
        hedged(),
        error="shutting_down",
        status=503,
    ),
    "a race cancelled": record(
        [failed("slm", "cancelled", GOOD, cost_usd=0.001), failed("llm", "cancelled", because=Reason.OUTRAN)],
        None,
        hedged(),
        cancelled=True,
    ),
    "a race out of time": record(
        [
            failed("slm", "ceiling", GOOD, cost_usd=0.001),
            failed("llm", "ceiling", because=Reason.OUTRAN),
            refused("slm", because=Reason.NO_LLM),
        ],
        None,
        hedged(),
        status=403,
        error="x",
    ),
    "a race out of time after a commit": record(
        [
            failed("slm", "ceiling", SURE[:8], kept=8, begun=True, cost_usd=0.0005),
            outrun("llm", 0.61, because=Reason.OUTRAN),
            refused("slm", because=Reason.COMMITTED, resumed=True),
        ],
        None,
        hedged(),
        stream=True,
        status=403,
        error="x",
    ),
    "out of time": record(
        [failed("slm", "ceiling", GOOD, cost_usd=0.001), refused("llm"), refused("slm")],
        None,
        status=403,
        error="x",
    ),
    "no calls left to escalate": record(
        [judged(POOR), refused("llm")], answered("slm", Reason.NO_LLM, confidence(POOR))
    ),
    "private": record(
        [judged(POOR), refused("llm", "private")], answered("slm", Reason.NO_LLM, confidence(POOR))
    ),
    "stays with the llm": record(
        [call("llm")],
        answered("llm", Reason.AFFINITY),
        policy().replace(affinity=Affinity(turns=2)),
        stays=2,
    ),
}  # fmt: skip
"""One of each way an exchange goes."""
