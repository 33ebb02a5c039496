"""Maps an upstream's error response (HTTP status and body) to a failure with a reason."""

from collections.abc import Mapping

from routers.plan import Draft, Tier, Unavailable

from .providers.refusals import read_refusal
from .resilience.retry_after import read_retry_after


class Failure(Unavailable):
    """An upstream call that failed.

    `status` and `body` are those of the upstream's response; 0 and empty if there was none. `retry_after` is
    in seconds. `should_retry` is False if the upstream says that the same request will fail again.
    """

    def __init__(
        self,
        why: str,
        tier: Tier,
        message: str,
        *,
        upstream: str,
        status: int = 0,
        body: bytes = b"",
        retry_after: float | None = None,
        should_retry: bool = True,
        partial: Draft | None = None,
    ) -> None:
        super().__init__(why, tier, message, partial)
        self.upstream = upstream
        self.status = status
        self.body = body
        self.retry_after = retry_after
        self.should_retry = should_retry


REASON_BY_STATUS = {
    0: "garbage",  # an error inside a response, of which nothing tells the status
    401: "misconfigured",
    402: "refused",
    403: "misconfigured",
    404: "misconfigured",
    405: "misconfigured",
    408: "timeout",
    429: "rate_limited",
    500: "error",
    502: "overloaded",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}


def parse_failure(upstream: str, tier: Tier, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """Return the failure for a response with a status of 300 or more, or for an error inside another response.

    A redirect means a wrong URL, so its reason is `misconfigured`.
    """
    refusal = read_refusal(body)
    why = REASON_BY_STATUS.get(status) or _reason_by_class(status)
    if refusal.is_context_overflow:
        why = "context"
    elif refusal.is_out_of_quota:
        why = "out_of_quota"
    message = (refusal.message or f"HTTP {status}")[:500]
    if status in (401, 403):
        message = "it does not accept our credentials"  # the upstream's message may quote them
    return Failure(
        why,
        tier,
        f"{upstream} answered {status}: {message}" if status else f"{upstream} broke off: {message}",
        upstream=upstream,
        status=status,
        body=body,
        retry_after=read_retry_after(headers, refusal),
        should_retry=headers.get("x-should-retry") != "false",
    )


def _reason_by_class(status: int) -> str:
    if status >= 500:
        return "error"
    return "rejected" if status >= 400 else "misconfigured"
