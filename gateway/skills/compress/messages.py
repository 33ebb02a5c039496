"""Finds the texts of a request: what may be compressed, what is protected, and the question."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.wire.body_types import Body

from .protected_spans import BLANK_LINE, find_marked_spans, find_protected_spans
from .spans import Span, find_gaps, merge_spans

MAX_INSTRUCTION_WORDS = 64
"""Maximum words of an instruction at a message's beginning."""
MAX_CLOSING_WORDS = 8
"""Maximum words of a last paragraph that asks nothing and so belongs to the one before: `Answer:`, `Thank
you.`"""
SYSTEM_ROLES = frozenset({"system", "developer"})

_QUESTION_WORDS = (
    "question|q|query|task|problem|instructions?|exercise|user|human|input|pregunta|frage|aufgabe|domanda"
)
_CONTEXT_WORDS = (
    "context|passages?|documents?|texts?|article|background|sources?|transcript|references?|notes|data"
)
_LABEL = r"(?im)^[ \t]*(?:[#>*]+[ \t]*)?({})[ \t]*[\[(#]?\d*[\])]?[ \t]*\**[ \t]*[:：]"
QUESTION_LABEL = re.compile(_LABEL.format(f"{_QUESTION_WORDS}|вопрос|问题|問題|問|질문"))
"""A line label that begins a question."""
CONTEXT_LABEL = re.compile(_LABEL.format(f"{_CONTEXT_WORDS}|контекст|上下文|文档|資料|背景"))
"""A line label that begins the context of a question."""
LINE = re.compile(r"\S.*")
QUESTION_MARK = re.compile(r"[?？؟]")
CONTEXT_TAG = re.compile(r"</?context>")


BodyPath = tuple[str | int, ...]
"""A position in a body: keys and indices, outermost first."""


class Segment(NamedTuple):
    """One text of a request: its position, and the spans that must not change."""

    path: BodyPath
    text: str
    protected: Sequence[Span] = ()

    @property
    def is_protected(self) -> bool:
        """Whether the whole text is protected."""
        return not find_gaps(self.protected, len(self.text))


class PromptSegments(NamedTuple):
    """All texts of a request, in order. `question` is the question of the last user message."""

    segments: Sequence[Segment]
    question: str


class Keep(NamedTuple):
    """What stays wherever it occurs: `words` as whole words in any case, `verbatim` exactly as written."""

    words: Sequence[str] = ()
    verbatim: Sequence[str] = ()


KEEP_NOTHING = Keep()


def parse_segments(
    body: Body, keep: Keep = KEEP_NOTHING, *, system: bool = False, bare: Body | None = None
) -> PromptSegments:
    """Parse the texts of a body: chat messages, a `prompt`, or a `text`.

    A `prompt` is read as one user message. A `text` asks nothing, unless the body has a `question`. If the
    gateway has added context to the body, `bare` is the body without it, and the whole last user message of
    `bare` is the question. Content other than text is skipped.
    """
    if "messages" not in body:
        return _parse_plain_text(body, keep, bare)
    messages: list[Any] = body["messages"]
    last_user = max((at for at, one in enumerate(messages) if one["role"] == "user"), default=None)
    texts: list[Segment] = []
    question = ""
    for at, message in enumerate(messages):
        path = ("messages", at, "content")
        texts_by_path = _content_texts(message, path)
        if at == last_user:
            bare_texts = None if bare is None else _content_texts(bare["messages"][at], path).values()
            last_message = _parse_last_user_message(texts_by_path, keep, bare_texts)
            texts += last_message.segments
            question = last_message.question
        elif _is_compressible(message, last=at == len(messages) - 1, system=system):
            texts += [
                Segment(path, text, _find_protected(text, keep)) for path, text in texts_by_path.items()
            ]
        else:
            texts += [Segment(path, text, [(0, len(text))]) for path, text in texts_by_path.items()]
    return PromptSegments(texts, question)


def _parse_plain_text(body: Body, keep: Keep, bare: Body | None) -> PromptSegments:
    if "prompt" in body:
        found: dict[BodyPath, str] = {("prompt",): body["prompt"]} if isinstance(body["prompt"], str) else {}
        return _parse_last_user_message(found, keep, None if bare is None else [bare["prompt"]])
    text: str = body["text"]
    return PromptSegments([Segment(("text",), text, _find_protected(text, keep))], body.get("question") or "")


def replace_texts(body: Body, texts: Mapping[BodyPath, str]) -> Body:
    """Return a copy of the body with the texts at these positions replaced."""
    out: Any = body
    for path, text in texts.items():
        out = _replace_at(out, path, text)
    return dict(out)


def _replace_at(value: Any, path: BodyPath, text: str) -> Any:
    if not path:
        return text
    copy: Any = value.copy()
    copy[path[0]] = _replace_at(value[path[0]], path[1:], text)
    return copy


