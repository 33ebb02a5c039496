"""What servers send in answer to a chat request, by chance in any shape that is known of them.

A script begins as the stream that OpenAI would send. Each change makes it the stream of some other server, and says
what of the answer is different then. A new kind of server is a new strategy in `CHANGES`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from support.upstream_scripts import (
    DONE,
    ERRORS,
    REPORTS,
    Body,
    Event,
    Script,
    chunk_of,
    openai_script,
    report_error,
    usage_of,
)

Change = Callable[[Script], Script]

# Changes that leave the answer as it is.


def _change_delta(chunk: Body, delta: Body) -> Body:
    (choice,) = chunk["choices"]
    return {**chunk, "choices": [{**choice, "delta": {**choice["delta"], **delta}}]}


def _change_choice(chunk: Body, **fields: Any) -> Body:
    return {**chunk, "choices": [{**chunk["choices"][0], **fields}]}


def name_role_everywhere(script: Script) -> Script:
    return script.change_chunks(lambda chunk: _change_delta(chunk, {"role": "assistant"}))


def name_role_as_null(script: Script) -> Script:
    """The role is null in every chunk but the first."""
    return script.change_chunks(
        lambda chunk: _change_delta(chunk, {"role": chunk["choices"][0]["delta"].get("role")})
    )


def name_no_role(script: Script) -> Script:
    return replace(script, events=script.events[1:])


def _blank_finish(value: Any) -> Change:
    def change(chunk: Body) -> Body:
        (choice,) = chunk["choices"]
        return chunk if choice["finish_reason"] else _change_choice(chunk, finish_reason=value)

    return lambda script: script.change_chunks(change)


def leave_out_null_finish(script: Script) -> Script:
    def change(chunk: Body) -> Body:
        (choice,) = chunk["choices"]
        fields = {key: value for key, value in choice.items() if key != "finish_reason" or value}
        return {**chunk, "choices": [fields]}

    return script.change_chunks(change)


def add_null_error(script: Script) -> Script:
    return script.change_chunks(lambda chunk: {**chunk, "error": None})


def leave_out_logprobs(script: Script) -> Script:
    return script.change_chunks(lambda chunk: _change_choice(chunk, logprobs=None))


def finish_twice(script: Script) -> Script:
    return script.put(script.finish_place + 1, chunk_of({}, "stop"))


def finish_with_text(script: Script) -> Script:
    """The last part of the answer has the finish reason, and no chunk has it alone."""
    *_, last, end = script.chunk_places
    events = list(script.events)
    events[last] = _change_choice(events[last], finish_reason=script.finish)  # type: ignore[arg-type]
    del events[end]
    return replace(script, events=tuple(events))


def report_usage_everywhere(script: Script) -> Script:
    assert script.usage is not None
    counted = usage_of(script.usage)
    return script.change_chunks(lambda chunk: {**chunk, "usage": counted})


def report_usage_at_finish(script: Script) -> Script:
    """The chunk with the finish reason has the usage, and there is no chunk for it alone."""
    events = [event for event in script.events if not isinstance(event, dict) or event["choices"]]
    place = script.chunk_places[-1]
    events[place] = {**events[place], "usage": usage_of(script.usage or 0)}  # type: ignore[dict-item]
    return replace(script, events=tuple(events))


def report_usage_before_finish(script: Script) -> Script:
    usage = script.events[-2]
    events = [event for event in script.events if event is not usage]
    return replace(script, events=tuple(events)).put(script.finish_place, usage)


def report_no_usage(script: Script) -> Script:
    events = [event for event in script.events if not isinstance(event, dict) or event["choices"]]
    return replace(script, events=tuple(events), usage=None)


def _respell_usage(respell: Callable[[Body], Body]) -> Change:
    """Name the counts as another server does. Their sums stay."""

    def change(event: Event) -> Event:
        if isinstance(event, bytes) or not event.get("usage"):
            return event
        return {**event, "usage": respell(event["usage"])}

    return lambda script: replace(script, events=tuple(map(change, script.events)))


def _write_as_text(usage: Body) -> Body:
    return {name: str(count) for name, count in usage.items()}


def _write_as_floats(usage: Body) -> Body:
    return {name: float(count) for name, count in usage.items()}


def _name_as_anthropic(usage: Body) -> Body:
    return {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}


def _leave_out_completion(usage: Body) -> Body:
    """As Gemini does for reasoning: it is in the total alone."""
    return {name: count for name, count in usage.items() if name != "completion_tokens"}


def _add_odd_details(usage: Body) -> Body:
    return {**usage, "completion_tokens_details": {"reasoning_tokens": "none"}, "cost": "free"}


def report_usage_as_groq(script: Script) -> Script:
    def change(event: Event) -> Event:
        if isinstance(event, bytes) or not event.get("usage"):
            return event
        rest = {name: value for name, value in event.items() if name != "usage"}
        return {**rest, "x_groq": {"usage": event["usage"]}}

    return replace(script, events=tuple(map(change, script.events)))


def report_zeros_at_last(script: Script) -> Script:
    zeros = {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
    return script.put(len(script.events) - 1, {**zeros, "usage": dict.fromkeys(usage_of(0), 0)})


def write_done(*events: bytes) -> Change:
    return lambda script: replace(script, events=(*script.events[:-1], *events))


@st.composite
def _call_tools(draw: st.DrawFn) -> Change:
    """Add tool calls, in pieces, after the text."""
    arguments = draw(st.lists(st.sampled_from(['{"city": "Bern"}', "{}"]), min_size=1, max_size=2))

    def change(script: Script) -> Script:
        deltas: list[Event] = []
        for place, text in enumerate(arguments):
            begun = {"name": "look", "arguments": ""}
            deltas.append(_call_delta(place, begun, id=f"call_{place}", type="function"))
            deltas += [_call_delta(place, {"arguments": piece}) for piece in (text[:3], text[3:]) if piece]
        events = list(script.events)
        events[script.finish_place] = chunk_of({}, "tool_calls")
        calls = tuple(("look", text) for text in arguments)
        changed = replace(script, events=tuple(events), finish="tool_calls", calls=calls)
        return changed.put(changed.finish_place, *deltas)

    return change


def _call_delta(place: int, function: Body, **fields: Any) -> Body:
    return chunk_of({"tool_calls": [{"index": place, **fields, "function": function}]})


def _change_calls(change: Callable[[Body, Body], Body]) -> Change:
    """Change each piece of a tool call. The change gets the piece, and the one that began its call."""

    def apply(script: Script) -> Script:
        begun: Body = {}

        def change_chunk(chunk: Body) -> Body:
            nonlocal begun
            pieces = chunk["choices"][0]["delta"].get("tool_calls")
            if not pieces:
                return chunk
            (piece,) = pieces
            begun = piece if "id" in piece else begun
            return _change_delta(chunk, {"tool_calls": [change(piece, begun)]})

        return script.change_chunks(change_chunk)

    return apply


def _name_call_everywhere(piece: Body, begun: Body) -> Body:
    function = {**piece["function"], "name": begun["function"]["name"]}
    return {**piece, "id": begun["id"], "type": "function", "function": function}


def _leave_out_index(piece: Body, begun: Body) -> Body:
    return {name: value for name, value in piece.items() if name != "index"}


def write_infinite_alternatives(script: Script) -> Script:
    """The last alternative of each token has no probability at all."""

    def change(chunk: Body) -> Body:
        logprobs = chunk["choices"][0].get("logprobs")
        if not logprobs:
            return chunk
        tokens = []
        for token in logprobs["content"]:
            *others, last = token["top_logprobs"]
            tokens.append({**token, "top_logprobs": [*others, {**last, "logprob": -math.inf}]})
        return _change_choice(chunk, logprobs={**logprobs, "content": tokens})

    return script.change_chunks(change)


def write_content_as_parts(script: Script) -> Script:
    def change(chunk: Body) -> Body:
        content = chunk["choices"][0]["delta"].get("content")
        return _change_delta(chunk, {"content": [{"type": "text", "text": content}]}) if content else chunk

    return script.change_chunks(change)


def _content_of(chunk: Event) -> str:
    assert isinstance(chunk, dict)
    return str(chunk["choices"][0]["delta"].get("content") or "")


def write_half_a_surrogate_pair(script: Script) -> Script:
    """The answer begins with half of an emoji, which is no character."""
    first = next((place for place in script.chunk_places if _content_of(script.events[place])), None)
    if first is None:
        return script
    chunk = script.events[first]
    assert isinstance(chunk, dict)
    content = _content_of(chunk)
    changed = _change_delta(chunk, {"content": f"\ud83d{content}"})
    events = (*script.events[:first], changed, *script.events[first + 1 :])
    return replace(script, events=events, text=f"\ufffd{script.text}")


def write_long_integers(script: Script) -> Script:
    return script.change_chunks(lambda chunk: {**chunk, "seed": 10**30})


@st.composite
def _insert(draw: st.DrawFn) -> Change:
    """Insert something that has nothing of an answer, anywhere."""
    event = draw(
        st.sampled_from(
            [
                b": a comment",
                b"event: ping",
                chunk_of({}),
                chunk_of({"content": ""}),
                chunk_of({"role": "assistant"}),
                {"id": "", "object": "", "created": 0, "model": "", "choices": []},
            ]
        )
    )
    share = draw(st.floats(0, 1))
    return lambda script: script.put(round(share * (len(script.events) - 1)), event)


@st.composite
def _frame(draw: st.DrawFn) -> Change:
    fields = {
        "spaces": draw(st.booleans()),
        "line_end": draw(st.sampled_from([b"\n", b"\r\n", b"\r"])),
        "content_type": draw(st.sampled_from(["text/event-stream", "application/json"])),
        "cuts": tuple(draw(st.lists(st.floats(0, 1), max_size=4))),
    }
    return lambda script: replace(script, **fields)


TRAILERS: list[bytes] = [
    b"data: {nonsense",
    b"data: [1]",
    b'data: {"choices":[7]}',
    b'data: {"choices":7}',
    b'data: {"error":{"message":"too late","code":502}}',
    b"error: too late",
    b"data: " + b"[" * 300 + b"]" * 300,
    b'data: {"choices":[],"usage":{"prompt_tokens_details":7}}',
]


@st.composite
def _follow(draw: st.DrawFn) -> Change:
    """Let something malformed follow the finish reason, or break the connection."""
    trailer, breaks = draw(st.sampled_from(TRAILERS)), draw(st.booleans())

    def change(script: Script) -> Script:
        changed = script.put(len(script.events) - 1, trailer)
        return replace(changed, then="abort") if breaks else changed

    return change


# Changes that end the answer.


@st.composite
def _fail(draw: st.DrawFn) -> Change:
    """Report an error somewhere before the finish reason."""
    error, status, fault = draw(st.sampled_from(ERRORS))
    report = draw(st.sampled_from(REPORTS))(error)
    share = draw(st.floats(0, 1))
    return lambda script: report_error(
        script, round(share * script.finish_place), report, error, status, fault
    )


@st.composite
def _break(draw: st.DrawFn) -> Change:
    """Break off somewhere before the finish reason, within an event or between two."""
    share, then, tail = (
        draw(st.floats(0, 1)),
        draw(st.sampled_from(["abort", "end"])),
        draw(st.sampled_from([b"", b'data: {"id":"up-1","choi'])),
    )

    def change(script: Script) -> Script:
        place = round(share * script.finish_place)
        kept = script.events[:place]
        cut = report_error(script, place, b"", {}, 0, True)
        return replace(cut, events=(*kept, *([tail] if tail else [])), error=None, then=then)

    return change


CHANGES: dict[str, st.SearchStrategy[Change]] = {
    "tools": _call_tools(),
    "calls": st.sampled_from(
        [
            _change_calls(lambda piece, begun: {**piece, "index": 0}),
            _change_calls(lambda piece, begun: {**piece, "index": str(piece["index"])}),
            _change_calls(_leave_out_index),
            _change_calls(_name_call_everywhere),
        ]
    ),
    "role": st.sampled_from([name_role_everywhere, name_role_as_null, name_no_role]),
    "finish": st.sampled_from([finish_twice, finish_with_text]),
    "null finish": st.sampled_from([_blank_finish(""), _blank_finish("null"), leave_out_null_finish]),
    "error null": st.just(add_null_error),
    "usage": st.sampled_from(
        [
            report_usage_everywhere,
            report_usage_at_finish,
            report_usage_before_finish,
            report_no_usage,
        ]
    ),
    "counts": st.sampled_from(
        [
            report_usage_as_groq,
            report_zeros_at_last,
            *map(
                _respell_usage,
                [
                    _write_as_text,
                    _write_as_floats,
                    _name_as_anthropic,
                    _leave_out_completion,
                    _add_odd_details,
                ],
            ),
        ]
    ),
    "trailer": _follow(),
    "done": st.sampled_from(
        [write_done(b"data: [DONE] "), write_done(DONE, DONE), write_done(b"data:[DONE]"), write_done()]
    ),
    "nothing": _insert(),
    "frame": _frame(),
    "end": st.one_of(_fail(), _break()),
    "json": st.sampled_from(
        [
            write_infinite_alternatives,
            write_content_as_parts,
            write_half_a_surrogate_pair,
            write_long_integers,
        ]
    ),
}
"""Strategies of changes, by what they change, in the order in which they are made."""

WORDS = st.lists(st.sampled_from(["Ice", " is", " cold", ".", " \u00e9", ' "']), min_size=1, max_size=9)


@st.composite
def scripts(draw: st.DrawFn, kinds: Sequence[str] = tuple(CHANGES), plain: bool = True) -> Script:
    """Return an answer of some server. `kinds` are those of the changes that it may have."""
    script = openai_script(draw(WORDS))
    chosen = draw(st.sets(st.sampled_from(kinds)))
    for kind in sorted(chosen, key=list(CHANGES).index):
        script = draw(CHANGES[kind])(script)
    if plain and (script.is_whole or script.error) and draw(st.booleans()):
        return replace(script, is_plain=True, then="end")
    return script


@st.composite
def relayed_scripts(draw: st.DrawFn) -> Script:
    """Return an answer of some server of either endpoint, with some choices. Only chat has tools."""
    script = draw(scripts())
    endpoint = draw(st.sampled_from(["chat"] if script.calls else ["chat", "completions"]))
    return replace(script, choices=draw(st.integers(1, 3)), endpoint=endpoint)
