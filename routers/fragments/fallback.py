"""Plan fragments that fall back to another tier or continue an answer that has already begun."""

from routers.plan import Answer, Draft, Fragment, Generate, Plan, Reason, Tier, Unavailable, WatchFactory

RESTART_PATIENCE = 15.0
"""Seconds that a plan without another tier waits for a restarting model."""

UNAVAILABLE_REASONS: dict[Tier, Reason] = {"slm": Reason.NO_SLM, "llm": Reason.NO_LLM}
SPECIFIC_REASONS = {"context": Reason.CONTEXT_TOO_LONG, "leak": Reason.LEAK}
"""Reasons for failures that are more specific than an unavailable tier, by `Unavailable.why`."""


def fallback_reason(failure: Unavailable) -> Reason:
    """Return the reason why the other tier answers after `failure`."""
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
            return answer_with(draft, Reason.NO_LLM)
        return (yield from resume(committed, watch, Reason.NO_LLM))
    return Answer((committed, rest), reason, draft.confidence)


def ask_llm(reason: Reason, watch: WatchFactory | None = None) -> Plan:
    """The large model answers, with the small model as fallback. Raises Unavailable if both fail."""
    try:
        return answer_with((yield from write(Generate("llm", because=reason))), reason)
    except Unavailable as failure:
        if failure.partial or failure.why == "rejected":
            raise
    return (yield from ask_slm(watch))


def write(ask: Generate) -> Fragment[Draft]:
    """Yield one `Generate` and return its draft. Raises Unavailable."""
    outcome = yield ask
    assert isinstance(outcome, Draft)  # noqa: S101  every driver answers an ask in kind
    return outcome
