"""Why an exchange took its route."""

from enum import StrEnum


class Reason(StrEnum):
    """Why an exchange took its route, as `x-smallfirst-reason` reports it."""

    POLICY = "policy"
    """The policy always asks this tier first."""
    CONFIDENT = "confident"
    """The finished draft's confidence reached `accept`."""
    COMMITTED = "committed"
    """A stream's running confidence reached `commit` before the draft was finished."""
    LOW_CONFIDENCE = "low_confidence"
    """The finished draft's confidence stayed under `accept`."""
    GAVE_UP = "gave_up"
    """The running confidence fell under `give_up`: the draft was stopped early."""
    EMPTY = "empty"
    """The draft had no text."""
    NO_LOGPROBS = "no_logprobs"
    """The small model's server sent no log-probabilities to judge the draft by."""
    NOT_JUDGED = "not_judged"
    """The request (several choices, audio) is one whose draft no calibrator here judges."""
    NOT_CAPABLE = "not_capable"
    """The request needs what no upstream of the tier that would be asked first can do."""
    TOO_HARD = "too_hard"
    """The prompt's difficulty score says that the small model is not worth asking."""
    EASY = "easy"
    """The prompt's difficulty score says that the small model will do."""
    JUDGED = "judged"
    """A judgement of the draft, asked after it was finished, decided."""
    RELEVANCE = "relevance"
    """A retrieved passage was judged, before anything was written; no answer has it for its reason."""
    OUTRAN = "outran"
    """Both tiers were asked together, and this one committed first."""
    VERIFIED = "verified"
    """The large model verified the small one's draft, token by token."""
    REJECTED = "rejected_draft"
    """The large model would have written too little of the draft itself, and wrote the rest, or all of it."""
    PREDICTED = "predicted"
    """The large model wrote, with the draft as its prediction (OpenAI's Predicted Outputs)."""
    NOT_SPECULATED = "not_speculated"
    """The policy speculates, but no upstream of the large model verifies drafts of such a request: what the policy has
    instead answered."""
    COMPRESSED = "compressed"
    """Of a call beside the answer: the small model read the prompt, so that the large one reads less of it."""
    AFFINITY = "affinity"
    """The conversation was escalated before, and stays with the large model for a while."""
    INVALID_JSON = "invalid_json"
    """The request asked for JSON, and the draft does not parse."""
    SCHEMA_MISMATCH = "schema_mismatch"
    """The draft's JSON does not meet the request's schema."""
    TOOL_NOT_OFFERED = "tool_not_offered"
    """The draft calls a tool that the request did not offer, or calls none where one was required."""
    TOOL_ARGUMENTS = "tool_arguments"
    """A tool call's arguments are not JSON that meets the tool's schema."""
    LOOP = "loop"
    """The draft repeats itself."""
    REFUSAL = "refusal"
    """The draft declines to answer."""
    TRUNCATED = "truncated"
    """The draft reached its token limit before its end."""
    CONTEXT_TOO_LONG = "context_too_long"
    """The prompt does not fit the context of the tier that was asked first."""
    GUARDED = "guarded"
    """The guard flagged the request, or the answer that would have been served, and this is who answers instead."""
    LEAK = "leak"
    """The answer of the tier that was asked first reproduced the system prompt, so the other one answers."""
    NO_LLM = "no_llm"
    """No large model could be had (none configured, down, busy, or it refused): the small model's answer stands."""
    NO_SLM = "no_slm"
    """No small model could be had (none configured, down, busy, or it refused): the large model answers."""


ESCALATIONS = frozenset(
    {
        *(Reason.LOW_CONFIDENCE, Reason.GAVE_UP, Reason.EMPTY, Reason.NO_LOGPROBS, Reason.JUDGED),
        *(Reason.INVALID_JSON, Reason.SCHEMA_MISMATCH, Reason.TOOL_NOT_OFFERED, Reason.TOOL_ARGUMENTS),
        *(Reason.LOOP, Reason.REFUSAL, Reason.TRUNCATED, Reason.CONTEXT_TOO_LONG, Reason.TOO_HARD),
        *(Reason.GUARDED, Reason.LEAK),
    }
)
"""Why the large model answered, where that says something of the conversation and not of the servers."""