def _content_texts(message: Body, path: BodyPath) -> dict[BodyPath, str]:
    content = message.get("content")
    if isinstance(content, str):
        return {path: content}
    parts = content if isinstance(content, list) else []
    return {
        (*path, place, "text"): part["text"]
        for place, part in enumerate(parts)
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    }


def _is_compressible(message: Body, *, last: bool, system: bool) -> bool:
    """Whether a message other than the last user message may be compressed. A begun answer may not."""
    role = message["role"]
    if role in SYSTEM_ROLES:
        return system
    if role == "assistant":
        return not (last or message.get("tool_calls") or message.get("function_call"))
    return role in ("user", "tool", "function")


def _find_protected(text: str, keep: Keep, more: Sequence[Span] = ()) -> list[Span]:
    """Return the protected spans. In a text with `<context>` tags, everything outside of them is
    protected."""
    return merge_spans([*find_protected_spans(text, *keep), *more, *_spans_outside_tags(text)])


def _spans_outside_tags(text: str) -> list[Span]:
    """Return the spans outside of `<context>` tags, including the tags. Empty if there are none."""
    inside = find_marked_spans(text, "context", unclosed=False)
    if not inside:
        return []
    return merge_spans([*find_gaps(inside, len(text)), *(mark.span() for mark in CONTEXT_TAG.finditer(text))])


def _parse_last_user_message(
    texts_by_path: Mapping[BodyPath, str], keep: Keep, bare: Collection[str] | None = None
) -> PromptSegments:
    """Parse the last user message."""
    is_marked = any(map(_spans_outside_tags, texts_by_path.values()))
    texts, questions = [], []
    for place, (path, text) in enumerate(texts_by_path.items()):
        if is_marked:
            spans = _spans_outside_tags(text) or [(0, len(text))]
        elif bare is not None:
            spans = [
                (len(text) - max([len(own) for own in bare if text.endswith(own)], default=0), len(text))
            ]
        else:
            spans = find_question(text, first=place == 0, last=place == len(texts_by_path) - 1)
        questions += [CONTEXT_TAG.sub("", text[start:end]).strip() for start, end in spans]
        texts.append(Segment(path, text, _find_protected(text, keep, spans)))
    return PromptSegments(texts, "\n".join(filter(None, questions)))


def find_question(text: str, *, first: bool = True, last: bool = True) -> list[Span]:
    """Return the spans of a user message that hold its question.

    `first` and `last` tell whether the text begins and ends the message, which may have several texts. The
    question is everything from the last line with a question label on. Without a label it is the last
    paragraph; if that neither asks nor has more than a few words, the paragraph before it as well. A short
    first paragraph is the instruction, unless it is an example of such a question. A message of one paragraph
    is all question.
    """
    paragraphs = _split_paragraphs(text)
    if not paragraphs:
        return []
    found: list[Span] = []
    label = _find_last_label(text) if last else None
    if last:
        found.append((_find_question_start(text, paragraphs, label), len(text)))
    if first and _is_instruction(text, paragraphs[0], label):
        found.append((0, paragraphs[0][1]))
    found += [paragraph for paragraph in paragraphs if label and paragraph[0] <= label.start() < paragraph[1]]
    return merge_spans(found)


def _split_paragraphs(text: str) -> list[Span]:
    """Return the paragraphs, or the lines if no blank line separates paragraphs."""
    edges = [0, *(edge for blank in BLANK_LINE.finditer(text) for edge in blank.span()), len(text)]
    found = [span for span in zip(edges[::2], edges[1::2], strict=True) if text[slice(*span)].strip()]
    return found if len(found) > 1 else [match.span() for match in LINE.finditer(text)]


def _find_last_label(text: str) -> re.Match[str] | None:
    label = None
    for match in QUESTION_LABEL.finditer(text):
        label = match
    return label


def _find_question_start(text: str, paragraphs: Sequence[Span], label: re.Match[str] | None) -> int:
    """Return the offset at which the question at the message's end begins."""
    if label is not None and not CONTEXT_LABEL.search(text, label.end()):
        return label.start()
    start, end = paragraphs[-1]
    if len(paragraphs) == 1:
        return 0
    paragraph = text[start:end]
    if (
        QUESTION_MARK.search(paragraph)
        or len(paragraph.split()) > MAX_CLOSING_WORDS
        or CONTEXT_LABEL.match(text, paragraphs[-2][0])
    ):
        return start
    return paragraphs[-2][0]


def _is_instruction(text: str, paragraph: Span, label: re.Match[str] | None) -> bool:
    start, end = paragraph
    if CONTEXT_LABEL.match(text, start) or len(text[start:end].split()) > MAX_INSTRUCTION_WORDS:
        return False
    own = QUESTION_LABEL.match(text, start)
    return own is None or label is None or own.start() == label.start() or own[1] != label[1]
