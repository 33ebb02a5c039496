"""Asks whose outcome are numbers: a judgement by one token, a score of a text. Nothing of them flows to the client."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import orjson

from gateway.engine.dispatch import Dispatcher, UpstreamRequest
from gateway.engine.streams.buffered import read_buffered
from gateway.engine.text_scoring import score_text
from gateway.exchange.exchange import Call, Exchange
from gateway.skills.compress.surprisal import SurprisalReader
from gateway.skills.transforms import UnusableAnswer
from gateway.upstreams.transport.malformed import parsing
from gateway.upstreams.transport.transport import TransportError
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from gateway.wire.requests import find_answer_prefix
from gateway.wire.requirements import Requirements
from routers.plan import GreedyToken, Judge, Judged, Score, Scored, Unavailable, Usage

from . import vllm_scoring as scoring
from .prompt import build_likelihood_text, build_question, parse_judgement, to_likelihood
from .self_consistency import build_samples_request, measure_agreement, parse_samples, to_judged
from .vllm_scoring import Prompt

LABEL_REQUIREMENTS = Requirements(frozenset({"logprobs"}))


class _JudgedCall(NamedTuple):
    """A judgement, and the call that gave it."""

    judged: Judged
    call: Call


class JudgeCalls:
    """Of one exchange."""

    def __init__(self, exchange: Exchange, calling: Dispatcher) -> None:
        self._exchange = exchange
        self._calling = calling
        self._prompt: Prompt | None = None

    async def judge(self, ask: Judge) -> Judged:
        """Raises Unavailable."""
        if not ask.labels:
            return await self._judge_by_likelihood(ask)
        if not ask.samples:
            return (await self._judge_by_label(ask)).judged
        samples, call = await self._write_samples(ask)
        if ask.compare != "entailment":
            call.judged = measure_agreement(ask, samples, call.usage)
            return call.judged
        return await self._judge_by_entailment(ask, samples, call)

    async def _judge_by_label(self, ask: Judge) -> "_JudgedCall":
        """By one token. Raises Unavailable."""
        needs = LABEL_REQUIREMENTS._replace(model=ask.model or None)

        async def attempt(call: Call, upstream: Upstream, last: bool) -> _JudgedCall:
            async with self._calling.accounted(call, upstream, needs):
                call.judged = await self._ask_label(ask, call, upstream, last)
                return _JudgedCall(call.judged, call)

        return await self._calling.dispatch(ask, needs, attempt)

    async def _judge_by_likelihood(self, ask: Judge) -> Judged:
        """How likely the tier's model finds what the user asks, after what stands before it. Raises Unavailable."""
        exchange = self._exchange
        given, text = build_likelihood_text(ask, *self._subject_of(ask), exchange.endpoint)

        async def work(reader: SurprisalReader) -> Judged:
            found = await reader.read_surprisals(text, given)
            if all(one.logprob is None for one in found):
                raise Unavailable("incapable", ask.tier, "the question's text has nothing to be read")
            return to_likelihood(found, reader.tokens_read)

        found = await score_text(exchange, self._calling, ask, work)
        next(call for call in reversed(exchange.calls) if call.ask is ask).judged = found
        return found

    def _subject_of(self, ask: Judge) -> tuple[Body, str | None]:
        """The body that an ask is about, and its passage."""
        exchange = self._exchange
        if ask.passage is None or exchange.passages is None:
            return exchange.body, None
        return exchange.passages.bare, exchange.passages.retrieved[ask.passage].titled

    async def _write_samples(self, ask: Judge) -> tuple[list[str], Call]:
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
                body = build_samples_request(ask, exchange.body, exchange.endpoint, model, allowed)
                answer, _ = await self._post(call, upstream, exchange.endpoint, body, last)
                begun = find_answer_prefix(exchange.body.get("messages") or [])
                with parsing("samples"):
                    return parse_samples(answer, begun), call

        return await self._calling.dispatch(ask, needs, attempt)

    async def _judge_by_entailment(self, ask: Judge, samples: Sequence[str], call: Call) -> Judged:
        """Whether each sample supports the answer, as SelfCheckGPT asks: all calls but the last are its parts."""
        found = []
        for sample in samples:
            call.inner = True
            judged, call = await self._judge_by_label(ask._replace(samples=0, sample=sample))
            found.append(judged)
        yes = ask.labels[0]
        p, mass = fmean(one.p[yes] for one in found), fmean(one.mass for one in found)
        call.judged = to_judged(ask, p, mass, call.usage)
        return call.judged

    async def score(self, ask: Score) -> Scored:
        """Raises Unavailable."""
        needs = self._exchange.needs
        needs = needs._replace(capabilities=needs.capabilities | {"scoring"})

        async def attempt(call: Call, upstream: Upstream, last: bool) -> Scored:
            async with self._calling.accounted(call, upstream, needs):
                call.scored = await self._score_text(ask, call, upstream, last)
                self._calling.scorer = upstream
                return call.scored

        return await self._calling.dispatch(ask, needs, attempt)

    @property
    def scorer_prompt(self) -> Prompt:
        """The exchange's prompt in the ids of the upstream that scored last."""
        assert self._prompt is not None  # noqa: S101  something was scored
        return self._prompt

    async def fetch_prompt(self, upstream: Upstream) -> Prompt:
        """The exchange's prompt in the scorer's ids. Raises Unavailable, Broken."""
        if self._prompt is None or self._calling.scorer is not upstream:
            exchange = self._exchange
            asked = scoring.build_tokenize_request(exchange.body, exchange.endpoint, upstream.model)
            self._prompt = await self._tokenize(upstream, asked)
        return self._prompt

    async def _tokenize(self, upstream: Upstream, asked: Body) -> Prompt:
        answer = await self._calling.fetch(upstream, "tokenize", asked)
        with parsing("what /tokenize gives"):
            return scoring.parse_prompt(answer)

    async def _ask_label(self, ask: Judge, call: Call, upstream: Upstream, last: bool) -> Judged:
        exchange = self._exchange
        about, passage = self._subject_of(ask)
        top = upstream.max_top_logprobs
        body = build_question(ask, about, exchange.endpoint, ask.model or upstream.model, top, passage)
        answer, usage = await self._post(call, upstream, "chat", body, last)
        with parsing("a judgement"):
            return parse_judgement(ask, answer, usage)

    async def _score_text(self, ask: Score, call: Call, upstream: Upstream, last: bool) -> Scored:
        prompt = await self.fetch_prompt(upstream)
        text = scoring.added_text(ask.prefix, ask.text)
        ids: Sequence[int] = ()
        if text:
            ids = (await self._tokenize(upstream, scoring.build_text_request(text, upstream.model))).ids
        before = [*prompt.ids, *ask.after]
        body = scoring.build_score_request(self._exchange.body, [*before, *ids], upstream.model)
        answer, _ = await self._post(call, upstream, "completions", body, last)
        with parsing("scores"):
            reading = scoring.parse_scores(answer, len(before), ids, upstream.ends_answer)
        scored = await self._resolve_endings(reading, upstream, [*before, *ids], len(before))
        return scored._replace(seconds=call.duration_s)

    async def _resolve_endings(
        self, reading: scoring.ParsedScores, upstream: Upstream, ids: Sequence[int], before: int
    ) -> Scored:
        """With what the server says of tokens of which it is not known whether they end an answer."""
        scored, tokens = reading.scored, list(reading.scored.tokens)
        for place, doubtful in reading.undetermined.items():
            if doubtful not in upstream.ends_answer:
                body = scoring.build_forced_request(ids[: before + place], doubtful, upstream.model)
                answer = await self._calling.fetch(upstream, "completions", body)
                with parsing("a completion"):
                    finish = orjson.loads(answer)["choices"][0]["finish_reason"]
                upstream.ends_answer[doubtful] = finish == "stop"
            own = GreedyToken(doubtful, tokens[place].greedy.logprob, upstream.ends_answer[doubtful])
            tokens[place] = tokens[place]._replace(greedy=own)
        return scored._replace(tokens=tokens)

    async def _post(
        self, call: Call, upstream: Upstream, endpoint: str, body: Body, last: bool
    ) -> tuple[bytes, Usage]:
        asked = UpstreamRequest(upstream.url(endpoint), upstream.adapt_body(body, continues=False), last=last)
        sent = await self._calling.send(call, upstream, asked)
        try:
            answer, draft = await read_buffered(sent.response, self._exchange, call)
            upstream.record_success()
        except TransportError as broken:
            if not isinstance(broken, UnusableAnswer):
                upstream.record_failure()
            raise
        finally:
            sent.close()
        call.usage = draft.usage
        return answer, draft.usage
