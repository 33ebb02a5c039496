"""A fault of a plan, a watch or the gateway itself is a 500 with a traceback, and no server's: breakers stay closed."""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import orjson
import pytest
from support.gateways import Gateway, settings_of, upstream
from support.judge_replies import said
from support.scoring_vllm import ReaderVllm
from support.scripted_server import Reply, Scripted, logprobs_of, scripted
from support.toy_vllm import ToyVllm
from support.waiting import soon

from gateway.api.writers import PlainReply, StreamReply
from gateway.api.writers import Reply as AnyReply
from gateway.engine.engine import AccountedFault, Engine
from gateway.engine.runner import run_fragment
from gateway.exchange.exchange import Exchange
from gateway.skills.answer_rewriter import RewrittenResponse
from gateway.skills.guard.prompt_leak import PromptLeakGuard
from gateway.skills.transforms import Transform
from gateway.timers import Deadlines
from gateway.upstreams.pool import build_pools
from gateway.upstreams.resilience.breaker import FAILURES_TO_OPEN
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from policies.schema.ceilings import Ceilings
from policies.schema.compress import Compress
from policies.schema.policy import Policy
from routers.plan import Answer, Ask, Fragment, Generate, Judge, Plan, Reason, Say, Score, TokenLike, Verdict
from routers.router import Request, Router
from routers.watch import ObservingWatch

MESSAGES = [
    {"role": "system", "content": "You are Nora and you never say when the vault opens."},
    {"role": "user", "content": "Is ice cold?"},
]
FAULTS = [KeyError, IndexError, TypeError, AttributeError, ValueError, StopIteration, ZeroDivisionError]
JUDGE = Judge("slm", "{request}?", ("yes", "no"), because=Reason.JUDGED)
SAMPLES = JUDGE._replace(samples=2, compare="text", answer="Yes.")
READ = Judge("slm", "Say: {request}", (), because=Reason.JUDGED)


class Failing(ObservingWatch):
    """Fails at the second token, or at the end."""

    fault: type[Exception] = KeyError
    at_end = False

    def token(self, token: TokenLike) -> Verdict:
        if self._tokens and not self.at_end:
            raise self.fault("of the watch's own")
        return super().token(token)

    def end(self, finish: str | None, flaw: Reason | None = None) -> Verdict:
        raise self.fault("of the watch's own")


class Looking(ObservingWatch):
    """Reads all that tokens have."""

    def token(self, token: TokenLike) -> Verdict:
        sum([*token.top, token.logprob or 0.0])
        return super().token(token)


class Asking(Router):
    """Asks one after the other, then fails where it is told to."""

    kind: Literal["asking"] = "asking"
    asks: tuple[Any, ...]
    fault: Any = None

    def plan(self, request: Request) -> Plan:
        for ask in self.asks:
            outcome = yield ask
        if self.fault is not None:
            raise self.fault("of the plan's own")
        return Answer.of(outcome)


class Broken:
    """A transform that fails on the way out, or in a filter on the way back."""

    def __init__(self, fault: type[Exception], *, outgoing: bool) -> None:
        self._fault = fault
        self._out = outgoing

    @property
    def has_pending_text(self) -> bool:
        return False

    def rewrite_request(self, upstream: Upstream, body: Body) -> Body:
        if self._out:
            raise self._fault("of the transform's own")
        return body

    def build_answer_filter(self, upstream: Upstream, *, json: bool) -> "Broken | None":
        return None if self._out else self

    def feed(self, text: str) -> str:
        raise self._fault("of the filter's own")

    def flush(self) -> str:
        raise self._fault("of the filter's own")


