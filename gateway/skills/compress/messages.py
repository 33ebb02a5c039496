"""Finds the texts of a request: what may be compressed, what is protected, and the question."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.wire.shapes import Body

from .protected_spans import BLANK_LINE, Span, marked, merged, outside, untouchable

INSTRUCTION = 64
"""Maximum words of an instruction at a message's beginning."""
SHORT = 8
"""Maximum words of a last paragraph that asks nothing and so belongs to the one before: `Answer:`, `Thank
you.`"""
SYSTEM = frozenset({"system", "developer"})

_ASKING = (
    "question|q|query|task|problem|instructions?|exercise|user|human|input|pregunta|frage|aufgabe|domanda"
)
_GIVEN = "context|passages?|documents?|texts?|article|background|sources?|transcript|references?|notes|data"
_LABEL = r"(?im)^[ \t]*(?:[#>*]+[ \t]*)?({})[ \t]*[\[(#]?\d*[\])]?[ \t]*\**[ \t]*[:：]"
ASKING = re.compile(_LABEL.format(f"{_ASKING}|вопрос|问题|問題|問|질문"))
"""A line label that begins a question."""
GIVEN = re.compile(_LABEL.format(f"{_GIVEN}|контекст|上下文|文档|資料|背景"))
"""A line label that begins the context of a question."""
LINE = re.compile(r"\S.*")
ASKS = re.compile(r"[?？؟]")
MARKS = re.compile(r"</?context>")


Path = tuple[str | int, ...]
"""A position in a body: keys and indices, outermost first."""


class Text(NamedTuple):
    """One text of a request: its position, and the spans that must not change."""

    path: Path
    text: str
    fixed: Sequence[Span] = ()

    @property
    def whole(self) -> bool:
        """Whether the whole text is protected."""
        return not outside(self.fixed, len(self.text))


class Turns(NamedTuple):
    """All texts of a request, in order. `question` is the question of the last user message."""

    texts: Sequence[Text]
    question: str


class Keep(NamedTuple):
    """What stays wherever it occurs: `words` as whole words in any case, `verbatim` exactly as written."""

    words: Sequence[str] = ()
    whole: Sequence[str] = ()


NOTHING = Keep()


def turns(body: Body, keep: Keep = NOTHING, *, system: bool = False, bare: Body | None = None) -> Turns:
    """Parse the texts of a body: chat messages, a `prompt`, or a `text`.

    A `prompt` is read as one user message. A `text` asks nothing, unless the body has a `question`. If the
    gateway has added context to the body, `bare` is the body without it, and the whole last user message of
    `bare` is the question. Content other than text is skipped.
    """
    if "messages" not in body:
        return _of_text(body, keep, bare)
    messages: list[Any] = body["messages"]
    asked = max((at for at, one in enumerate(messages) if one["role"] == "user"), default=None)
    texts: list[Text] = []
    question = ""
    for at, message in enumerate(messages):
        path = ("messages", at, "content")
        found = _texts_of(message, path)
        if at == asked:
            was = None if bare is None else _texts_of(bare["messages"][at], path).values()
            last = _turns(found, keep, was)
            texts += last.texts
            question = last.question
        elif _is_open(message, last=at == len(messages) - 1, system=system):
            texts += [Text(path, text, _fixed(text, keep)) for path, text in found.items()]
        else:
            texts += [Text(path, text, [(0, len(text))]) for path, text in found.items()]
    return Turns(texts, question)


def _of_text(body: Body, keep: Keep, bare: Body | None) -> Turns:
    if "prompt" in body:
        found: dict[Path, str] = {("prompt",): body["prompt"]} if isinstance(body["prompt"], str) else {}
        return _turns(found, keep, None if bare is None else [bare["prompt"]])
    text: str = body["text"]
    return Turns([Text(("text",), text, _fixed(text, keep))], body.get("question") or "")


def rewritten(body: Body, texts: Mapping[Path, str]) -> Body:
    """Return a copy of the body with the texts at these positions replaced."""
    out: Any = body
    for path, text in texts.items():
        out = _replaced(out, path, text)
    return dict(out)


def _replaced(value: Any, path: Path, text: str) -> Any:
    if not path:
        return text
    copy: Any = value.copy()
    copy[path[0]] = _replaced(value[path[0]], path[1:], text)
    return copy


