"""Plan fragments that fall back to another tier or continue an answer that has already begun."""

from routers.plan import (
    Answer,
    Ask,
    Draft,
    Fragment,
    Generate,
    Judge,
    Outcome,
    Plan,
    Raced,
    Reason,
    Tier,
    Unavailable,
    Verdict,
    WatchFactory,
)
from routers.plan_run import intercept_asks

RESTART_PATIENCE = 15.0
"""Seconds that a plan without another tier waits for a restarting model."""

UNAVAILABLE_REASONS: dict[Tier, Reason] = {"slm": Reason.NO_SLM, "llm": Reason.NO_LLM}
SPECIFIC_REASONS = {"context": Reason.CONTEXT_TOO_LONG, "leak": Reason.LEAK}
"""Reasons for failures that are more specific than an unavailable tier, by `Unavailable.why`."""


def refuse_downgrades(plan: Plan) -> Plan:
    """Run a plan, and end it with the failure of a large model that is misconfigured.

    A wrong key, URL or model name is an operator's mistake. A plan that made up for it with the small model would
    hide it. Failures of judgements are left to the plan, and so are races that the small model has won.
    """
    return intercept_asks(plan, _perform_checked, _is_downgrade)


def _is_downgrade(ask: Ask, failure: Unavailable) -> bool:
    return is_misconfigured(failure) and not isinstance(ask, Judge)


def _perform_checked(ask: Ask) -> Fragment[Outcome]:
    """Perform an ask. Raises the failure of a race's leg that the plan would make up for."""
    outcome = yield ask
    if isinstance(outcome, Raced):
        _check_race(outcome)
    return outcome


def _check_race(raced: Raced) -> None:
    """Raise the failure of a misconfigured large model unless the small one has committed something."""
    for failure, other in ((raced.b, raced.a), (raced.a, raced.b)):
        if isinstance(failure, Unavailable) and is_misconfigured(failure) and not _has_committed(other):
            raise failure


def _has_committed(leg: Draft | Unavailable) -> bool:
    if isinstance(leg, Unavailable):
        return leg.partial is not None
    return leg.verdict is Verdict.COMMIT or leg.kept > 0


def is_misconfigured(failure: Unavailable) -> bool:
    """Return whether the large model's provider refuses the gateway: its key, URL or model is wrong."""
    return failure.why == "misconfigured" and failure.tier == "llm"


def missing_llm_reason(failure: Unavailable) -> Reason:
    """Return the reason for the small model's answer after a failure of the large one."""
    return Reason.LLM_MISCONFIGURED if is_misconfigured(failure) else Reason.NO_LLM


def fallback_reason(failure: Unavailable) -> Reason:
    """Return the reason why the other tier answers after `failure`."""
    if is_misconfigured(failure):
        return Reason.LLM_MISCONFIGURED
    return SPECIFIC_REASONS.get(failure.why, UNAVAILABLE_REASONS[failure.tier])


def answer_with(draft: Draft, reason: Reason) -> Answer:
    """Return the answer that consists of this draft alone."""
    return Answer((draft,), reason, draft.confidence)


def ask_slm(watch: WatchFactory | None, reason: Reason = Reason.NO_LLM) -> Plan:
    """The small model answers, whatever its confidence. Waits while it restarts. Raises Unavailable."""
    try:
        draft = yield from write(Generate("slm", watch, patience=RESTART_PATIENCE, because=reason))
    except Unavailable as failure:
        if (
            failure.partial is None or not failure.partial.text
        ):  # an unwatched answer's text is not known here, so it can't be continued
            raise
        return (yield from resume(failure.partial, watch, reason))
    return answer_with(draft, reason)


def ask_capable_tier(tier: Tier) -> Plan:
    """The only tier that has the capabilities that the request needs answers. Raises Unavailable."""
    ask = Generate(tier, patience=RESTART_PATIENCE, because=Reason.NOT_CAPABLE)
    return answer_with((yield from write(ask)), Reason.NOT_CAPABLE)


def resume(partial: Draft, watch: WatchFactory | None, reason: Reason) -> Plan:
    """The small model continues `partial`, which the client already has. Raises Unavailable."""
    rest = yield from write(Generate("slm", watch, partial.text, RESTART_PATIENCE, reason))
    return Answer((partial, rest), reason, partial.confidence)


def resume_after_failure(failure: Unavailable, partial: Draft, watch: WatchFactory | None) -> Plan:
    """The small model failed after the client got `partial`: it continues once it has restarted.

    If it stays unavailable, the large model continues. Raises Unavailable if neither can.
    """
    try:
        return (yield from resume(partial, watch, Reason.COMMITTED))
    except Unavailable as next_failure:
        if next_failure.partial or next_failure.why == "ceiling":
            raise
    try:
        rest = yield from write(Generate("llm", prefix=partial.text, because=Reason.NO_SLM))
    except Unavailable as next_failure:
        raise (next_failure if next_failure.partial else failure) from next_failure
    return Answer((partial, rest), Reason.NO_SLM, partial.confidence)


def splice(draft: Draft, watch: WatchFactory | None, reason: Reason) -> Plan:
    """The large model continues the committed beginning of a draft; the small model is its fallback."""
    committed = draft._replace(
        text=draft.committed_text,
        tokens=draft.tokens[: draft.kept],
        usage=draft.usage._replace(completion_tokens=draft.kept, estimated=True),
    )
    try:
        rest = yield from write(Generate("llm", prefix=draft.committed_text, because=reason))
    except Unavailable as failure:
        if failure.partial:
            raise
        if draft.finish is not None:
            return answer_with(draft, missing_llm_reason(failure))
        return (yield from resume(committed, watch, missing_llm_reason(failure)))
    return Answer((committed, rest), reason, draft.confidence)


def ask_llm(reason: Reason, watch: WatchFactory | None = None) -> Plan:
    """The large model answers, with the small model as fallback. Raises Unavailable if both fail."""
    try:
        return answer_with((yield from write(Generate("llm", because=reason))), reason)
    except Unavailable as failure:
        if failure.partial or failure.why == "rejected":
            raise
        reason = missing_llm_reason(failure)
    return (yield from ask_slm(watch, reason))


def write(ask: Generate) -> Fragment[Draft]:
    """Yield one `Generate` and return its draft. Raises Unavailable."""
    outcome = yield ask
    assert isinstance(outcome, Draft)  # noqa: S101  every driver answers an ask in kind
    return outcome
