"""Performs the Judge and Score asks of one exchange. Their outcomes are numbers, and are not sent to the client."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from gateway.engine.attempt import Attempt, UpstreamRequest
from gateway.engine.dispatch import Dispatcher, Scorer
from gateway.engine.streams.attempt_reader import open_chunk_reader
from gateway.engine.streams.buffered import read_buffered
from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.skills.compress.surprisal import SurprisalReader
from gateway.upstreams.transport.malformed import parsing
from gateway.upstreams.transport.transport import Response
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from gateway.wire.requests import find_answer_prefix
from gateway.wire.requirements import Requirements
from routers.plan import GreedyToken, Judge, Judged, Score, Scored, Unavailable, Usage

from . import vllm_scoring as scoring
from .prompt import build_likelihood_text, build_question, parse_judgement, to_likelihood
from .self_consistency import build_samples_request, measure_agreement, parse_samples, to_judged
from .text_scoring import score_text
from .vllm_scoring import Prompt

LABEL_REQUIREMENTS = Requirements(frozenset({"logprobs"}))


class _JudgedCall(NamedTuple):
    """A judgement, and the call that gave it."""

    judged: Judged
    call: Call


class JudgeCalls:
    """Performs the Judge and Score asks of one exchange."""

    def __init__(self, exchange: Exchange, dispatcher: Dispatcher) -> None:
        self._exchange = exchange
        self._dispatcher = dispatcher

    async def judge(self, ask: Judge) -> Judged:
        """Return the probabilities of the ask's labels. Raises Unavailable."""
        if not ask.labels:
            return await self._judge_by_likelihood(ask)
        if not ask.samples:
            return (await self._judge_by_label(ask)).judged
        samples, call = await self._write_samples(ask)
        if ask.compare != "entailment":
            call.judged = measure_agreement(ask, samples, call.usage)
            return call.judged
        return await self._judge_by_entailment(ask, samples, call)

    async def _judge_by_label(self, ask: Judge) -> _JudgedCall:
        """Judge by the probabilities of the next token's labels. Raises Unavailable."""

        async def perform(attempt: Attempt) -> _JudgedCall:
            attempt.call.judged = await self._ask_label(ask, attempt)
            return _JudgedCall(attempt.call.judged, attempt.call)

        requirements = LABEL_REQUIREMENTS._replace(model=ask.model or None)
        return await self._dispatcher.dispatch(ask, requirements, perform)

    async def _judge_by_likelihood(self, ask: Judge) -> Judged:
        """Judge by the likelihood of the user's question, after the ask's context. Raises Unavailable."""
        exchange = self._exchange
        context, text = build_likelihood_text(ask, *self._subject_of(ask), exchange.endpoint)

        async def read(reader: SurprisalReader) -> Judged:
            surprisals = await reader.read_surprisals(text, context)
            if all(token.logprob is None for token in surprisals):
                raise Unavailable("incapable", ask.tier, "the question's text has nothing to be read")
            return to_likelihood(surprisals, reader.tokens_read)

        judged = await score_text(exchange, self._dispatcher, ask, read)
        next(call for call in reversed(exchange.calls) if call.ask is ask).judged = judged
        return judged

    def _subject_of(self, ask: Judge) -> tuple[Body, str | None]:
        """Return the body that an ask is about, and its passage."""
        exchange = self._exchange
        if ask.passage is None or exchange.passages is None:
            return exchange.body, None
        return exchange.passages.bare, exchange.passages.retrieved[ask.passage].titled

    async def _write_samples(self, ask: Judge) -> tuple[list[str], Call]:
        """Return samples of the exchange's answer, and the call that wrote them. Raises Unavailable."""
        exchange = self._exchange

        async def perform(attempt: Attempt) -> tuple[list[str], Call]:
            call, upstream = attempt.call, attempt.upstream
            allowed = None if call.allowed is None else call.allowed // ask.samples
            model = ask.model or upstream.model
            body = build_samples_request(ask, exchange.body, exchange.endpoint, model, allowed)
            answer, _ = await self._post(attempt, exchange.endpoint, body)
            prefix = find_answer_prefix(exchange.body.get("messages") or [])
            with parsing("samples"):
                return parse_samples(answer, prefix), call

        capabilities = exchange.needs.capabilities - {"logprobs", "choices"}
        if ask.samples > 1:
            capabilities |= {"choices"}
        requirements = exchange.needs._replace(
            capabilities=capabilities, top_logprobs=0, model=ask.model or None
        )
        return await self._dispatcher.dispatch(ask, requirements, perform)

    async def _judge_by_entailment(self, ask: Judge, samples: Sequence[str], call: Call) -> Judged:
        """Judge by whether each sample supports the answer (SelfCheckGPT). All calls but the last are parts of it."""
        judgements = []
        for sample in samples:
            call.inner = True
            judged, call = await self._judge_by_label(ask._replace(samples=0, sample=sample))
            judgements.append(judged)
        yes = ask.labels[0]
        p, mass = fmean(each.p[yes] for each in judgements), fmean(each.mass for each in judgements)
        call.judged = to_judged(ask, p, mass, call.usage)
        return call.judged

    async def score(self, ask: Score) -> Scored:
        """Return the log-probabilities of the ask's text. Raises Unavailable."""

        async def perform(attempt: Attempt) -> Scored:
            prompt = await self._fetch_prompt(attempt.upstream)
            attempt.call.scored = await self._score_text(ask, attempt, prompt)
            self._dispatcher.scorer = Scorer(attempt.upstream, prompt)
            return attempt.call.scored

        needs = self._exchange.needs
        requirements = needs._replace(capabilities=needs.capabilities | {"scoring"})
        return await self._dispatcher.dispatch(ask, requirements, perform)

    async def _fetch_prompt(self, upstream: Upstream) -> Prompt:
        """Return the exchange's prompt in the upstream's token ids. Raises Unavailable, TransportError."""
        scorer = self._dispatcher.scorer
        if scorer is not None and scorer.upstream is upstream:
            return scorer.prompt
        exchange = self._exchange
        request = scoring.build_tokenize_request(exchange.body, exchange.endpoint, upstream.model)
        return await self._tokenize(upstream, request)

    async def _tokenize(self, upstream: Upstream, request: Body) -> Prompt:
        answer = await self._dispatcher.fetch(upstream, "tokenize", request)
        with parsing("what /tokenize gives"):
            return scoring.parse_prompt(answer)

    async def _ask_label(self, ask: Judge, attempt: Attempt) -> Judged:
        exchange, upstream = self._exchange, attempt.upstream
        subject, passage = self._subject_of(ask)
        top = upstream.max_top_logprobs
        model = ask.model or upstream.model
        body = build_question(ask, subject, exchange.endpoint, model, top, passage)
        answer, usage = await self._post(attempt, "chat", body)
        with parsing("a judgement"):
            return parse_judgement(ask, answer, usage)

    async def _score_text(self, ask: Score, attempt: Attempt, prompt: Prompt) -> Scored:
        upstream = attempt.upstream
        text = scoring.added_text(ask.prefix, ask.text)
        ids: Sequence[int] = ()
        if text:
            ids = (await self._tokenize(upstream, scoring.build_text_request(text, upstream.model))).ids
        before = [*prompt.ids, *ask.after]
        body = scoring.build_score_request(self._exchange.body, [*before, *ids], upstream.model)
        answer, usage = await self._post(attempt, "completions", body)
        with parsing("scores"):
            scores = scoring.parse_scores(answer, usage, len(before), ids, upstream.ends_answer)
        scored = await self._resolve_endings(scores, upstream, [*before, *ids], len(before))
        return scored._replace(seconds=attempt.call.duration_s)

    async def _resolve_endings(
        self, scores: scoring.ParsedScores, upstream: Upstream, ids: Sequence[int], before: int
    ) -> Scored:
        """Return the scores with every token resolved that may end an answer: the server is asked for each unknown one.

        Raises Unavailable, TransportError.
        """
        scored, tokens = scores.scored, list(scores.scored.tokens)
        for place, token_id in scores.undetermined.items():
            if token_id not in upstream.ends_answer:
                body = scoring.build_forced_request(ids[: before + place], token_id, upstream.model)
                answer = await self._dispatcher.fetch(upstream, "completions", body)
                with parsing("a completion"):
                    finish = answer["choices"][0]["finish_reason"]
                upstream.ends_answer[token_id] = finish == "stop"
            greedy = GreedyToken(token_id, tokens[place].greedy.logprob, upstream.ends_answer[token_id])
            tokens[place] = tokens[place]._replace(greedy=greedy)
        return scored._replace(tokens=tokens)

    async def _post(self, attempt: Attempt, endpoint: str, body: Body) -> tuple[bytes, Usage]:
        chunks = open_chunk_reader(self._exchange, attempt.call)

        async def read(response: Response) -> tuple[bytes, Usage]:
            answer, draft = await read_buffered(response, self._exchange, attempt.call, chunks)
            return answer, draft.usage

        upstream = attempt.upstream
        request = UpstreamRequest(upstream.url(endpoint), upstream.adapt_body(body, continues=False))
        answer, usage = await attempt.post(request, read)
        attempt.call.usage = usage
        attempt.call.reported_usd = None if upstream.has_price else chunks.usage.reported.cost_usd
        return answer, usage
