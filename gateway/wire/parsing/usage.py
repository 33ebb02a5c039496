"""Reads the usage of a call, wherever its server puts it: at the top of an event, in a choice, in Groq's field."""

from collections.abc import Iterable

from gateway.wire.body_types import Body
from routers.plan import Usage

from .usage_fields import NOTHING_REPORTED, ReportedUsage, parse_usage, read_path, to_openai_usage


class UsageReader:
    """Reads the usage of one call from the events of its stream, or from its plain response."""

    def __init__(self) -> None:
        self._last: tuple[Body, Body] | None = None
        """The last event that reported a usage, and that usage."""
        self._reported = NOTHING_REPORTED
        self._by_choice: dict[str, ReportedUsage] = {}

    def read(self, event: Body) -> bool:
        """Read an event or a plain response, and return whether it has a usage.

        Zeros never replace counts, and one without a count replaces nothing: some servers end a stream with those.
        """
        usage = event.get("usage")
        if not usage and "x_groq" in event:  # Groq's streams have it there
            usage = read_path(event, "x_groq", "usage")
        if isinstance(usage, dict) and usage:
            reported = parse_usage(usage)
            if not reported.has_counts:
                return True
            is_first = self._reported is NOTHING_REPORTED
            self._reported = reported if is_first else _update(self._reported, reported)
        elif (usage := self._read_choices(event)) is None:
            return False
        self._last = event, usage
        return True

    @property
    def chunk(self) -> Body | None:
        """The last event with a usage, as the chunk that OpenAI ends a stream with; None if there was none."""
        if self._last is None:
            return None
        event, usage = self._last
        return {**event, "choices": [], "usage": to_openai_usage(usage, self.reported)}

    def _read_choices(self, event: Body) -> Body | None:
        """Read the usage of each choice, where Moonshot puts it. Return that of the last one."""
        last = None
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            usage = choice.get("usage") if isinstance(choice, dict) else None
            if isinstance(usage, dict) and usage:
                last, index = usage, repr(choice.get("index"))
                before = self._by_choice.get(index, NOTHING_REPORTED)
                self._by_choice[index] = _update(before, parse_usage(usage))
        return last

    @property
    def reported(self) -> ReportedUsage:
        if not self._by_choice:
            return self._reported
        return _update(_add_up(self._by_choice.values()), self._reported)

    def to_usage(self, prompt_tokens: int, written: int) -> Usage:
        """Return the usage of the call: see `ReportedUsage.to_usage`."""
        return self.reported.to_usage(prompt_tokens, written)


def strip_usage(event: Body) -> None:
    """Remove the usage from a chunk with choices."""
    event.pop("usage", None)
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            choice.pop("usage", None)


def _update(before: ReportedUsage, later: ReportedUsage) -> ReportedUsage:
    """Return the later figures where they say something, else those before."""
    return ReportedUsage(
        later.prompt_tokens or before.prompt_tokens,
        later.completion_tokens or before.completion_tokens,
        later.cached_tokens or before.cached_tokens,
        later.accepted or before.accepted,
        later.rejected or before.rejected,
        later.cost_usd or before.cost_usd,
    )


def _add_up(choices: Iterable[ReportedUsage]) -> ReportedUsage:
    """Return the usage of one call from that of each choice. All choices have the same prompt."""
    total = NOTHING_REPORTED
    for usage in choices:
        total = ReportedUsage(
            max(total.prompt_tokens or 0, usage.prompt_tokens or 0) or None,
            (total.completion_tokens or 0) + (usage.completion_tokens or 0) or None,
            max(total.cached_tokens, usage.cached_tokens),
            total.accepted + usage.accepted,
            total.rejected + usage.rejected,
            (total.cost_usd or 0.0) + (usage.cost_usd or 0.0) or None,
        )
    return total
