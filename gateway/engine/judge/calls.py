"""Asks whose outcome are numbers: a judgement by one token, a score of a text. Nothing of them flows to the client."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import orjson

from gateway.engine.dispatch import Calling, Request
from gateway.engine.streams.buffered import whole
from gateway.engine.text_scoring import reading
from gateway.exchange.exchange import Call, Exchange
from gateway.skills.compress.surprisal import Surprises
from gateway.skills.transform import Unusable
from gateway.upstreams.transport.garbage import parsing
from gateway.upstreams.transport.transport import Broken
from gateway.upstreams.upstream import Upstream
from gateway.wire.requests import begun_in
from gateway.wire.requirements import Needs
from gateway.wire.shapes import Body
from routers.plan import Choice, Judge, Judged, Score, Scored, Unavailable, Usage

from . import vllm_scoring as scoring
from .prompt import judged, likelihood, question_body, read_text
from .self_consistency import agreed, samples_body, samples_of, told
from .vllm_scoring import Prompt

JUDGING = Needs(frozenset({"logprobs"}))


class _Concluded(NamedTuple):
    """A judgement, and the call that gave it."""

    judged: Judged
    call: Call


class Questions:
    """Of one exchange."""

    def __init__(self, exchange: Exchange, calling: Calling) -> None:
        self._exchange = exchange
        self._calling = calling
        self._prompt: Prompt | None = None

    async def judged(self, ask: Judge) -> Judged:
        """Raises Unavailable."""
        if not ask.labels:
            return await self._read(ask)
        if not ask.samples:
            return (await self._asked(ask)).judged
        samples, call = await self._sampled(ask)
        if ask.compare != "entailment":
            call.judged = agreed(ask, samples, call.usage)
            return call.judged
        return await self._entailed(ask, samples, call)

    async def _asked(self, ask: Judge) -> "_Concluded":
        """By one token. Raises Unavailable."""
        needs = JUDGING._replace(model=ask.model or None)

        async def attempt(call: Call, upstream: Upstream, last: bool) -> _Concluded:
            async with self._calling.accounted(call, upstream, needs):
                call.judged = await self._judged(ask, call, upstream, last)
                return _Concluded(call.judged, call)

        return await self._calling.in_turn(ask, needs, attempt)

    async def _read(self, ask: Judge) -> Judged:
        """How likely the tier's model finds what the user asks, after what stands before it. Raises Unavailable."""
        exchange = self._exchange
        given, text = read_text(ask, *self._about(ask), exchange.endpoint)

        async def work(reader: Surprises) -> Judged:
            found = await reader.surprises(text, given)
            if all(one.logprob is None for one in found):
                raise Unavailable("incapable", ask.tier, "the question's text has nothing to be read")
            return likelihood(found, reader.read)

        found = await reading(exchange, self._calling, ask, work)
        next(call for call in reversed(exchange.calls) if call.ask is ask).judged = found
        return found

    def _about(self, ask: Judge) -> tuple[Body, str | None]:
        """The body that an ask is about, and its passage."""
        exchange = self._exchange
        if ask.passage is None or exchange.passages is None:
            return exchange.body, None
        return exchange.passages.bare, exchange.passages.given[ask.passage].titled

    async def _sampled(self, ask: Judge) -> tuple[list[str], Call]:
        """Raises Unavailable."""
        exchange = self._exchange
        capabilities = exchange.needs.capabilities - {"logprobs", "choices"}
        if ask.samples > 1:
            capabilities |= {"choices"}
        needs = exchange.needs._replace(capabilities=capabilities, top_logprobs=0, model=ask.model or None)

        async def attempt(call: Call, upstream: Upstream, last: bool) -> tuple[list[str], Call]:
            async with self._calling.accounted(call, upstream, needs):
                allowed = None if call.allowed is None else call.allowed // ask.samples
                model = ask.model or upstream.model
                body = samples_body(ask, exchange.body, exchange.endpoint, model, allowed)
                answer, _ = await self._answered(call, upstream, exchange.endpoint, body, last)
                begun = begun_in(exchange.body.get("messages") or [])
                with parsing("samples"):
                    return samples_of(answer, begun), call

        return await self._calling.in_turn(ask, needs, attempt)

    async def _entailed(self, ask: Judge, samples: Sequence[str], call: Call) -> Judged:
        """Whether each sample supports the answer, as SelfCheckGPT asks: all calls but the last are its parts."""
        found = []
        for sample in samples:
            call.inner = True
            judged, call = await self._asked(ask._replace(samples=0, sample=sample))
            found.append(judged)
        yes = ask.labels[0]
        p, mass = fmean(one.p[yes] for one in found), fmean(one.mass for one in found)
        call.judged = told(ask, p, mass, call.usage)
        return call.judged

    async def scored(self, ask: Score) -> Scored:
        """Raises Unavailable."""
        needs = self._exchange.needs
        needs = needs._replace(capabilities=needs.capabilities | {"scoring"})

        async def attempt(call: Call, upstream: Upstream, last: bool) -> Scored:
            async with self._calling.accounted(call, upstream, needs):
                call.scored = await self._scored(ask, call, upstream, last)
                self._calling.scorer = upstream
                return call.scored

        return await self._calling.in_turn(ask, needs, attempt)

    @property
    def asked(self) -> Prompt:
        """The exchange's prompt in the ids of the upstream that scored last."""
        assert self._prompt is not None  # noqa: S101  something was scored
        return self._prompt

    async def prompt(self, upstream: Upstream) -> Prompt:
        """The exchange's prompt in the scorer's ids. Raises Unavailable, Broken."""
        if self._prompt is None or self._calling.scorer is not upstream:
            exchange = self._exchange
            asked = scoring.prompt_body(exchange.body, exchange.endpoint, upstream.model)
            self._prompt = await self._tokenized(upstream, asked)
        return self._prompt

    async def _tokenized(self, upstream: Upstream, asked: Body) -> Prompt:
        answer = await self._calling.told(upstream, "tokenize", asked)
        with parsing("what /tokenize gives"):
            return scoring.prompt_of(answer)

    async def _judged(self, ask: Judge, call: Call, upstream: Upstream, last: bool) -> Judged:
        exchange = self._exchange
        about, passage = self._about(ask)
        top = upstream.most_alternatives
        body = question_body(ask, about, exchange.endpoint, ask.model or upstream.model, top, passage)
        answer, usage = await self._answered(call, upstream, "chat", body, last)
        with parsing("a judgement"):
            return judged(ask, answer, usage)

    async def _scored(self, ask: Score, call: Call, upstream: Upstream, last: bool) -> Scored:
        prompt = await self.prompt(upstream)
        text = scoring.continuation(ask.prefix, ask.text)
        ids: Sequence[int] = ()
        if text:
            ids = (await self._tokenized(upstream, scoring.text_body(text, upstream.model))).ids
        before = [*prompt.ids, *ask.after]
        body = scoring.score_body(self._exchange.body, [*before, *ids], upstream.model)
        answer, _ = await self._answered(call, upstream, "completions", body, last)
        with parsing("scores"):
            reading = scoring.read_scores(answer, len(before), ids, upstream.ending)
        scored = await self._told_apart(reading, upstream, [*before, *ids], len(before))
        return scored._replace(seconds=call.lasted)

    async def _told_apart(
        self, reading: scoring.Reading, upstream: Upstream, ids: Sequence[int], before: int
    ) -> Scored:
        """With what the server says of tokens of which it is not known whether they end an answer."""
        scored, tokens = reading.scored, list(reading.scored.tokens)
        for place, doubtful in reading.doubtful.items():
            if doubtful not in upstream.ending:
                body = scoring.forced_body(ids[: before + place], doubtful, upstream.model)
                answer = await self._calling.told(upstream, "completions", body)
                with parsing("a completion"):
                    finish = orjson.loads(answer)["choices"][0]["finish_reason"]
                upstream.ending[doubtful] = finish == "stop"
            own = Choice(doubtful, tokens[place].own.logprob, upstream.ending[doubtful])
            tokens[place] = tokens[place]._replace(own=own)
        return scored._replace(tokens=tokens)

    async def _answered(
        self, call: Call, upstream: Upstream, endpoint: str, body: Body, last: bool
    ) -> tuple[bytes, Usage]:
        asked = Request(upstream.url(endpoint), upstream.adapted(body, continues=False), last=last)
        sent = await self._calling.send(call, upstream, asked)
        try:
            answer, draft = await whole(sent.response, self._exchange, call)
            upstream.worked()
        except Broken as broken:
            if not isinstance(broken, Unusable):
                upstream.broke()
            raise
        finally:
            sent.close()
        call.usage = draft.usage
        return answer, draft.usage