class Ran:
    """Exchanges run on upstreams that outlive them; `messages` are what their clients get."""

    def __init__(self, *servers: dict[str, Any]) -> None:
        self.upstreams = [Upstream(one) for one in settings_of(*servers).upstreams]
        self.engine = Engine(build_pools(self.upstreams), leave=lambda _: None)
        self.messages: list[Any] = []

    async def run(
        self, router: Router, *, times: int = FAILURES_TO_OPEN + 1, stream: bool = False, **more: Any
    ) -> Exchange:
        for _ in range(times):
            exchange = self.exchange(router, stream, **more)
            reply: AnyReply = PlainReply(self._send, exchange)
            if stream:
                reply = StreamReply(self._send, exchange, 60.0, Deadlines())
            try:
                await soon(self.engine.run(exchange, reply))
            finally:
                reply.close()
        return exchange

    def exchange(self, router: Router, stream: bool, **more: Any) -> Exchange:
        body: Body = {"model": "test", "messages": MESSAGES, "stream": stream}
        policy = Policy.model_construct(
            name="test", router=router, ceilings=Ceilings(calls=64), compress=more.pop("compress", None)
        )
        return Exchange(
            surface="chat",
            endpoint="chat",
            policy=policy,
            body=body,
            raw=orjson.dumps(body),
            request=Request(stream=stream),
            alone_price=None,
            **more,
        )

    async def _send(self, message: Any) -> None:
        self.messages.append(message)

    async def close(self) -> None:
        for one in self.upstreams:
            await one.close()


@pytest.fixture
async def ran() -> Any:
    """Starts what runs exchanges: `ran(upstream(...))`."""
    started: list[Ran] = []

    def start(*servers: dict[str, Any]) -> Ran:
        started.append(Ran(*servers))
        return started[-1]

    yield start
    for one in started:
        await one.close()


def assert_a_fault_of_ours(
    ran: Ran, exchange: Exchange, caplog: pytest.LogCaptureFixture, fault: type[Exception]
) -> None:
    assert (exchange.status, exchange.error) == (500, "internal_error")
    assert b'"internal_error"' in b"".join(message.get("body", b"") for message in ran.messages)
    tracebacks = [record.exc_text or "" for record in caplog.records if record.levelno == logging.ERROR]
    assert tracebacks
    assert all(fault.__name__ in one and "own" in one for one in tracebacks)
    assert not any(one.breaker.is_open for one in ran.upstreams)
    assert all(call.settled for call in exchange.calls)
    assert not any(call.outcome in ("garbage", "lost") for call in exchange.calls)


def failing(fault: type[Exception], *, at_end: bool) -> Callable[[], Failing]:
    return type("Failing", (Failing,), {"fault": fault, "at_end": at_end})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_watch_that_fails(
    ran: Any, slm: Scripted, caplog: Any, fault: type[Exception], at_end: bool, stream: bool
):
    here = ran(upstream(slm, "slm"))
    router = Asking(asks=(Generate("slm", failing(fault, at_end=at_end)),))
    exchange = await here.run(router, stream=stream)
    assert_a_fault_of_ours(here, exchange, caplog, fault)
    assert len(slm.requests) == FAILURES_TO_OPEN + 1
    assert [call.outcome for call in exchange.calls] == ["stopped"]


async def test_a_watch_that_fails_on_a_chunk_that_is_read_whole(ran: Any, slm: Scripted, caplog: Any):
    slm.says(Reply("a b c", without_logprobs=True))
    here = ran(upstream(slm, "slm"))
    router = Asking(asks=(Generate("slm", failing(KeyError, at_end=False)),))
    exchange = await here.run(router)
    assert_a_fault_of_ours(here, exchange, caplog, KeyError)


async def test_a_watch_that_can_not_be_made(ran: Any, slm: Scripted, caplog: Any):
    def watch() -> ObservingWatch:
        raise KeyError("own")

    here = ran(upstream(slm, "slm"))
    exchange = await here.run(Asking(asks=(Generate("slm", watch),)))
    assert_a_fault_of_ours(here, exchange, caplog, KeyError)
    assert slm.requests == []


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_strategy_that_fails(ran: Any, slm: Scripted, caplog: Any, fault: type[Exception]):
    here = ran(upstream(slm, "slm"))
    router = Asking(asks=(Generate("slm", ObservingWatch),), fault=fault)
    exchange = await here.run(router)
    assert_a_fault_of_ours(here, exchange, caplog, fault)


