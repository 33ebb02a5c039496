"""Every error a client can see, in OpenAI's shape, with a `code` to act on."""

from typing import Any


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
