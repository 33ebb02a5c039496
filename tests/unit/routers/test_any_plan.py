"""What a client may count on, whatever the router, the request and the ends of its asks."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.router_builders import calibrator, settled

from routers.judges.draft_judge import Verify
from routers.plan import (
    Answer,
    Ask,
    Both,
    Draft,
    Generate,
    Judge,
    Judged,
    Outcome,
    Raced,
    Reason,
    Tier,
    Token,
    Unavailable,
    Verdict,
)
from routers.router import Request, Router
from routers.strategies.cascade import Cascade
from routers.strategies.difficulty import Difficulty, Gate
from routers.strategies.direct import Direct
from routers.strategies.hedge import Hedge
from routers.watch import ConfidenceWatch

MOST_ASKS = 8
"""As many calls as an exchange may make unless its policy says otherwise."""
WHY = st.sampled_from(
    ["down", "busy", "timeout", "context", "rejected", "private", "ceiling", "not_configured"]
)
BROKEN = st.sampled_from(["lost", "garbage", "timeout", "ceiling"])
GATE = Gate(limits={"turns": 3.0})
JUDGING: dict[str, Any] = {"accept": 0.6, "commit": 0.8, "give_up": 0.2, "calibrator": calibrator()}
ROUTERS: dict[str, Router] = {
    "direct to the slm": Direct(tier="slm"),
    "direct to the llm, followed": Direct(tier="llm", follow=True),
    "direct without a fallback": Direct(tier="slm", fallback=False),
    "difficulty": Difficulty(gate=GATE),
    "cascade": Cascade(**JUDGING),
    "cascade, gated": Cascade(**JUDGING, gate=GATE),
    "cascade, spliced": Cascade(**JUDGING, release="splice"),
    "cascade, judged": Cascade(**JUDGING, release="hold", judge=Verify(tier="llm")),
    "hedge": Hedge(**JUDGING),
    "hedge, spliced": Hedge(**JUDGING, release="splice"),
}
TIERS = st.frozensets(st.sampled_from(["slm", "llm"]))
REQUESTS = st.builds(
    Request,
    stream=st.booleans(),
    judgeable=st.sampled_from([True, True, False]),
    whole=st.booleans(),
    tiers=TIERS,
    able=TIERS,
    features=st.sampled_from([{"turns": 1.0}, {"turns": 9.0}]),
    configured=TIERS,
).map(lambda request: request._replace(configured=request.configured | request.tiers | request.able))


class Driver:
    """Ends asks in any way that the engine may, and notes what the client has by then."""

    def __init__(self, request: Request, data: st.DataObject) -> None:
        self.request = request
        self.draw = data.draw
        self.asks: list[Ask] = []
        self.outcomes: list[Outcome | Unavailable] = []
        self.drafts: list[Draft] = []
        self.raised: list[Unavailable] = []
        self.delivered = ""
        """The text that the client has."""
        self.closed = False
        """Whether nothing can follow what the client has: an answer's end, or text that nobody read."""
        self.refused: set[tuple[type, Tier, str]] = set()

    def perform(self, ask: Ask) -> Outcome | Unavailable:
        self.asks.append(ask)
        assert len(self.asks) <= MOST_ASKS
        assert not self.closed
        if isinstance(ask, Both):
            assert not self.delivered
            return self.race(ask)
        self.may_be_asked(ask)
        if isinstance(ask, Judge):
            return self.judge(ask)
        return self.write(ask)

    def may_be_asked(self, ask: Generate | Judge) -> None:
        prefix = ask.prefix if isinstance(ask, Generate) else ""
        if isinstance(ask, Generate):
            assert prefix == self.delivered
        assert (type(ask), ask.tier, prefix) not in self.refused

    def judge(self, ask: Judge) -> Judged | Unavailable:
        if self.draw(st.booleans()):
            return self.lost(ask, self.draw(WHY))
        p = self.draw(st.floats(0.0, 1.0))
        return Judged({"yes": p, "no": 1.0 - p}, 0.9)

    def write(self, ask: Generate) -> Draft | Unavailable:
        ways = [self.fails, self.breaks, self.ends]
        if isinstance(self.watch(ask), ConfidenceWatch):
            ways += [self.gives_up, self.flows_and_gives_up, self.is_held]
        return self.draw(st.sampled_from(ways))(ask)

    def race(self, both: Both) -> Raced:
        for leg in both:
            self.may_be_asked(leg)
        small, large = both
        how = self.draw(st.sampled_from(["slm", "llm", "nobody"]))
        if how == "slm":
            wins = self.draw(st.sampled_from([self.ends, self.breaks, self.flows_and_gives_up]))
            outrun = self.draw(st.sampled_from([self.is_outrun, self.fails]))
            beaten = outrun(large)
            return Raced(self.first(wins, small), beaten)
        loses = [self.gives_up, self.fails, *([self.is_outrun] if how == "llm" else [])]
        beaten = self.draw(st.sampled_from(loses))(small)
        if how == "nobody":
            return Raced(beaten, self.fails(large))
        return Raced(beaten, self.draw(st.sampled_from([self.ends, self.breaks]))(large))

    def first(self, wins: Any, ask: Generate) -> Draft | Unavailable:
        """Whoever flows in part has committed before its end, which only a stream does."""
        return wins(ask) if self.early(ask) else self.ends(ask)

    def watch(self, ask: Generate) -> Any:
        return None if ask.watch is None else ask.watch()

    def early(self, ask: Generate) -> bool:
        watch = self.watch(ask)
        return not isinstance(watch, ConfidenceWatch) or watch.commit is not None

    # --- how an ask ends

    def text(self) -> str:
        return f"<{len(self.drafts)}>" + self.draw(st.sampled_from(["", "x"]))

    def fails(self, ask: Generate) -> Unavailable:
        return self.lost(ask, self.draw(WHY))

    def lost(self, ask: Generate | Judge, why: str, partial: Draft | None = None) -> Unavailable:
        if why in ("context", "rejected"):
            self.refused.add((type(ask), ask.tier, ask.prefix if isinstance(ask, Generate) else ""))
        self.raised.append(Unavailable(why, ask.tier, partial=partial))
        return self.raised[-1]

    def breaks(self, ask: Generate) -> Unavailable:
        """After the client has some of it: text that is known only where a watch followed it."""
        if not self.early(ask):
            return self.fails(ask)
        if ask.watch is None:
            self.closed = True
            return self.lost(ask, self.draw(BROKEN), Draft(ask.tier))
        partial = self.made(Draft(ask.tier, self.text(), kept=1))
        self.delivered += partial.text
        return self.lost(ask, self.draw(BROKEN), partial)

    def ends(self, ask: Generate) -> Draft:
        watch, text = self.watch(ask), self.text()
        self.closed = True
        self.delivered += text
        reason = Reason.CONFIDENT if isinstance(watch, ConfidenceWatch) else None
        return self.made(Draft(ask.tier, text, finish="stop", reason=reason, kept=1, committed_text=text))

    def is_outrun(self, ask: Generate) -> Draft:
        return self.made(Draft(ask.tier, self.text(), verdict=Verdict.CONTINUE))

    def is_held(self, ask: Generate) -> Draft:
        """An accepted draft that its plan is going to judge."""
        if not self.watch(ask).hold_below:
            return self.gives_up(ask)
        return self.made(
            Draft(ask.tier, self.text(), finish="stop", verdict=Verdict.CONTINUE, confidence=0.7)
        )

    def gives_up(self, ask: Generate) -> Draft:
        finish, reason = self.draw(st.sampled_from([("stop", Reason.LOW_CONFIDENCE), (None, Reason.GAVE_UP)]))
        return self.made(Draft(ask.tier, self.text(), finish=finish, verdict=Verdict.GIVE_UP, reason=reason))

    def flows_and_gives_up(self, ask: Generate) -> Draft:
        """A sentence of it flowed first: `splice`."""
        draft = self.gives_up(ask)
        watch = self.watch(ask)
        if watch.release != "splice" or watch.commit is None:
            return draft
        tokens = [Token(draft.text, -0.1, ()), Token("?", -9.0, ())]
        whole = draft._replace(text=draft.text + "?", tokens=tokens, kept=1, committed_text=draft.text)
        self.delivered += draft.text
        return self.made(whole)

    def made(self, draft: Draft) -> Draft:
        self.drafts.append(draft)
        return draft


