"""A request's retrieved passages, `smallfirst.context` of its body: read, and put before what the user asks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.api.request_body import expect
from gateway.errors import invalid
from gateway.wire.shapes import Body, Endpoint
from routers.fragments.passage_filter import MOST_PASSAGES

WHERE = "smallfirst.context"
KNOWN = ("id", "title", "text")
LONGEST_MARK = 256
"""Characters of a passage's id or title."""


class Passage(NamedTuple):
    """`mark` is what it is called in the prompt: its id, else its number among those given, from 1."""

    mark: str
    title: str
    text: str

    @property
    def titled(self) -> str:
        return f"{self.title}: {self.text}" if self.title else self.text


class Passages(NamedTuple):
    """Of one request, whose body without them is `bare`."""

    given: Sequence[Passage]
    bare: Body
    endpoint: Endpoint

    def shown(self, places: Sequence[int] | None = None) -> Body:
        """The body with those at `places`, in that order; by default with all, as given."""
        chosen = self.given if places is None else [self.given[place] for place in places]
        return _before(self.bare, self.endpoint, rendered(chosen)) if chosen else self.bare


def rendered(passages: Sequence[Passage]) -> str:
    """As they stand in a prompt."""
    told = "\n\n".join(f"[{passage.mark}] {passage.titled}" for passage in passages)
    return f"Passages:\n\n{told}\n\n"


def passages_of(context: Any, body: Body, endpoint: Endpoint) -> Passages | None:
    """What a body's `smallfirst.context` holds; None where that is nothing. Raises ApiError, naming the path."""
    if context is None:
        return None
    expect(WHERE, context, list, "a list of passages, each a string or an object with its text")
    if len(context) > MOST_PASSAGES:
        raise invalid(f"{WHERE} must hold at most {MOST_PASSAGES} passages, not {len(context)}", WHERE)
    given = [_passage(one, f"{WHERE}[{place}]", str(place + 1)) for place, one in enumerate(context)]
    if not given:
        return None
    _check_place(body, endpoint)
    own = {key: value for key, value in body["smallfirst"].items() if key != "context"}
    bare = {key: value for key, value in body.items() if key != "smallfirst"}
    return Passages(given, bare | {"smallfirst": own} if own else bare, endpoint)


def _passage(given: Any, where: str, number: str) -> Passage:
    if isinstance(given, str):
        return Passage(number, "", _text(given, where))
    expect(where, given, dict, "a string or an object with its text")
    for key in given:
        if key not in KNOWN:
            raise invalid(f"{where}.{key} is not known; known keys: {', '.join(KNOWN)}", f"{where}.{key}")
    return Passage(
        _line(given.get("id"), f"{where}.id") or number,
        _line(given.get("title"), f"{where}.title"),
        _text(given.get("text"), f"{where}.text"),
    )


def _text(value: Any, where: str) -> str:
    expect(where, value, str, "a string")
    if not value.strip():
        raise invalid(f"{where} must not be empty", where)
    return str(value)


def _line(value: Any, where: str) -> str:
    if value is None:
        return ""
    expect(where, value, str, "a string")
    if len(value) > LONGEST_MARK:
        raise invalid(f"{where} must have at most {LONGEST_MARK} characters, not {len(value)}", where)
    return " ".join(value.split())


def _check_place(body: Body, endpoint: Endpoint) -> None:
    """Raises ApiError for a body in which passages have no place."""
    if endpoint == "embeddings":
        raise invalid(f"{WHERE}: embeddings take no passages", WHERE, "not_supported")
    if endpoint == "completions":
        if not isinstance(body["prompt"], str):
            raise invalid(f"{WHERE} needs a prompt that is one string, to stand before", WHERE)
        return
    if (at := _asking(body)) is None:
        raise invalid(f"{WHERE} needs a message of the user, to stand before its content", WHERE)
    if not isinstance(body["messages"][at].get("content"), str | list | None):
        where = f"messages[{at}].content"
        raise invalid(f"{where} must be a string or a list of parts", where)


def _asking(body: Body) -> int | None:
    """The place of the user's last message."""
    messages = body["messages"]
    return next((at for at in reversed(range(len(messages))) if messages[at]["role"] == "user"), None)


def _before(body: Body, endpoint: Endpoint, text: str) -> Body:
    if endpoint == "completions":
        return {**body, "prompt": text + body["prompt"]}
    at = _asking(body)
    assert at is not None  # noqa: S101  it was checked
    messages = list(body["messages"])
    content = messages[at].get("content") or ""
    joined = [{"type": "text", "text": text}, *content] if isinstance(content, list) else text + content
    messages[at] = {**messages[at], "content": joined}
    return {**body, "messages": messages}
