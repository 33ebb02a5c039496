"""Log-probabilities under a constraint are judged by a calibrator made for them, or not at all."""

import pytest
from pydantic import ValidationError
from support.router_builders import calibrator, constrained_calibrator, settled

from policies.schema.policy import Policy
from routers.confidence.calibration import Calibrator
from routers.plan import Both, Draft, Generate, Raced, Reason, Tier, Unavailable, Verdict
from routers.router import Request
from routers.strategies.cascade import Cascade, ConfidenceRouter
from routers.strategies.hedge import Hedge
from routers.watch import ConfidenceWatch, ObservingWatch

STRATEGIES = pytest.mark.parametrize("strategy", [Cascade, Hedge])
LARGE = Draft("llm", "better", finish="stop")
CONSTRAINED = Request(renormalised=True)


def policy(strategy: type[ConfidenceRouter], constrained: Calibrator | None = None) -> Policy:
    router = strategy(accept=0.6, calibrator=calibrator(), constrained_calibrator=constrained)
    return Policy(name="p", description="x", router=router)


def drafted(ask: Generate | Both) -> Generate:
    return ask.a if isinstance(ask, Both) else ask


@STRATEGIES
@pytest.mark.parametrize("constrained", [None, constrained_calibrator()])
def test_free_drafts_are_judged_by_the_free_calibrator(
    strategy: type[ConfidenceRouter], constrained: Calibrator | None
) -> None:
    ask = drafted(next(policy(strategy, constrained).plan(Request())))
    assert ask.watch is not None
    watch = ask.watch()
    assert isinstance(watch, ConfidenceWatch)
    assert watch.calibrator == calibrator()


@STRATEGIES
def test_constrained_drafts_are_judged_by_the_calibrator_of_their_mode(
    strategy: type[ConfidenceRouter],
) -> None:
    ask = drafted(next(policy(strategy, constrained_calibrator()).plan(CONSTRAINED)))
    assert ask.watch is not None
    watch = ask.watch()
    assert isinstance(watch, ConfidenceWatch)
    assert watch.calibrator == constrained_calibrator()


@STRATEGIES
def test_without_one_no_draft_is_made_to_be_judged(strategy: type[ConfidenceRouter]) -> None:
    asks, answer = settled(policy(strategy).plan(CONSTRAINED), LARGE)
    assert [(ask.tier, ask.because, ask.watch) for ask in asks] == [("llm", Reason.NOT_JUDGED, None)]
    assert not isinstance(answer, Unavailable)
    assert (answer.parts, answer.reason, answer.confidence) == ((LARGE,), Reason.NOT_JUDGED, None)


@STRATEGIES
def test_a_small_model_alone_says_no_confidence_that_is_none(strategy: type[ConfidenceRouter]) -> None:
    alone = CONSTRAINED._replace(able=frozenset[Tier](["slm"]))
    ask = next(policy(strategy).plan(alone))
    assert isinstance(ask, Generate)
    assert (ask.tier, ask.watch) == ("slm", None)
    ask = next(policy(strategy, constrained_calibrator()).plan(alone))
    assert isinstance(ask, Generate)
    assert ask.watch is not None
    watch = ask.watch()
    assert isinstance(watch, ObservingWatch)
    assert watch.calibrator == constrained_calibrator()


def test_a_race_with_the_calibrator_of_its_mode_is_run_as_any_other() -> None:
    plan = policy(Hedge, constrained_calibrator()).plan(CONSTRAINED)
    next(plan)
    small = Draft("slm", "{}", finish="stop", reason=Reason.CONFIDENT, confidence=0.8)
    with pytest.raises(StopIteration) as end:
        plan.send(Raced(small, LARGE._replace(verdict=Verdict.CONTINUE)))
    assert end.value.value.parts == (small,)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"calibrator": constrained_calibrator()}, "calibrator must be made for free decoding"),
        (
            {"calibrator": calibrator(), "constrained_calibrator": calibrator()},
            "constrained_calibrator must be made for constrained decoding, not free",
        ),
    ],
)
def test_a_calibrator_in_the_other_ones_place_is_refused(fields: dict[str, Calibrator], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Cascade(accept=0.6, **fields)
