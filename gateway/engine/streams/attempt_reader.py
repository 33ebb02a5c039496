"""What all readers of drafts have in common: the call they account to, and where the draft goes."""

from gateway.engine.attempt import Attempt
from gateway.engine.race import RaceLeg
from gateway.engine.reply import Sink
from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.wire.parsing.usage import UsageReader
from gateway.wire.requests import count_prompts
from routers.plan import Draft, Usage, Verdict

from .chunks import ChunkReader
from .end_grace import EndGrace


class AttemptReader:
    """Reads the response of one attempt into a draft."""

    def __init__(self, exchange: Exchange, attempt: Attempt, sink: Sink) -> None:
        self.exchange = exchange
        self.call = attempt.call
        self.upstream = attempt.upstream
        self.sink = sink
        if isinstance(sink, RaceLeg):
            sink.draft_so_far = self.draft_so_far
        self.chunks = open_chunk_reader(exchange, attempt.call)
        self.grace = EndGrace(self.chunks)

    @property
    def usage(self) -> UsageReader:
        """What the server reports of its usage."""
        return self.chunks.usage

    @property
    def has_written(self) -> bool:
        """Whether a part of the answer has been read."""
        return bool(self.call.tokens or self.call.chunks)

    def partial(self) -> Draft | None:
        """Return what the client has of the draft; None if it has nothing."""
        if self.call.first is None:
            return None
        return Draft(self.call.tier, usage=Usage(self.call.prompt_tokens, estimated=True))

    def has_lost_race(self) -> bool:
        """Return whether the draft is a leg of a race that the other leg has won."""
        return isinstance(self.sink, RaceLeg) and self.sink.lost

    def draft_so_far(self) -> Draft:
        """Return the draft of a leg that has lost its race. Nobody has read its text."""
        return Draft(self.call.tier, verdict=Verdict.CONTINUE)

    def _conclude(self, draft: Draft) -> Draft:
        """Note the draft on its call's account, and what it tells of the upstream's speed."""
        self.call.usage = draft.usage
        reported_usd = self.usage.reported.cost_usd
        if reported_usd is not None and not self.upstream.has_price:
            self.call.reported_usd = reported_usd
        self.call.outcome = "ok" if draft.finish else "stopped"
        if self.exchange.policy.compress is not None:  # only compression asks how fast a server is
            self._record_latency(draft.usage)
        return draft

    def _record_latency(self, usage: Usage) -> None:
        call = self.call
        if call.sent is None or usage.estimated:
            return
        first = call.first if call.first is not None else next(iter(call.at), None)
        prompt_tokens = usage.prompt_tokens - usage.cached_tokens
        if first is not None:
            self.upstream.latency.record_call(prompt_tokens, 0, first - call.sent)
        elif call.ended is not None:
            self.upstream.latency.record_call(prompt_tokens, usage.completion_tokens, call.duration_s)


def open_chunk_reader(exchange: Exchange, call: Call) -> ChunkReader:
    """Return the reader of the events of a call's response."""
    choice_count = exchange.choice_count(call.ask) * count_prompts(exchange.body)
    options = exchange.body.get("stream_options") or {}
    return ChunkReader(
        exchange.endpoint, choice_count, keeps_usage=bool(options.get("continuous_usage_stats"))
    )
