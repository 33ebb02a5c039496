"""Reasons: why an exchange took its route."""

from enum import StrEnum


class Reason(StrEnum):
    """The reason for an exchange's route, as the header `x-smallfirst-reason` reports it."""

    POLICY = "policy"
    """The policy always asks this tier first."""
    CONFIDENT = "confident"
    """The finished draft's confidence reached `accept`."""
    COMMITTED = "committed"
    """A stream's running confidence reached `commit` before the draft was finished."""
    LOW_CONFIDENCE = "low_confidence"
    """The finished draft's confidence was below `accept`."""
    GAVE_UP = "gave_up"
    """The running confidence fell below `give_up`, so the draft was stopped early."""
    EMPTY = "empty"
    """The draft had no text."""
    NO_LOGPROBS = "no_logprobs"
    """The small model's server sent no log-probabilities by which to judge the draft."""
    NOT_JUDGED = "not_judged"
    """The policy's calibrator can't judge drafts for this kind of request (several choices, audio, a
    constrained answer)."""
    NOT_CAPABLE = "not_capable"
    """No upstream of the tier that would be asked first has a capability that the request needs."""
    TOO_HARD = "too_hard"
    """By its difficulty score or a limit, the prompt is too hard for the small model."""
    EASY = "easy"
    """By its difficulty score and limits, the prompt is easy enough for the small model."""
    JUDGED = "judged"
    """A judgement of the finished draft decided."""
    RELEVANCE = "relevance"
    """A call judged a retrieved passage before the answer was written; never the reason of an answer."""
    OUTRAN = "outran"
    """Both tiers were asked together, and this one committed first."""
    VERIFIED = "verified"
    """The large model verified the small model's draft, token by token."""
    REJECTED = "rejected_draft"
    """The large model accepted too little of the draft, and wrote the rest, or all of it."""
    PREDICTED = "predicted"
    """The large model answered with the draft as its prediction (OpenAI's Predicted Outputs)."""
    NOT_SPECULATED = "not_speculated"
    """The policy speculates, but no upstream of the large model verifies drafts of such a request, so the
    policy's `otherwise` answered."""
    COMPRESSED = "compressed"
    """In a call that compresses the prompt, the small model read it, so that the large model reads less of
    it; never the reason of an answer."""
    AFFINITY = "affinity"
    """An earlier turn of the conversation was escalated, so it stays with the large model for some turns."""
    INVALID_JSON = "invalid_json"
    """The request asked for JSON, and the draft does not parse."""
    SCHEMA_MISMATCH = "schema_mismatch"
    """The draft does not meet the request's schema, choices or pattern."""
    TOOL_NOT_OFFERED = "tool_not_offered"
    """The draft calls a tool that the request did not offer, or calls none although one was required."""
    TOOL_ARGUMENTS = "tool_arguments"
    """The arguments of a tool call are not JSON that meets the tool's schema."""
    LOOP = "loop"
    """The draft repeats itself."""
    REFUSAL = "refusal"
    """The draft declines to answer."""
    TRUNCATED = "truncated"
    """The draft reached its token limit before its end."""
    CONTEXT_TOO_LONG = "context_too_long"
    """The prompt does not fit the context of the tier that was asked first."""
    GUARDED = "guarded"
    """The guard flagged the request or the first answer, so the tier that its `action` names answers
    instead."""
    LEAK = "leak"
    """The answer of the tier that was asked first reproduced the system prompt, so the other tier answers."""
    NO_LLM = "no_llm"
    """No large model was available (none configured, down, busy, failing, or it rejected the request), so the small
    model's answer is served."""
    LLM_MISCONFIGURED = "llm_misconfigured"
    """The large model's provider refuses the gateway (its key, URL or model is wrong), and the policy lets the small
    model answer instead."""
    NO_SLM = "no_slm"
    """No small model was available (none configured, down, busy, or it refused), so the large model
    answers."""


ESCALATIONS = frozenset(
    {
        *(Reason.LOW_CONFIDENCE, Reason.GAVE_UP, Reason.EMPTY, Reason.NO_LOGPROBS, Reason.JUDGED),
        *(Reason.INVALID_JSON, Reason.SCHEMA_MISMATCH, Reason.TOOL_NOT_OFFERED, Reason.TOOL_ARGUMENTS),
        *(Reason.LOOP, Reason.REFUSAL, Reason.TRUNCATED, Reason.CONTEXT_TOO_LONG, Reason.TOO_HARD),
        *(Reason.GUARDED, Reason.LEAK),
    }
)
"""Reasons to ask the large model that depend on the conversation, not on the state of the servers."""
