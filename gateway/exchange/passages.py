"""Reads a request's retrieved passages (`smallfirst.context`), and puts them before the user's question."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.errors import invalid
from gateway.wire.body_types import Body, Endpoint
from gateway.wire.validation import check_type
from routers.fragments.passage_filter import MAX_PASSAGES

WHERE = "smallfirst.context"
PASSAGE_KEYS = ("id", "title", "text")
MAX_MARK_CHARS = 256
"""Maximum characters of a passage's id or title."""


class Passage(NamedTuple):
    """A retrieved passage. `mark` is its name in the prompt: its id, else its number from 1."""

    mark: str
    title: str
    text: str

    @property
    def titled(self) -> str:
        return f"{self.title}: {self.text}" if self.title else self.text


class Passages(NamedTuple):
    """The passages of one request. `bare` is the request's body without them."""

    retrieved: Sequence[Passage]
    bare: Body
    endpoint: Endpoint

    def body_with(self, places: Sequence[int] | None = None) -> Body:
        """Return the body with the passages at `places`, in that order; by default with all, in the given order."""
        chosen = self.retrieved if places is None else [self.retrieved[place] for place in places]
        return _prepend(self.bare, self.endpoint, render(chosen)) if chosen else self.bare


def render(passages: Sequence[Passage]) -> str:
    """Return the passages' text in a prompt."""
    texts = "\n\n".join(f"[{passage.mark}] {passage.titled}" for passage in passages)
    return f"Passages:\n\n{texts}\n\n"


def read_passages(context: Any, body: Body, endpoint: Endpoint) -> Passages | None:
    """Return the passages of `smallfirst.context`; None if there are none. Raises ApiError that names the path."""
    if context is None:
        return None
    check_type(WHERE, context, list, "a list of passages, each a string or an object with its text")
    if len(context) > MAX_PASSAGES:
        raise invalid(f"{WHERE} must hold at most {MAX_PASSAGES} passages, not {len(context)}", WHERE)
    passages = [
        _read_passage(value, f"{WHERE}[{place}]", str(place + 1)) for place, value in enumerate(context)
    ]
    if not passages:
        return None
    _check_place(body, endpoint)
    own = {key: value for key, value in body["smallfirst"].items() if key != "context"}
    bare = {key: value for key, value in body.items() if key != "smallfirst"}
    return Passages(passages, bare | {"smallfirst": own} if own else bare, endpoint)


def _read_passage(value: Any, where: str, number: str) -> Passage:
    if isinstance(value, str):
        return Passage(number, "", _read_text(value, where))
    check_type(where, value, dict, "a string or an object with its text")
    for key in value:
        if key not in PASSAGE_KEYS:
            raise invalid(
                f"{where}.{key} is not known; known keys: {', '.join(PASSAGE_KEYS)}", f"{where}.{key}"
            )
    return Passage(
        _read_line(value.get("id"), f"{where}.id") or number,
        _read_line(value.get("title"), f"{where}.title"),
        _read_text(value.get("text"), f"{where}.text"),
    )


def _read_text(value: Any, where: str) -> str:
    check_type(where, value, str, "a string")
    if not value.strip():
        raise invalid(f"{where} must not be empty", where)
    return str(value)


def _read_line(value: Any, where: str) -> str:
    if value is None:
        return ""
    check_type(where, value, str, "a string")
    if len(value) > MAX_MARK_CHARS:
        raise invalid(f"{where} must have at most {MAX_MARK_CHARS} characters, not {len(value)}", where)
    return " ".join(value.split())


def _check_place(body: Body, endpoint: Endpoint) -> None:
    """Raise ApiError if passages can not be put into the body."""
    if endpoint == "embeddings":
        raise invalid(f"{WHERE}: embeddings take no passages", WHERE, "not_supported")
    if endpoint == "completions":
        if not isinstance(body["prompt"], str):
            raise invalid(f"{WHERE} needs a prompt that is one string, to stand before", WHERE)
        return
    if (at := _last_user_message(body)) is None:
        raise invalid(f"{WHERE} needs a message of the user, to stand before its content", WHERE)
    if not isinstance(body["messages"][at].get("content"), str | list | None):
        where = f"messages[{at}].content"
        raise invalid(f"{where} must be a string or a list of parts", where)


def _last_user_message(body: Body) -> int | None:
    """Return the place of the user's last message; None if there is none."""
    messages = body["messages"]
    return next((at for at in reversed(range(len(messages))) if messages[at]["role"] == "user"), None)


def _prepend(body: Body, endpoint: Endpoint, text: str) -> Body:
    if endpoint == "completions":
        return {**body, "prompt": text + body["prompt"]}
    at = _last_user_message(body)
    assert at is not None  # noqa: S101  `_check_place` has found it
    messages = list(body["messages"])
    content = messages[at].get("content") or ""
    joined = [{"type": "text", "text": text}, *content] if isinstance(content, list) else text + content
    messages[at] = {**messages[at], "content": joined}
    return {**body, "messages": messages}