def settle(router: Router, driver: Driver) -> Answer | Unavailable:
    plan = router.plan(driver.request)
    try:
        ask = next(plan)
        while True:
            outcome = driver.perform(ask)
            driver.outcomes.append(outcome)
            ask = plan.throw(outcome) if isinstance(outcome, Unavailable) else plan.send(outcome)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    except Unavailable as error:
        return error


@pytest.mark.parametrize("name", ROUTERS)
@settings(max_examples=80)
@given(request_=REQUESTS, data=st.data())
def test_an_exchange_ends_in_what_was_written_or_in_why_it_was_not(
    name: str, request_: Request, data: st.DataObject
) -> None:
    """In few asks; nothing is begun anew once the client has a beginning, nor asked again of who refused it."""
    driver = Driver(request_, data)
    found = settle(ROUTERS[name], driver)
    if isinstance(found, Unavailable):
        assert any(found is lost for lost in driver.raised)
        return
    assert found.parts
    for part in found.parts:
        assert any(draft.tier == part.tier and draft.text.startswith(part.text) for draft in driver.drafts)
    assert "".join(part.text for part in found.parts).startswith(driver.delivered)


@pytest.mark.parametrize("name", [name for name in ROUTERS if name != "direct without a fallback"])
@settings(max_examples=60)
@given(request_=REQUESTS, data=st.data())
def test_who_cannot_serve_a_request_is_not_asked_where_the_other_can(
    name: str, request_: Request, data: st.DataObject
) -> None:
    driver = Driver(request_, data)
    settle(ROUTERS[name], driver)
    asks = [leg for ask in driver.asks for leg in (ask if isinstance(ask, Both) else (ask,))]
    for other in request_.able & request_.tiers:
        assert all(ask.tier not in request_.incapable or ask.tier == other for ask in asks)


@pytest.mark.parametrize("name", ROUTERS)
@given(request_=REQUESTS, data=st.data())
def test_the_same_ends_lead_to_the_same_asks(name: str, request_: Request, data: st.DataObject) -> None:
    """A plan has no memory, no clock and no luck: replay depends on it."""
    driver = Driver(request_, data)
    first = settle(ROUTERS[name], driver)
    asks, second = settled(ROUTERS[name].plan(request_), *driver.outcomes)
    assert first is second if isinstance(first, Unavailable) else first == second
    assert list(map(asked, asks)) == list(map(asked, driver.asks))


def asked(ask: Ask) -> Any:
    """An ask but for its watch, of which each has its own."""
    if isinstance(ask, Both):
        return asked(ask.a), asked(ask.b)
    return ask._replace(watch=None) if isinstance(ask, Generate) else ask
