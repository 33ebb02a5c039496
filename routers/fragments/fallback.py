"""Plan fragments that fall back to another tier or continue an answer that has already begun."""

from routers.plan import Answer, Draft, Fragment, Generate, Plan, Reason, Tier, Unavailable, WatchFactory

RESTART_PATIENCE = 15.0
"""Seconds that a plan without another tier waits for a restarting model."""

FALLBACK_REASON: dict[Tier, Reason] = {"slm": Reason.NO_SLM, "llm": Reason.NO_LLM}
REASONS = {"context": Reason.CONTEXT_TOO_LONG, "leak": Reason.LEAK}
"""Reasons for failures that are more specific than an unavailable tier, by `Unavailable.why`."""


def instead(lost: Unavailable) -> Reason:
    """Return the reason why the other tier answers after `failure`."""
    return REASONS.get(lost.why, FALLBACK_REASON[lost.tier])


def served(draft: Draft, reason: Reason) -> Answer:
    """Return the answer that consists of this draft alone."""
    return Answer((draft,), reason, draft.confidence)


def alone(observe: WatchFactory | None, reason: Reason = Reason.NO_LLM) -> Plan:
    """The small model answers, whatever its confidence. Waits while it restarts. Raises Unavailable."""
    try:
        draft = yield from write(Generate("slm", observe, patience=RESTART_PATIENCE, because=reason))
    except Unavailable as lost:
        if (
            lost.partial is None or not lost.partial.text
        ):  # an unwatched answer's text is not known here, so it can't be continued
            raise
        return (yield from resume(lost.partial, observe, reason))
    return served(draft, reason)


def capable(tier: Tier) -> Plan:
    """The only tier that has the capabilities that the request needs answers. Raises Unavailable."""
    ask = Generate(tier, patience=RESTART_PATIENCE, because=Reason.NOT_CAPABLE)
    return served((yield from write(ask)), Reason.NOT_CAPABLE)


def resume(begun: Draft, observe: WatchFactory | None, reason: Reason) -> Plan:
    """The small model continues `partial`, which the client already has. Raises Unavailable."""
    rest = yield from write(Generate("slm", observe, begun.text, RESTART_PATIENCE, reason))
    return Answer((begun, rest), reason, begun.confidence)


def go_on(lost: Unavailable, begun: Draft, observe: WatchFactory | None) -> Plan:
    """The small model failed after the client got `partial`: it continues once it has restarted.

    If it stays unavailable, the large model continues. Raises Unavailable if neither can.
    """
    try:
        return (yield from resume(begun, observe, Reason.COMMITTED))
    except Unavailable as gone:
        if gone.partial or gone.why == "ceiling":
            raise
    try:
        rest = yield from write(Generate("llm", prefix=begun.text, because=Reason.NO_SLM))
    except Unavailable as gone:
        raise (gone if gone.partial else lost) from gone
    return Answer((begun, rest), Reason.NO_SLM, begun.confidence)


def splice(begun: Draft, observe: WatchFactory | None, reason: Reason) -> Plan:
    """The large model continues the committed beginning of a draft; the small model is its fallback."""
    kept = begun._replace(
        text=begun.kept_text,
        tokens=begun.tokens[: begun.kept],
        usage=begun.usage._replace(completion_tokens=begun.kept, estimated=True),
    )
    try:
        rest = yield from write(Generate("llm", prefix=begun.kept_text, because=reason))
    except Unavailable as gone:
        if gone.partial:
            raise
        if begun.finish is not None:
            return served(begun, Reason.NO_LLM)
        return (yield from resume(kept, observe, Reason.NO_LLM))
    return Answer((kept, rest), reason, begun.confidence)


def large(reason: Reason, observe: WatchFactory | None = None) -> Plan:
    """The large model answers, with the small model as fallback. Raises Unavailable if both fail."""
    try:
        return served((yield from write(Generate("llm", because=reason))), reason)
    except Unavailable as gone:
        if gone.partial or gone.why == "rejected":
            raise
    return (yield from alone(observe))


def write(ask: Generate) -> Fragment[Draft]:
    """Yield one `Generate` and return its draft. Raises Unavailable."""
    outcome = yield ask
    assert isinstance(outcome, Draft)  # noqa: S101  every driver answers an ask in kind
    return outcome
