"""Maps the failure that a plan ended in to the error that the client gets."""

from gateway.errors import ApiError
from gateway.upstreams.failures import Failure
from gateway.upstreams.providers.refusals import read_refusal
from routers.plan import Unavailable

STATUS_AND_CODE = {
    "not_configured": (503, "no_upstream"),
    "down": (503, "upstream_unavailable"),
    "busy": (503, "overloaded"),
    "overloaded": (503, "upstream_overloaded"),
    "rate_limited": (429, "rate_limit_exceeded"),
    "out_of_quota": (429, "insufficient_quota"),
    "timeout": (504, "upstream_timeout"),
    "misconfigured": (502, "upstream_refused"),
    "refused": (502, "upstream_refused"),
    "context": (400, "context_length_exceeded"),
    "incapable": (400, "not_supported"),
    "garbage": (502, "upstream_garbage"),
    "lost": (502, "upstream_lost"),
    "error": (502, "upstream_error"),
    "ceiling": (403, "ceiling_reached"),
    "private": (403, "private"),
    "guarded": (403, "guarded"),
    "leak": (403, "leak"),
}


def to_api_error(failure: Unavailable, causes: list[str]) -> ApiError:
    """Return the client's error for a failed plan. `causes` are the messages of the failed calls, in order."""
    should_retry = not isinstance(failure, Failure) or failure.should_retry
    if isinstance(failure, Failure) and failure.why == "rejected":
        error = _pass_on(failure)
        error.should_retry = should_retry
        return error
    status, code = STATUS_AND_CODE.get(failure.why, (502, "upstream_error"))
    kind = "invalid_request_error" if status in (400, 403) else "upstream_error"
    retry_after = failure.retry_after if isinstance(failure, Failure) else None
    if failure.why == "out_of_quota":
        kind, retry_after = code, None  # OpenAI's type; to wait does not help
    elif status in (429, 503) and retry_after is None:
        retry_after = 1.0
    # A guard refuses without a failed call, so `causes` do not explain the refusal.
    messages = () if failure.why == "guarded" else dict.fromkeys(causes)
    message = "; then ".join(messages) or str(failure)
    return ApiError(status, code, message, kind=kind, retry_after=retry_after, should_retry=should_retry)


def _pass_on(failure: Failure) -> ApiError:
    """Return the upstream's own error about the request, with its status and fields."""
    refusal = read_refusal(failure.body)
    return ApiError(
        failure.status,
        refusal.code or "invalid_value",
        refusal.message if refusal.is_standard else str(failure),
        param=refusal.param,
        kind=refusal.type or "invalid_request_error",
        reason=failure.why,
    )
