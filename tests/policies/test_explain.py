"""What `policy explain` says is what the plan does: each line by hand here, for the plans that ship."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, get_args

import pytest
from builders import calibrator
from hypothesis import given
from hypothesis import strategies as st

from policies.explain import DEPTH, Step, described, explained, hypotheses, lines
from routers.cascade import Cascade
from routers.direct import Direct
from routers.plan import Ask, Generate, Plan, Request, Router, TokenLike, Unavailable, Verdict

SLM = frozenset(("slm",))
LLM = frozenset(("llm",))


def cascade(**changes: Any) -> Cascade:
    return Cascade(**{"accept": 0.6, "calibrator": calibrator()} | changes)


def told(router: Router, **request: Any) -> list[str]:
    return list(lines(explained(router, Request(**request))))


def test_a_cascade_is_told_from_its_draft_on() -> None:
    assert told(cascade(give_up=0.2)) == [
        "ask the slm, watched: give up under 0.2, accept at >= 0.6",
        "  if confident: serve the slm answer (reason confident)",
        "  if low_confidence: ask the llm (low_confidence)",
        "    if answered: serve the llm answer (reason low_confidence)",
        "    if unavailable, prompt too long or request rejected: serve the slm answer (reason no_llm)",
        "  if gave_up: ask the llm (gave_up)",
        "    if answered: serve the llm answer (reason gave_up)",
        "    if unavailable, prompt too long or request rejected: "
        "ask the slm (no_llm), waiting up to 15 s for its restart",
        "      if answered: serve the slm answer (reason no_llm)",
        "      if unavailable, prompt too long or request rejected: fail with its error",
        "  if unavailable: ask the llm (no_slm)",
        "    if answered: serve the llm answer (reason no_slm)",
        "    if unavailable, prompt too long or request rejected: "
        "ask the slm (no_llm), waiting up to 15 s for its restart",
        "      if answered: serve the slm answer (reason no_llm)",
        "      if unavailable, prompt too long or request rejected: fail with its error",
        "  if prompt too long: ask the llm (context_too_long)",
        "    if answered: serve the llm answer (reason context_too_long)",
        "    if unavailable, prompt too long or request rejected: fail with the slm's error (context)",
        "  if request rejected: ask the llm (no_slm)",
        "    if answered: serve the llm answer (reason no_slm)",
        "    if unavailable, prompt too long or request rejected: fail with the slm's error (rejected)",
    ]


def test_thresholds_that_are_switched_off_are_not_told() -> None:
    text = "\n".join(told(cascade(), stream=True))
    assert text.startswith("ask the slm, watched: accept at >= 0.6\n")
    assert "gave_up" not in text
    assert "committed" not in text


def test_a_stream_may_flow_early_and_then_break_off() -> None:
    found = told(cascade(commit=0.75), stream=True)
    assert found[:5] == [
        "ask the slm, watched: commit at confidence >= 0.75, accept at >= 0.6",
        "  if committed: serve the slm answer (reason committed)",
        "  if broken off midway: "
        "ask the slm (committed), to go on from what was delivered, waiting up to 15 s for its restart",
        "    if answered: serve the slm answer, in 2 parts (reason committed)",
        "    if broken off midway, unavailable, prompt too long or request rejected: fail with its error",
    ]
    plain = "\n".join(told(cascade(commit=0.75)))
    assert "committed" not in plain
    assert "broken off" not in plain


def test_a_request_that_is_not_judged_goes_to_the_llm() -> None:
    assert told(cascade(), judgeable=False)[:3] == [
        "ask the llm (not_judged)",
        "  if answered: serve the llm answer (reason not_judged)",
        "  if unavailable or prompt too long: ask the slm (no_llm), waiting up to 15 s for its restart",
    ]


def test_a_tier_that_is_not_configured_is_not_supposed_to_answer() -> None:
    assert told(cascade(), tiers=LLM)[:4] == [
        "ask the slm, watched: accept at >= 0.6",
        "  if no slm configured: ask the llm (no_slm)",
        "    if answered: serve the llm answer (reason no_slm)",
        "    if unavailable, prompt too long or request rejected: "
        "ask the slm (no_llm), waiting up to 15 s for its restart",
    ]
    assert told(cascade(), tiers=SLM)[0] == "ask the slm (no_llm), waiting up to 15 s for its restart"


def test_a_direct_policy_is_told() -> None:
    assert told(Direct(tier="slm")) == [
        "ask the slm",
        "  if answered: serve the slm answer (reason policy)",
        "  if unavailable: ask the llm (no_slm), waiting up to 15 s for its restart",
        "    if answered: serve the llm answer (reason no_slm)",
        "    if unavailable, prompt too long or request rejected: fail with its error",
        "  if prompt too long: ask the llm (context_too_long), waiting up to 15 s for its restart",
        "    if answered: serve the llm answer (reason context_too_long)",
        "    if unavailable, prompt too long or request rejected: fail with its error",
        "  if request rejected: fail with its error",
    ]


class Endless(Router):
    """Asks again whatever comes of it."""

    kind: str = "endless"

    def plan(self, request: Request) -> Plan:
        while True:
            with suppress(Unavailable):
                yield Generate("llm")


def test_a_plan_without_an_end_is_left_open_at_a_depth() -> None:
    assert lines_below(explained(Endless(), Request())) == DEPTH
    assert told(Endless(), tiers=SLM) == [
        "ask the llm",
        *(f"{'  ' * depth}if no llm configured: ask the llm" for depth in range(1, DEPTH)),
        f"{'  ' * DEPTH}if no llm configured: and so on",
    ]


def lines_below(step: Step) -> int:
    return max((1 + lines_below(branch.then) for branch in step.branches), default=0)


class Coin:
    """A watch that nobody has told anything of."""

    reason = None
    confidence = None

    def token(self, token: TokenLike) -> Verdict:
        return Verdict.CONTINUE

    def end(self, finish: str | None) -> Verdict:
        return Verdict.COMMIT


def test_an_unknown_watch_may_accept_reject_or_stop() -> None:
    found = hypotheses(Generate("slm", watch=Coin), Request())
    assert [one.when for one in found][:3] == ["accepted", "not accepted", "stopped early"]
    assert described(Generate("slm", watch=Coin)) == "ask the slm, watched (Coin)"


def test_every_kind_of_ask_can_be_told() -> None:
    """A new one needs its line and its outcomes in policies/explain.py."""
    for kind in get_args(Ask) or (Ask,):
        assert described.dispatch(kind) is not described.dispatch(object), kind
        assert hypotheses.dispatch(kind) is not hypotheses.dispatch(object), kind
    with pytest.raises(TypeError, match="str is no ask"):
        described("ask")
    with pytest.raises(TypeError, match="str is not known"):
        hypotheses("ask", Request())


@st.composite
def routers(draw: st.DrawFn) -> Router:
    if draw(st.booleans()):
        return Direct(tier=draw(st.sampled_from(["slm", "llm"])), fallback=draw(st.booleans()))
    low, mid, high = sorted(draw(st.tuples(*[st.floats(0, 1)] * 3)))
    return cascade(
        accept=mid, give_up=draw(st.sampled_from([None, low])), commit=draw(st.sampled_from([None, high]))
    )


REQUESTS = st.builds(
    Request,
    stream=st.booleans(),
    judgeable=st.booleans(),
    tiers=st.sets(st.sampled_from(["slm", "llm"])).map(frozenset),
)


def leaves(step: Step) -> Iterator[str]:
    if not step.branches:
        yield step.text
    for branch in step.branches:
        yield from leaves(branch.then)


@given(routers(), REQUESTS)
def test_every_way_ends_in_an_answer_or_an_error(router: Router, request: Request) -> None:
    found = set(leaves(explained(router, request)))
    assert all(text.startswith(("serve the ", "fail with ")) for text in found)
    for tier in {"slm", "llm"} - request.tiers:
        assert not any(text.startswith(f"serve the {tier} ") for text in found)
    assert bool(request.tiers & allowed(router)) == any(text.startswith("serve") for text in found)


def allowed(router: Router) -> frozenset[str]:
    return frozenset((router.tier,)) if isinstance(router, Direct) and not router.fallback else SLM | LLM
