"""Cascade: the small model drafts; its calibrated confidence accepts the draft or defers to the large model.

Deferral rule: defer when P(the draft is good enough | token-level signals) < accept. Chen et al., FrugalGPT
(arXiv 2305.05176) for the cascade; Gupta et al. (arXiv 2404.10136) for learned rules over token uncertainty.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from routers.confidence.calibration import Calibrator, LogprobSource
from routers.fragments.fallback import (
    answer_with,
    ask_capable_tier,
    ask_llm,
    ask_slm,
    fallback_reason,
    missing_llm_reason,
    resume_after_failure,
    splice,
    write,
)
from routers.judges.draft_judge import Agree, DraftJudge, Rate, Verify
from routers.plan import Answer, Capability, Draft, Generate, Plan, Reason, Tier, Unavailable, Verdict
from routers.router import Request, Router
from routers.watch import ConfidenceWatch, ObservingWatch, Release

from .difficulty import Gate

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class ConfidenceRouter(Router):
    """Base of routers that accept drafts by their confidence: thresholds, a release mode and calibrators."""

    accept: Probability
    """Lowest confidence of a finished draft that is served."""
    release: Release = "commit"
    """When a stream's draft is sent: `hold` at its end; `commit` from the moment the running confidence
    reaches `commit`; `splice` sentence by sentence while the running confidence reaches `commit`."""
    commit: Probability | None = None
    """Running confidence from which a stream's draft is sent; null: the same as `release: hold`."""
    give_up: Probability | None = None
    """Running confidence below which a draft is stopped; null: every draft is written to its end."""
    calibrator: Calibrator
    """Signals -> confidence: `stock`, which is the small model's own or else the generic one, or a calibrator's JSON
    file, its path relative to the policy's."""
    constrained_calibrator: Calibrator | None = None
    """The calibrator for answers under a constraint (a schema, choices, a forced call) if the small model's
    server renormalises their log-probabilities, as vLLM does: a file made with `smallfirst tune
    --constrained`; null: the large model answers such requests, since their drafts can't be judged."""

    @model_validator(mode="after")
    def _check_calibrator_modes(self) -> Self:
        for name, mode in (("calibrator", "free"), ("constrained_calibrator", "constrained")):
            calibrator: Calibrator | None = getattr(self, name)
            if calibrator is not None and calibrator.made_for.mode != mode:
                raise ValueError(f"{name} must be made for {mode} decoding, not {calibrator.made_for.mode}")
        return self

    @model_validator(mode="after")
    def _check_thresholds(self) -> Self:
        if self.commit is not None and self.commit < self.accept:
            raise ValueError("commit must be at least accept: a beginning says less than a finished draft")
        if self.give_up is not None and self.give_up > self.accept:
            raise ValueError("give_up must be at most accept: a draft that would be accepted is not hopeless")
        if self.release == "splice" and self.commit is None:
            raise ValueError("release: splice needs commit, the running confidence at which a sentence flows")
        return self

    @property
    def needs(self) -> Mapping[Tier, Mapping[Capability, str]]:
        splice_needs: dict[Capability, str] = (
            {"prefill": "release: splice"} if self.release == "splice" else {}
        )
        return {"slm": {"logprobs": "calibrator"}, "llm": splice_needs}

    @property
    def made_for(self) -> LogprobSource:
        return self.calibrator.made_for

    def adapt_to(self, request: Request) -> Router:
        if not request.renormalised or self.constrained_calibrator is None:
            return self
        return self.model_copy(update={"calibrator": self.constrained_calibrator})

    def _can_judge(self, request: Request) -> bool:
        """True if this router's calibrator can judge a draft for `request`."""
        return request.judgeable and request.renormalised == (self.calibrator.made_for.mode == "constrained")

    def _build_watch(self, request: Request) -> ConfidenceWatch:
        # A plain reply is sent at once: an early commit would only forgo the final, better confidence.
        early = request.stream and not request.whole and self.release != "hold"
        commit = self.commit if early else None
        return ConfidenceWatch(self.calibrator, self.accept, commit, self.give_up, self.release)

    def _build_observer(self) -> ObservingWatch:
        return ObservingWatch(self.calibrator, ends_loops=True)

    def _build_draft_ask(self, request: Request) -> Generate:
        return Generate("slm", lambda: self._build_watch(request))

    def _plan_without_draft(self, request: Request) -> Plan | None:
        """Return the plan for a request whose draft can't be made, judged or escalated, else None."""
        if "llm" not in request.able:
            return ask_slm(self._build_observer if self._can_judge(request) else None)
        if "slm" in request.incapable:
            return ask_capable_tier("llm")
        if not self._can_judge(request):
            return ask_llm(Reason.NOT_JUDGED)
        if "llm" not in request.tiers:
            return ask_slm(self._build_observer)
        return None

    def _escalate(self, draft: Draft, reason: Reason) -> Plan:
        """The large model answers, or continues the draft if the client already has its beginning."""
        if draft.kept:
            return (yield from splice(draft, self._build_observer, reason))
        try:
            llm_draft = yield from write(Generate("llm", because=reason))
            return Answer((llm_draft,), reason, draft.confidence)
        except Unavailable as failure:
            if failure.partial:
                raise
            fallback = missing_llm_reason(failure)
        if draft.finish is None:  # stopped early: there is no complete draft to fall back on
            return (yield from ask_slm(self._build_observer, fallback))
        return answer_with(draft, fallback)

    def _answer_without_slm(self, slm_failure: Unavailable) -> Plan:
        if slm_failure.partial:
            return (yield from resume_after_failure(slm_failure, slm_failure.partial, self._build_observer))
        reason = fallback_reason(slm_failure)
        try:
            return answer_with((yield from write(Generate("llm", because=reason))), reason)
        except Unavailable as llm_failure:
            return (yield from self._answer_without_both(slm_failure, llm_failure))

    def _answer_without_both(self, slm_failure: Unavailable, llm_failure: Unavailable) -> Plan:
        """Neither tier is available: wait for the small model, unless another try would fail alike."""
        if llm_failure.partial:
            raise llm_failure
        if slm_failure.why in ("context", "rejected"):
            raise slm_failure from llm_failure
        return (yield from ask_slm(self._build_observer, missing_llm_reason(llm_failure)))


