"""The errors that clients get, in OpenAI's format, each with a stable `code`."""

from typing import Any


class ApiError(Exception):
    """An error response. `message` is for people and holds no secret. `retry_after` is in seconds.

    `code` is stable, or an upstream's own. `reason` is what metrics count it as, by default the code; an upstream's
    codes have no bound, so each such error has the same reason.

    `should_retry` is False if an upstream has said that the same request will fail again.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        kind: str = "invalid_request_error",
        retry_after: float | None = None,
        reason: str | None = None,
        should_retry: bool = True,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.kind = kind
        self.retry_after = retry_after
        self.reason = reason or code
        self.should_retry = should_retry

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """Return the error, with status 400, for an invalid request. `param` is the path of the bad field."""
    return ApiError(400, code, message, param=param)


def unsupported(param: str, why: str) -> ApiError:
    """Return the error for a field or value that OpenAI supports and this gateway does not."""
    return invalid(f"{param} is not supported: {why}", param, "not_supported")


def shutting_down() -> ApiError:
    """Return the error for a request that still runs when the gateway's time to stop is over."""
    message = "the gateway is shutting down; send the request again"
    return ApiError(503, "shutting_down", message, kind="server_error", retry_after=1.0)


def internal_error() -> ApiError:
    """Return the error for a fault of the gateway itself. The log has the details."""
    return ApiError(500, "internal_error", "the gateway failed; see its log", kind="api_error")
