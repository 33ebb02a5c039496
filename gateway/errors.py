"""Every error a client can see, in OpenAI's shape, with a `code` to act on."""

from typing import Any

import orjson

from routers.plan import Unavailable

from .upstreams.failures import Failure


class ApiError(Exception):
    """An answer that is an error. `code` is stable; `message` is for people and holds no secret."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        kind: str = "invalid_request_error",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.kind = kind
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    return ApiError(400, code, message, param=param)


def unsupported(param: str, why: str) -> ApiError:
    """For what OpenAI offers and this gateway does not."""
    return invalid(f"{param} is not supported: {why}", param, "not_supported")


def internal_error() -> ApiError:
    """For what failed by no fault of the request's or of an upstream's: the log explains it."""
    return ApiError(500, "internal_error", "the gateway failed; see its log", kind="api_error")


STATUS_AND_CODE = {
    "not_configured": (503, "no_upstream"),
    "down": (503, "upstream_unavailable"),
    "busy": (503, "overloaded"),
    "overloaded": (503, "upstream_overloaded"),
    "rate_limited": (429, "rate_limit_exceeded"),
    "timeout": (504, "upstream_timeout"),
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


def to_api_error(lost: Unavailable, causes: list[str]) -> ApiError:
    """The error that a plan ended in. `causes` are the failed calls' messages, in order."""
    if isinstance(lost, Failure) and lost.why == "rejected":
        return _pass_on(lost)
    status, code = STATUS_AND_CODE.get(lost.why, (502, "upstream_error"))
    kind = "invalid_request_error" if status == 400 else "upstream_error"
    retry_after = lost.retry_after if isinstance(lost, Failure) else None
    if status in (429, 503) and retry_after is None:
        retry_after = 1.0
    told = () if lost.why == "guarded" else dict.fromkeys(causes)  # no call has failed for it
    message = "; then ".join(told) or str(lost)
    return ApiError(status, code, message, kind=kind, retry_after=retry_after)


def _pass_on(failure: Failure) -> ApiError:
    """The upstream's own complaint about the request, its status and fields kept."""
    try:
        detail = orjson.loads(failure.body)
        detail = detail.get("error", detail)
        return ApiError(
            failure.status,
            str(detail.get("code") or "invalid_value"),
            str(detail.get("message") or failure),
            param=detail.get("param"),
            kind=str(detail.get("type") or "invalid_request_error"),
        )
    except (orjson.JSONDecodeError, AttributeError):
        return ApiError(failure.status, "invalid_value", str(failure))