@pytest.mark.parametrize("fault", [KeyError, TypeError, ValueError])
@pytest.mark.parametrize(
    ("ask", "outgoing"),
    [
        *[
            (one, out)
            for one in (Generate("slm", ObservingWatch), Generate("slm"), JUDGE, SAMPLES)
            for out in (False, True)
        ],
        (Score("slm", "The sea"), True),  # its answers have no text
    ],
)
async def test_a_transform_that_fails(
    ran: Any, caplog: Any, ask: Ask, outgoing: bool, fault: type[Exception]
):
    async with scripted("small", ToyVllm if isinstance(ask, Score) else Scripted) as slm:
        here = ran(upstream(slm, "slm", engine="vllm"))
        exchange = await here.run(Asking(asks=(ask,)), transforms=(Broken(fault, outgoing=outgoing),))
        assert_a_fault_of_ours(here, exchange, caplog, fault)


async def test_a_transform_that_fails_while_text_is_said(ran: Any, caplog: Any):
    class Late(Broken):
        def rewrite_request(self, upstream: Upstream, body: Body) -> Body:
            return super().rewrite_request(upstream, body) if "tokens" in body else body

    async with scripted("small", ToyVllm) as slm:
        here = ran(upstream(slm, "slm", engine="vllm"))
        exchange = await here.run(
            Asking(asks=(Score("slm", "The sea"), Say("slm", (1, 2)))),
            transforms=(Late(KeyError, outgoing=True),),
        )
        assert_a_fault_of_ours(here, exchange, caplog, KeyError)


@pytest.mark.parametrize("ask", [READ, Generate("llm")], ids=["read", "compressed"])
async def test_a_transform_that_fails_while_a_text_is_read(ran: Any, caplog: Any, llm: Scripted, ask: Ask):
    async with scripted("small", ReaderVllm) as slm:
        here = ran(upstream(slm, "slm", engine="vllm"), upstream(llm, "llm"))
        section = Compress(target_ratio=0.5, min_tokens=1, worth="always")
        exchange = await here.run(
            Asking(asks=(ask,)),
            transforms=(Broken(KeyError, outgoing=True),),
            compress=section if ask is not READ else None,
        )
        assert_a_fault_of_ours(here, exchange, caplog, KeyError)


async def test_an_answer_that_may_not_be_used_is_no_fault_of_a_judges_server(ran: Any, slm: Scripted):
    secret = str(MESSAGES[0]["content"])
    slm.says(secret)
    here = ran(upstream(slm, "slm", engine="vllm"))
    exchange = await here.run(Asking(asks=(SAMPLES,)), transforms=(PromptLeakGuard([secret], 6),))
    assert exchange.error == "leak"
    assert len(slm.requests) == FAILURES_TO_OPEN + 1
    assert not here.upstreams[0].breaker.is_open


def chunk(entry: Any, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [entry]}, "finish_reason": None}
    event = {"id": "u", "object": "chat.completion.chunk", "created": 1, "choices": [choice | more]}
    return b"data: %b\n\n" % json.dumps(event).encode()


ENTRY = logprobs_of("a", -0.1)["content"][0]


@pytest.mark.parametrize(
    "bad",
    [
        chunk(ENTRY | {"logprob": "none"}),
        chunk(ENTRY | {"top_logprobs": [{}]}),
        chunk(ENTRY | {"top_logprobs": [{"logprob": "x"}]}),
        chunk(ENTRY | {"top_logprobs": 5}),
        chunk({"logprob": -0.1}),
        chunk([]),
        chunk(ENTRY, delta={"content": "a", "tool_calls": [1]}),
        chunk(ENTRY, delta={"tool_calls": [{"function": {"name": 5}}]}),
    ],
)
async def test_what_a_server_writes_in_another_shape_is_still_its_fault(ran: Any, slm: Scripted, bad: bytes):
    """A token's numbers are not looked at before a watch does."""
    slm.says(Reply(raw=chunk(ENTRY) + bad))
    here = ran(upstream(slm, "slm"))
    exchange = await here.run(Asking(asks=(Generate("slm", Looking),)))
    assert exchange.error == "upstream_unavailable"
    assert here.upstreams[0].breaker.is_open
    assert len(slm.requests) == FAILURES_TO_OPEN


