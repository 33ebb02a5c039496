"""What `policy explain` says is what the plan does: each line by hand here, for the plans that ship."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.router_builders import calibrator

from policies.explain.hypotheses import list_hypotheses
from policies.explain.plan_tree import (
    MAX_DEPTH,
    Step,
    build_tree,
    describe_ask,
    describe_preparation,
    to_lines,
)
from policies.schema.compress import Compress
from policies.schema.policy import Policy
from routers.fragments.passage_filter import PassageFilter
from routers.judges.draft_judge import Agree, Verify
from routers.plan import (
    Answer,
    Ask,
    Draft,
    Generate,
    Judge,
    Plan,
    Reason,
    Tier,
    TokenLike,
    Unavailable,
    Verdict,
)
from routers.router import Request, Router
from routers.strategies.cascade import Cascade
from routers.strategies.difficulty import Difficulty, Gate
from routers.strategies.direct import Direct
from routers.strategies.hedge import Hedge

SLM = frozenset(("slm",))
LLM = frozenset(("llm",))


def cascade(**changes: Any) -> Cascade:
    return Cascade(**{"accept": 0.6, "calibrator": calibrator()} | changes)


def hedge(**changes: Any) -> Hedge:
    return Hedge(**{"accept": 0.6, "calibrator": calibrator()} | changes)


def told(router: Router, **request: Any) -> list[str]:
    return list(to_lines(build_tree(router, Request(**request))))


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
    assert found[:8] == [
        "ask the slm, watched: commit at confidence >= 0.75, accept at >= 0.6",
        "  if committed: serve the slm answer (reason committed)",
        "  if broken off midway: "
        "ask the slm (committed), to go on from what was delivered, waiting up to 15 s for its restart",
        "    if answered: serve the slm answer, in 2 parts (reason committed)",
        "    if broken off midway: fail with its error",
        "    if unavailable, prompt too long or request rejected: "
        "ask the llm (no_slm), to go on from what was delivered",
        "      if answered: serve the slm+llm answer, in 2 parts (reason no_slm)",
        "      if broken off midway: fail with its error",
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


def test_what_nobody_read_is_not_gone_on_from() -> None:
    assert told(cascade(), stream=True, judgeable=False, tiers=SLM)[-2:] == [
        "    if answered: serve the slm answer (reason no_llm)",
        "    if broken off midway, unavailable, prompt too long or request rejected: fail with its error",
    ]


SUMS = Gate(limits={"numbers": 2.0})


@pytest.mark.parametrize(("numbers", "first"), [(1.0, "ask the slm (easy)"), (3.0, "ask the llm (too_hard)")])
def test_a_difficulty_policy_is_told_by_what_is_measured_of_the_prompt(numbers: float, first: str) -> None:
    found = told(Difficulty(gate=SUMS), features={"numbers": numbers})
    assert found[0] == first
    assert found[1].startswith(f"  if answered: serve the {first[8:11]} answer")


def test_a_gated_cascade_drafts_only_what_is_easy() -> None:
    assert told(cascade(gate=SUMS), features={"numbers": 3.0})[:2] == [
        "ask the llm (too_hard)",
        "  if answered: serve the llm answer (reason too_hard)",
    ]
    easy = told(cascade(gate=SUMS), features={"numbers": 1.0})
    assert easy == told(cascade())


def test_a_judged_cascade_is_told_with_its_judgement() -> None:
    judged = cascade(release="hold", judge=Verify(tier="llm", below=0.9))
    found = told(judged)
    assert found[:4] == [
        "ask the slm, watched: accept at >= 0.6, have it judged under 0.9",
        "  if confident: serve the slm answer (reason confident)",
        "  if to be judged: have the llm judge the draft (yes or no)",
        "    if yes: have the llm judge the draft (no or yes)",
    ]
    assert "      if no or yes: serve the slm answer (reason judged)" in found
    assert "    if no judgement: serve the slm answer (reason confident)" in found


def test_a_cascade_that_samples_is_told_with_its_comparison() -> None:
    judged = cascade(release="hold", judge=Agree(samples=3))
    assert told(judged)[1:5] == [
        "  if to be judged: have the slm write 3 more, and compare the draft with them by text",
        "    if they agree: serve the slm answer (reason judged)",
        "    if they do not: ask the llm (judged)",
        "      if answered: serve the llm answer (reason judged)",
    ]


@pytest.mark.parametrize(
    ("below", "ends"), [(0.5, ["confident"]), (0.9, ["confident", "to be judged"]), (1.0, ["to be judged"])]
)
def test_a_draft_is_judged_only_under_what_the_policy_says(below: float, ends: list[str]) -> None:
    found = told(cascade(release="hold", judge=Verify(below=below)))
    assert [line[5:].partition(":")[0] for line in found if line.startswith("  if ")][: len(ends) + 1] == [
        *ends,
        "low_confidence",
    ]


def test_a_spliced_stream_may_be_taken_over_by_the_llm() -> None:
    found = told(cascade(release="splice", commit=0.8, give_up=0.2), stream=True)
    assert found[0] == (
        "ask the slm, watched: commit sentences at confidence >= 0.8, give up under 0.2, accept at >= 0.6"
    )
    poor = found.index(
        "  if committed in part, then low_confidence: ask the llm (low_confidence), to go on from what was delivered"
    )
    assert found[poor + 1 : poor + 4] == [
        "    if answered: serve the slm+llm answer, in 2 parts (reason low_confidence)",
        "    if broken off midway: fail with its error",
        "    if unavailable, prompt too long or request rejected: serve the slm answer (reason no_llm)",
    ]
    hopeless = found.index(
        "  if committed in part, then gave_up: ask the llm (gave_up), to go on from what was delivered"
    )
    assert found[hopeless + 3 : hopeless + 5] == [
        "    if unavailable, prompt too long or request rejected: "
        "ask the slm (no_llm), to go on from what was delivered, waiting up to 15 s for its restart",
        "      if answered: serve the slm answer, in 2 parts (reason no_llm)",
    ]


def test_a_hedge_is_told_by_who_is_first() -> None:
    assert told(hedge(give_up=0.2)) == [
        "at once ask the slm, watched: give up under 0.2, accept at >= 0.6; and ask the llm (outran)",
        "  if the slm confident first: serve the slm answer (reason confident)",
        "  if the llm answered first: serve the llm answer (reason outran)",
        "  if the slm low_confidence and the llm answered: serve the llm answer (reason low_confidence)",
        "  if the slm low_confidence and the llm unavailable: serve the slm answer (reason no_llm)",
        "  if the slm gave_up and the llm answered: serve the llm answer (reason gave_up)",
        "  if the slm gave_up and the llm unavailable or the slm unavailable and the llm unavailable: "
        "ask the slm (no_llm), waiting up to 15 s for its restart",
        "    if answered: serve the slm answer (reason no_llm)",
        "    if unavailable, prompt too long or request rejected: fail with its error",
        "  if the slm unavailable and the llm answered or the slm request rejected and the llm answered: "
        "serve the llm answer (reason no_slm)",
        "  if the slm prompt too long and the llm answered: serve the llm answer (reason context_too_long)",
        "  if the slm prompt too long and the llm unavailable: fail with the slm's error (context)",
        "  if the slm request rejected and the llm unavailable: fail with the slm's error (rejected)",
    ]


def test_a_hedged_stream_may_break_off_in_the_hands_of_whoever_won() -> None:
    found = told(hedge(commit=0.8), stream=True)
    assert (
        "  if the slm broken off midway first: "
        "ask the slm (committed), to go on from what was delivered, waiting up to 15 s for its restart"
    ) in found
    assert "  if the llm broken off midway first: fail with the llm's error (lost)" in found


def test_a_leg_that_is_not_there_wins_no_race() -> None:
    assert told(hedge(), tiers=LLM) == [
        "at once ask the slm, watched: accept at >= 0.6; and ask the llm (outran)",
        "  if no slm configured and the llm answered: serve the llm answer (reason no_slm)",
        "  if no slm configured and the llm unavailable: "
        "ask the slm (no_llm), waiting up to 15 s for its restart",
        "    if no slm configured: fail with its error",
    ]


def test_a_tier_that_cannot_serve_the_request_is_not_supposed_to_answer() -> None:
    assert told(cascade(), able=LLM) == [
        "ask the llm (not_capable), waiting up to 15 s for its restart",
        "  if answered: serve the llm answer (reason not_capable)",
        "  if unavailable, prompt too long or request rejected: fail with its error",
    ]
    assert told(Direct(tier="llm", fallback=False), able=SLM) == [
        "ask the llm, waiting up to 15 s for its restart",
        "  if no llm capable of it: fail with its error",
    ]


class Judged(Router):
    """Has a judge of a tier that need not be there."""

    kind: str = "judged"

    def plan(self, request: Request) -> Plan:
        draft = Draft("slm", "It is cold.")
        yield Judge("llm", "?", ("yes", "no"))
        return Answer((draft,), Reason.JUDGED)


def test_a_judge_that_is_not_configured_says_nothing() -> None:
    assert told(Judged(), tiers=SLM) == [
        "have the llm judge the draft (yes or no)",
        "  if no llm configured: fail with its error",
    ]


class Endless(Router):
    """Asks again whatever comes of it."""

    kind: str = "endless"

    def plan(self, request: Request) -> Plan:
        while True:
            with suppress(Unavailable):
                yield Generate("llm")


def test_a_plan_without_an_end_is_left_open_at_a_depth() -> None:
    assert lines_below(build_tree(Endless(), Request())) == MAX_DEPTH
    assert told(Endless(), tiers=SLM) == [
        "ask the llm",
        *(f"{'  ' * depth}if no llm configured: ask the llm" for depth in range(1, MAX_DEPTH)),
        f"{'  ' * MAX_DEPTH}if no llm configured: and so on",
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
    found = list_hypotheses(Generate("slm", watch=Coin), Request())
    assert [one.when for one in found][:3] == ["accepted", "not accepted", "stopped early"]
    assert describe_ask(Generate("slm", watch=Coin)) == "ask the slm, watched (Coin)"


def test_every_kind_of_ask_can_be_told() -> None:
    """A new one needs its line in policies/explain/plan_tree.py and its outcomes in policies/explain/hypotheses.py."""
    for kind in get_args(Ask) or (Ask,):
        assert describe_ask.dispatch(kind) is not describe_ask.dispatch(object), kind
        assert list_hypotheses.dispatch(kind) is not list_hypotheses.dispatch(object), kind
    with pytest.raises(TypeError, match="str is no ask"):
        describe_ask("ask")
    with pytest.raises(TypeError, match="str is not known"):
        list_hypotheses("ask", Request())


@st.composite
def routers(draw: st.DrawFn) -> Router:
    gate = Gate(limits={"numbers": draw(st.floats(0, 5))})
    low, mid, high = sorted(draw(st.tuples(*[st.floats(0, 1)] * 3)))
    judging: dict[str, Any] = {
        "accept": mid,
        "give_up": draw(st.sampled_from([None, low])),
        "commit": draw(st.sampled_from([None, high])),
    }
    tier: Tier = draw(st.sampled_from(["slm", "llm"]))
    made: dict[str, Callable[[], Router]] = {
        "direct": lambda: Direct(tier=tier, fallback=draw(st.booleans())),
        "difficulty": lambda: Difficulty(gate=gate),
        "cascade": lambda: cascade(**judging, gate=draw(st.sampled_from([None, gate]))),
        "judged": lambda: cascade(**judging, release="hold", judge=Verify(tier=tier, below=high)),
        "spliced": lambda: cascade(**judging | {"release": "splice", "commit": high}),
        "hedge": lambda: hedge(**judging),
        "spliced hedge": lambda: hedge(**judging | {"release": "splice", "commit": high}),
    }
    return made[draw(st.sampled_from(sorted(made)))]()


TIERS = st.frozensets(st.sampled_from(["slm", "llm"]))
REQUESTS = st.builds(
    Request,
    stream=st.booleans(),
    judgeable=st.booleans(),
    whole=st.booleans(),
    tiers=TIERS,
    able=TIERS,
    features=st.sampled_from([{"numbers": 1.0}, {"numbers": 4.0}]),
)


def leaves(step: Step) -> Iterator[str]:
    if not step.branches:
        yield step.text
    for branch in step.branches:
        yield from leaves(branch.then)


@given(routers(), REQUESTS)
def test_every_way_ends_in_an_answer_or_an_error(router: Router, request: Request) -> None:
    """Of tiers that are there and can serve the request; and whoever can, answers one way or another."""
    found = set(leaves(build_tree(router, request)))
    assert all(text.startswith(("serve the ", "fail with ")) for text in found)
    serving = request.tiers & request.able
    for tier in {"slm", "llm"} - serving:
        assert not any(tier in text.partition(" (")[0] for text in found if text.startswith("serve "))
    assert bool(serving & allowed(router)) == any(text.startswith("serve") for text in found)


def allowed(router: Router) -> frozenset[str]:
    """The tiers that the router would ask."""
    if isinstance(router, Direct) and not router.fallback:
        return frozenset((router.tier,))
    return frozenset(("slm", "llm"))


def test_a_filter_is_told_before_the_plan() -> None:
    policy = Policy(name="p", description="d", router=Direct(tier="llm"), filter=PassageFilter(most=3))
    assert list(describe_preparation(policy, Request(passages=7))) == [
        "have the slm judge each of the 7 passages (the question's likelihood after it, 7 calls), and show those at "
        ">= 0.5, at least 1, at most 3, the best first and last; all as given where it can't"
    ]
    assert list(describe_preparation(policy, Request())) == []
    assert (
        describe_ask(Judge("slm", "", ("yes", "no"), passage=2)) == "have the slm judge passage 2 (yes or no)"
    )


def test_a_compression_is_told_where_there_are_two_models() -> None:
    def policy(section: Compress) -> Policy:
        return Policy(name="p", description="d", router=Direct(tier="llm"), compress=section)

    halved = policy(Compress(target_ratio=0.5))
    assert list(describe_preparation(halved, Request())) == [
        "whenever the llm is to write: have the slm read a prompt of 500 tokens or more, and leave 50% of it, "
        "unless that costs more time or money than it saves"
    ]
    assert list(describe_preparation(halved, Request(tiers=frozenset({"llm"})))) == []
    (told,) = describe_preparation(
        policy(Compress(target_tokens=900, min_tokens=0, worth="always")), Request()
    )
    assert told.endswith("and leave 900 tokens of it")
