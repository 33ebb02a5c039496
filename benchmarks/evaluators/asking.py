"""Puts answers to a model: what it judges of each, and what it would have answered itself."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import orjson

from benchmarks.evaluators.kept import Kept, Row
from benchmarks.evaluators.labelled import Answered
from gateway.engine.judge.prompt import build_question, parse_judgement
from gateway.engine.judge.self_consistency import build_samples_request, parse_samples
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from routers.judges.agreement import ENTAILMENT
from routers.judges.evaluators import Rating, Verification
from routers.judges.judgements import LABEL_ORDERS, Judgement
from routers.plan import NO_USAGE, Fragment, Judge, Judged

SAMPLES = 4

Ask = Callable[[Upstream, Answered], Awaitable[Row]]


def one_token(judge: Verification | Rating) -> Ask:
    """Asks as the gateway does, its one-token questions put to the engine."""

    async def ask(upstream: Upstream, answered: Answered) -> Row:
        found = await _performed(upstream, answered, judge.judge(answered.answer, context=answered.context))
        return found._asdict()

    return ask


async def sample(upstream: Upstream, answered: Answered) -> Row:
    """Answers to the same request."""
    ask = Judge("slm", "", LABEL_ORDERS[0], answered.answer, samples=SAMPLES)
    body = build_samples_request(ask, _body(answered), "chat", upstream.model, None)
    return {"samples": parse_samples(await _asked(upstream, body))}


def entailment(samples: Kept) -> Ask:
    """Whether each sample supports the answer."""

    async def ask(upstream: Upstream, answered: Answered) -> Row:
        found = [
            await _told(
                upstream, answered, Judge("slm", ENTAILMENT, LABEL_ORDERS[0], answered.answer, sample=text)
            )
            for text in samples[answered]["samples"]
        ]
        return {
            "p": sum(one.p["yes"] for one in found) / len(found),
            "mass": sum(one.mass for one in found) / len(found),
        }

    return ask


async def ask_all(
    upstream: Upstream, kept: Kept, answers: Sequence[Answered], ask: Ask, at_once: int
) -> None:
    """About every answer that is not kept yet."""
    slots = asyncio.Semaphore(at_once)

    async def one(answered: Answered) -> None:
        async with slots:
            if answered not in kept:
                kept.add(answered, await ask(upstream, answered))

    await asyncio.gather(*(one(answered) for answered in answers))


async def _performed(upstream: Upstream, answered: Answered, fragment: Fragment[Judgement]) -> Judgement:
    ask = next(fragment)
    try:
        while True:
            assert isinstance(ask, Judge)
            ask = fragment.send(await _told(upstream, answered, ask))
    except StopIteration as end:
        judgement: Judgement = end.value
        return judgement


async def _told(upstream: Upstream, answered: Answered, ask: Judge) -> Judged:
    """Of each label as much where none is among the likeliest tokens."""
    question = build_question(ask, _body(answered), "chat", upstream.model, upstream.max_top_logprobs)
    answer = await _asked(upstream, question)
    try:
        return parse_judgement(ask, answer, NO_USAGE)
    except ValueError:
        return Judged(dict.fromkeys(ask.labels, 1.0 / len(ask.labels)), 0.0, NO_USAGE)


def _body(answered: Answered) -> Body:
    return {"messages": [{"role": "user", "content": answered.request}]}


async def _asked(upstream: Upstream, body: Body) -> bytes:
    sent = await upstream.send(upstream.url("chat"), orjson.dumps(body), stream=False)
    try:
        return await sent.response.read()
    finally:
        sent.close()