def judging(found: Sequence[Any]) -> Reply:
    return Reply("yes", extra={"choices": [{"finish_reason": "stop", "logprobs": {"content": found}}]})


@pytest.mark.parametrize("reply", [judging([]), judging([{"top_logprobs": [{"token": 5}]}]), said(maybe=1.0)])
async def test_a_judgement_of_another_shape_is_its_servers_fault(ran: Any, slm: Scripted, reply: Reply):
    slm.says(reply)
    exchange = await ran(upstream(slm, "slm", engine="vllm")).run(Asking(asks=(JUDGE,)), times=1)
    assert exchange.error == "upstream_garbage"
    assert [call.outcome for call in exchange.calls] == ["garbage"]


class Misread(ToyVllm):
    """Its page `bad` answers `answer`."""

    bad = ""
    body: Any = None

    async def answer(self, request: Any) -> Any:
        if request.path.endswith(self.bad):
            return self._fixed(Reply(body=self.body))
        return await super().answer(request)


@pytest.mark.parametrize("body", [{}, [], "<html>", {"tokens": 5, "prompt": 5, "choices": [5]}])
@pytest.mark.parametrize("page", ["detokenize", "/tokenize", "completions"])
async def test_a_score_of_another_shape_is_its_servers_fault(ran: Any, page: str, body: Any):
    async with scripted("small", Misread) as slm:
        slm.bad, slm.body = page, body
        asks = (Score("slm", "The sea"), Say("slm", (1, 2)))
        exchange = await ran(upstream(slm, "slm", engine="vllm")).run(Asking(asks=asks), times=1)
        assert exchange.error == "upstream_garbage"
        assert exchange.calls[-1].outcome == "garbage"


@pytest.mark.parametrize("page", ["detokenize", "/tokenize", "completions"])
async def test_an_error_inside_a_page_is_an_error(ran: Any, page: str):
    async with scripted("small", Misread) as slm:
        slm.bad, slm.body = page, {"error": {"code": 429, "message": "Slow down."}}
        asks = (Score("slm", "The sea"), Say("slm", (1, 2)))
        exchange = await ran(upstream(slm, "slm", engine="vllm", limits={"retries": 0})).run(
            Asking(asks=asks), times=1
        )
        assert (exchange.status, exchange.error) == (429, "rate_limit_exceeded")
        assert exchange.calls[-1].outcome == "rate_limited"


class Fixed:
    """A response of one body."""

    status = 200
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self, limit: int = 0) -> bytes:
        return self._body

    async def next(self, gap: float | None = None) -> bytes:
        body, self._body = self._body, b""
        return body

    def close(self) -> None: ...


@pytest.mark.parametrize("fault", [KeyError, TypeError, AttributeError, ValueError])
async def test_what_a_filter_fails_on_does_not_pass_it(fault: type[Exception]):
    transform: Transform = Broken(fault, outgoing=False)
    rewritten = RewrittenResponse(
        Fixed(chunk(ENTRY)), lambda _: [transform.build_answer_filter(None, json=False)]
    )  # type: ignore[arg-type, list-item]
    with pytest.raises(fault):
        await rewritten.next()


async def test_one_of_an_endpoint_of_our_own_is_told_as_any_other(gateway: Gateway, caplog: Any):
    async def fails() -> None:
        raise KeyError("of our own")

    gateway.app.add_api_route("/v1/fails", fails)
    status, body = await gateway.get("/v1/fails")
    assert (status, body["error"]["code"]) == (500, "internal_error")


async def test_a_fragment_that_fails_beside_replies_is_booked_as_a_fault(ran: Any, slm: Scripted):
    def fails() -> Fragment[None]:
        yield Generate("slm", ObservingWatch)
        raise KeyError("of our own")

    here = ran(upstream(slm, "slm"))
    exchange = here.exchange(Asking(asks=()), stream=False)
    with pytest.raises(AccountedFault) as raised:
        await here.engine.perform(exchange, run_fragment(fails()))
    assert isinstance(raised.value.__cause__, KeyError)
    assert (exchange.status, exchange.error) == (500, "internal_error")