def _texts_of(message: Body, path: Path) -> dict[Path, str]:
    content = message.get("content")
    if isinstance(content, str):
        return {path: content}
    parts = content if isinstance(content, list) else []
    return {
        (*path, place, "text"): part["text"]
        for place, part in enumerate(parts)
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    }


def _is_open(message: Body, *, last: bool, system: bool) -> bool:
    """Whether a message other than the last user message may be compressed. A begun answer may not."""
    role = message["role"]
    if role in SYSTEM:
        return system
    if role == "assistant":
        return not (last or message.get("tool_calls") or message.get("function_call"))
    return role in ("user", "tool", "function")


def _fixed(text: str, keep: Keep, more: Sequence[Span] = ()) -> list[Span]:
    """Return the protected spans. In a text with `<context>` tags, everything outside of them is
    protected."""
    return merged([*untouchable(text, *keep), *more, *_outside_marks(text)])


def _outside_marks(text: str) -> list[Span]:
    """Return the spans outside of `<context>` tags, including the tags. Empty if there are none."""
    inside = marked(text, "context", unclosed=False)
    if not inside:
        return []
    return merged([*outside(inside, len(text)), *(mark.span() for mark in MARKS.finditer(text))])


def _turns(found: Mapping[Path, str], keep: Keep, bare: Collection[str] | None = None) -> Turns:
    """Parse the last user message."""
    is_marked = any(map(_outside_marks, found.values()))
    texts, asked = [], []
    for place, (path, text) in enumerate(found.items()):
        if is_marked:
            spans = _outside_marks(text) or [(0, len(text))]
        elif bare is not None:
            spans = [
                (len(text) - max([len(own) for own in bare if text.endswith(own)], default=0), len(text))
            ]
        else:
            spans = question(text, first=place == 0, last=place == len(found) - 1)
        asked += [MARKS.sub("", text[start:end]).strip() for start, end in spans]
        texts.append(Text(path, text, _fixed(text, keep, spans)))
    return Turns(texts, "\n".join(filter(None, asked)))


def question(text: str, *, first: bool = True, last: bool = True) -> list[Span]:
    """Return the spans of a user message that hold its question.

    `first` and `last` tell whether the text begins and ends the message, which may have several texts. The
    question is everything from the last line with a question label on. Without a label it is the last
    paragraph; if that neither asks nor has more than a few words, the paragraph before it as well. A short
    first paragraph is the instruction, unless it is an example of such a question. A message of one paragraph
    is all question.
    """
    paragraphs = _paragraphs(text)
    if not paragraphs:
        return []
    found: list[Span] = []
    label = _last_label(text) if last else None
    if last:
        found.append((_beginning(text, paragraphs, label), len(text)))
    if first and _instructs(text, paragraphs[0], label):
        found.append((0, paragraphs[0][1]))
    found += [paragraph for paragraph in paragraphs if label and paragraph[0] <= label.start() < paragraph[1]]
    return merged(found)


def _paragraphs(text: str) -> list[Span]:
    """Return the paragraphs, or the lines if no blank line separates paragraphs."""
    edges = [0, *(edge for blank in BLANK_LINE.finditer(text) for edge in blank.span()), len(text)]
    found = [span for span in zip(edges[::2], edges[1::2], strict=True) if text[slice(*span)].strip()]
    return found if len(found) > 1 else [match.span() for match in LINE.finditer(text)]


def _last_label(text: str) -> re.Match[str] | None:
    label = None
    for match in ASKING.finditer(text):
        label = match
    return label


def _beginning(text: str, paragraphs: Sequence[Span], label: re.Match[str] | None) -> int:
    """Return the offset at which the question at the message's end begins."""
    if label is not None and not GIVEN.search(text, label.end()):
        return label.start()
    start, end = paragraphs[-1]
    if len(paragraphs) == 1:
        return 0
    paragraph = text[start:end]
    if ASKS.search(paragraph) or len(paragraph.split()) > SHORT or GIVEN.match(text, paragraphs[-2][0]):
        return start
    return paragraphs[-2][0]


def _instructs(text: str, paragraph: Span, label: re.Match[str] | None) -> bool:
    start, end = paragraph
    if GIVEN.match(text, start) or len(text[start:end].split()) > INSTRUCTION:
        return False
    own = ASKING.match(text, start)
    return own is None or label is None or own.start() == label.start() or own[1] != label[1]