class Cascade(ConfidenceRouter):
    """The small model drafts; its calibrated confidence accepts the draft or defers to the large model."""

    kind: Literal["cascade"] = "cascade"
    """Names the strategy."""
    gate: Gate | None = None
    """Tells easy prompts from hard ones, which go to the large model without a draft; null: every prompt gets
    a draft."""
    judge: DraftJudge | None = None
    """A second judgement of accepted drafts (`verify`, `rate` or `agree`); null: the confidence alone
    decides. Needs `release: hold`."""

    @property
    def max_calls(self) -> int:
        return super().max_calls + (0 if self.judge is None else self.judge.calls - 1)

    @property
    def reads_features(self) -> bool:
        return self.gate is not None

    @property
    def needs(self) -> Mapping[Tier, Mapping[Capability, str]]:
        needs = dict(super().needs)
        if self.judge is not None:
            judge_needs: dict[Capability, str] = dict.fromkeys(self.judge.needs, "judge")
            needs[self.judge.tier] = {**judge_needs, **needs[self.judge.tier]}
        return needs

    @model_validator(mode="after")
    def _check_release(self) -> Self:
        if self.judge is not None and self.release != "hold":
            raise ValueError("judge needs release: hold, since a stream that flows can't be judged any more")
        return self

    def plan(self, request: Request) -> Plan:
        if (other := self._plan_without_draft(request)) is not None:
            return (yield from other)
        if self.gate is not None and not self.gate.is_easy(request.features):
            return (yield from ask_llm(Reason.TOO_HARD, self._build_observer))
        try:
            draft = yield from write(self._build_draft_ask(request))
        except Unavailable as failure:
            return (yield from self._answer_without_slm(failure))
        if draft.verdict is Verdict.COMMIT:
            return answer_with(draft, draft.reason or Reason.CONFIDENT)
        if draft.verdict is Verdict.CONTINUE and self.judge is not None:
            return (yield from self._judge_draft(self.judge, draft))
        return (yield from self._escalate(draft, draft.reason or Reason.LOW_CONFIDENCE))

    def _build_watch(self, request: Request) -> ConfidenceWatch:
        watch = super()._build_watch(request)
        if self.judge is not None:
            watch.hold_below = self.judge.below
        return watch

    def _judge_draft(self, judge: Verify | Rate | Agree, draft: Draft) -> Plan:
        try:
            judgement = yield from judge.judge(draft.text)
        except Unavailable:  # without a judgement the confidence decides, and it has accepted the draft
            return answer_with(draft, draft.reason or Reason.CONFIDENT)
        if judgement.score >= judge.accept:
            return answer_with(draft, Reason.JUDGED)
        return (yield from self._escalate(draft, Reason.JUDGED))
