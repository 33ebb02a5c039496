"""Finds the error that a server reports inside a successful response, and the status that it would have alone."""

import re
from typing import Any

import orjson

from .transport import TransportError

ERROR_FINISH = "error"
"""The finish reason with which aggregators end the answer of a provider that failed."""

STATUS_BY_WORD = {
    "badrequest": 400,
    "invalidrequest": 400,
    "invalidargument": 400,
    "invalidvalue": 400,
    "invalidparameter": 400,
    "validation": 400,
    "failedprecondition": 400,
    "contextlengthexceeded": 400,
    "exceedcontextsize": 400,
    "contentfilter": 400,
    "contentpolicyviolation": 400,
    "authentication": 401,
    "unauthenticated": 401,
    "unauthorized": 401,
    "invalidapikey": 401,
    "insufficientcredits": 402,
    "permission": 403,
    "permissiondenied": 403,
    "forbidden": 403,
    "notfound": 404,
    "modelnotfound": 404,
    "requesttoolarge": 413,
    "unprocessableentity": 422,
    "ratelimit": 429,
    "ratelimited": 429,
    "ratelimitexceeded": 429,
    "toomanyrequests": 429,
    "resourceexhausted": 429,
    "insufficientquota": 429,
    "quotaexceeded": 429,
    "throttling": 429,
    "api": 500,
    "internal": 500,
    "internalserver": 500,
    "server": 500,
    "notimplemented": 501,
    "badgateway": 502,
    "overloaded": 503,
    "serveroverloaded": 503,
    "engineoverloaded": 503,
    "unavailable": 503,
    "serviceunavailable": 503,
    "timeout": 504,
    "gatewaytimeout": 504,
    "deadlineexceeded": 504,
}
"""HTTP statuses by the code or type of an error, as `to_word` spells it: OpenAI's, Anthropic's, vLLM's, Google's and
AWS's words."""

STATUS_KEYS = ("code", "status", "status_code", "type")


class ReportedError(TransportError):
    """A server reported an error inside a successful response.

    `status` and `body` are those that it would have as a response of its own. The status is 0 if nothing tells it.
    """

    def __init__(self, error: Any) -> None:
        super().__init__("garbage", "the server broke off with an error", before_response=False)
        self.status = read_status(error)
        self.body = orjson.dumps({"error": error})


def check_answer(answer: Any) -> None:
    """Raise ReportedError if an event or a plain response is the server's error, or has one."""
    if (error := find_reported_error(answer)) is not None:
        raise ReportedError(error)


def find_reported_error(answer: Any) -> Any:
    """Return the error in an event or in a plain response; None if there is none. Never raises.

    It is at the top, with choices or without, or in a choice, or it is the whole answer.
    """
    if isinstance(answer, list):
        answer = answer[0] if len(answer) == 1 else None  # Google's errors are lists of one
    if not isinstance(answer, dict):
        return None
    error = answer.get("error")
    while isinstance(error, dict) and error.get("error"):
        error = error["error"]
    if error:
        return error
    choices = answer.get("choices")
    return _find_in_choices(choices) if choices else answer if _is_error(answer) else None


def _find_in_choices(choices: Any) -> Any:
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        if choice.get("error"):
            return choice["error"]
        if choice.get("finish_reason") == ERROR_FINISH:
            return {"message": "the server ended the answer with the finish reason `error`"}
    return None


def _is_error(answer: dict[str, Any]) -> bool:
    """Return whether an answer without choices is an error itself: vLLM's, FastAPI's, or one with its own code."""
    if "error" in (answer.get("object"), answer.get("type")):
        return True
    return bool(answer.get("detail")) or bool(answer.get("message") and answer.get("code"))


def read_status(error: Any) -> int:
    """Return the HTTP status of an error that came without one, by its code or its words; 0 if neither tells it."""
    values = [error.get(key) for key in STATUS_KEYS] if isinstance(error, dict) else []
    statuses = [*map(_to_status, values), *(find_status_of_word(value) for value in values)]
    return next((status for status in statuses if status is not None), 0)


def find_status_of_word(value: Any) -> int | None:
    """Return the status of a code or a type such as `rate_limit_error` or `RateLimitError`; None if none is known."""
    letters = re.sub(r"[^a-z]", "", value.lower()) if isinstance(value, str) else ""
    return STATUS_BY_WORD.get(letters.removesuffix("error").removesuffix("exception"))


def _to_status(value: Any) -> int | None:
    """Return the HTTP status of an error that a code is, also as text; None if it is none."""
    text = str(value) if isinstance(value, int | str) else ""
    return int(text) if re.fullmatch(r"[45]\d\d", text, re.ASCII) else None
