"""Plan fragments for when a tier is lost, or an answer is already begun: the client gets the best that is left."""

from routers.plan import Answer, Draft, Fragment, Generate, Plan, Reason, Tier, Unavailable, WatchFactory

RESTART_PATIENCE = 15.0
"""Seconds a plan without another tier waits for a small model that is restarting."""

FALLBACK_REASON: dict[Tier, Reason] = {"slm": Reason.NO_SLM, "llm": Reason.NO_LLM}
REASONS = {"context": Reason.CONTEXT_TOO_LONG, "leak": Reason.LEAK}
"""Of losses that say more than that a tier could not be had."""


def instead(lost: Unavailable) -> Reason:
    """Why the other tier answers."""
    return REASONS.get(lost.why, FALLBACK_REASON[lost.tier])


def served(draft: Draft, reason: Reason) -> Answer:
    return Answer((draft,), reason, draft.confidence)


def alone(observe: WatchFactory | None, reason: Reason = Reason.NO_LLM) -> Plan:
    """The small model's answer, whatever it is worth; it is waited for while it restarts."""
    try:
        draft = yield from write(Generate("slm", observe, patience=RESTART_PATIENCE, because=reason))
    except Unavailable as lost:
        if (
            lost.partial is None or not lost.partial.text
        ):  # nobody read what was relayed: from where to go on?
            raise
        return (yield from resume(lost.partial, observe, reason))
    return served(draft, reason)


def capable(tier: Tier) -> Plan:
    """The answer of the only tier that can do what the request needs: the other would be asked in vain."""
    ask = Generate(tier, patience=RESTART_PATIENCE, because=Reason.NOT_CAPABLE)
    return served((yield from write(ask)), Reason.NOT_CAPABLE)


def resume(begun: Draft, observe: WatchFactory | None, reason: Reason) -> Plan:
    """The client has the answer's beginning: its writer goes on from there."""
    rest = yield from write(Generate("slm", observe, begun.text, RESTART_PATIENCE, reason))
    return Answer((begun, rest), reason, begun.confidence)


def go_on(lost: Unavailable, begun: Draft, observe: WatchFactory | None) -> Plan:
    """The client has the beginning of a draft whose writer was lost: it goes on once it can be had again, and where it
    can't, the large model does."""
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
    """The large model goes on from the draft's committed beginning; the small one where that fails."""
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
    """The large model, the small one as fallback; for requests on which no draft is made or judged."""
    try:
        return served((yield from write(Generate("llm", because=reason))), reason)
    except Unavailable as gone:
        if gone.partial or gone.why == "rejected":
            raise
    return (yield from alone(observe))


def write(ask: Generate) -> Fragment[Draft]:
    """One `Generate`: its outcome is a draft."""
    outcome = yield ask
    assert isinstance(outcome, Draft)  # noqa: S101  every driver answers an ask in kind
    return outcome
