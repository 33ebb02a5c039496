"""A watch's verdicts: by hand, and whatever the tokens."""

from collections.abc import Mapping

import pytest
from builders import calibrator, token, tokens, worth
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from routers.calibration import Logistic
from routers.plan import Reason, Token, Verdict
from routers.signals import SignalName, signals
from routers.watch import FIRST_LOOK, ConfidenceWatch, ObservingWatch, looks

CONTINUE, COMMIT, GIVE_UP = Verdict.CONTINUE, Verdict.COMMIT, Verdict.GIVE_UP


def watch(accept: float = 0.6, commit: float | None = 0.8, give_up: float | None = 0.2) -> ConfidenceWatch:
    return ConfidenceWatch(calibrator(), accept, commit, give_up)


def fed(watched: ConfidenceWatch | ObservingWatch, draft: list[Token]) -> list[Verdict]:
    return [watched.token(each) for each in draft]


class Noting:
    """A calibrator that keeps what it is asked about."""

    def __init__(self) -> None:
        self.seen: list[Mapping[SignalName, float]] = []

    def confidence(self, found: Mapping[SignalName, float], *, finished: bool) -> float:
        assert not finished
        self.seen.append(found)
        return 0.5


@pytest.mark.parametrize(
    ("count", "schedule"), [(0, []), (5, []), (6, [6]), (8, [6]), (9, [6, 9]), (45, [6, 9, 13, 19, 28, 42])]
)
def test_looks_are_spaced_ever_wider(count: int, schedule: list[int]) -> None:
    assert list(looks(count)) == schedule


@pytest.mark.parametrize("count", [5, 6, 7, 9, 30, 100])
def test_a_watch_looks_on_schedule_at_all_tokens_so_far(count: int) -> None:
    noting = Noting()
    draft = worth(0.5, count)
    fed(ConfidenceWatch(noting, 0.6, 0.8, 0.2), draft)  # type: ignore[arg-type]
    assert noting.seen == [signals(draft[:at]) for at in looks(count)]


def test_a_sure_beginning_is_committed_at_the_first_look() -> None:
    watched = watch()
    assert fed(watched, worth(0.9, FIRST_LOOK)) == [CONTINUE] * (FIRST_LOOK - 1) + [COMMIT]
    assert watched.reason is Reason.COMMITTED
    assert watched.confidence == pytest.approx(0.9)


def test_after_a_commit_every_token_and_the_end_commit() -> None:
    watched = watch()
    fed(watched, worth(0.9, FIRST_LOOK))
    assert set(fed(watched, tokens(*[-20.0] * 40, None))) == {COMMIT}
    assert watched.end("length") is COMMIT
    assert (watched.reason, watched.confidence) == (Reason.COMMITTED, pytest.approx(0.9))


def test_a_hopeless_beginning_is_given_up_at_the_first_look() -> None:
    watched = watch()
    assert fed(watched, worth(0.1, FIRST_LOOK)) == [CONTINUE] * (FIRST_LOOK - 1) + [GIVE_UP]
    assert watched.reason is Reason.GAVE_UP
    assert watched.confidence == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("confidence", "verdict", "reason"),
    [(0.7, COMMIT, Reason.CONFIDENT), (0.5, GIVE_UP, Reason.LOW_CONFIDENCE)],
)
def test_a_beginning_between_the_thresholds_is_held_to_its_end(
    confidence: float, verdict: Verdict, reason: Reason
) -> None:
    watched = watch()
    assert set(fed(watched, worth(confidence, 50))) == {CONTINUE}
    assert watched.end("stop") is verdict
    assert watched.reason is reason
    assert watched.confidence == pytest.approx(confidence)


@pytest.mark.parametrize("confidence", [0.05, 0.95])
def test_a_watch_without_thresholds_for_beginnings_holds_to_the_end(confidence: float) -> None:
    watched = watch(commit=None, give_up=None)
    assert set(fed(watched, worth(confidence, 30))) == {CONTINUE}
    assert watched.confidence is None


def test_each_threshold_works_without_the_other() -> None:
    assert set(fed(watch(commit=None), worth(0.95, 30))) == {CONTINUE}
    assert set(fed(watch(give_up=None), worth(0.05, 30))) == {CONTINUE}
    assert fed(watch(commit=None), worth(0.05, 6))[-1] is GIVE_UP
    assert fed(watch(give_up=None), worth(0.95, 6))[-1] is COMMIT


def test_a_threshold_reached_exactly_commits_and_accepts_and_is_not_given_up() -> None:
    half = tokens(*[-1.0] * FIRST_LOOK)
    assert fed(watch(0.5, commit=0.5), half)[-1] is COMMIT
    held = watch(0.5, commit=None, give_up=0.5)
    assert fed(held, half)[-1] is CONTINUE
    assert held.end("stop") is COMMIT


def test_beginnings_and_finished_drafts_are_judged_by_their_own_rules() -> None:
    doubtful = Logistic(intercept=-4.0, weights=(0.0,))
    watched = ConfidenceWatch(calibrator(running=doubtful), 0.6, 0.8)
    assert set(fed(watched, worth(0.9, 6))) == {CONTINUE}
    assert watched.end("stop") is COMMIT


def test_the_finish_counts_at_the_end() -> None:
    cut = calibrator(signals=("truncated",), final=Logistic(intercept=4.0, weights=(-8.0,)))
    for finish, verdict in (("stop", COMMIT), ("length", GIVE_UP)):
        watched = ConfidenceWatch(cut, 0.5)
        fed(watched, worth(0.9))
        assert watched.end(finish) is verdict


def test_a_draft_without_tokens_is_empty() -> None:
    watched = watch()
    assert watched.end("stop") is GIVE_UP
    assert (watched.reason, watched.confidence) == (Reason.EMPTY, None)


def test_a_draft_is_given_up_at_its_first_token_without_logprobs() -> None:
    for thresholds in ({}, {"commit": None, "give_up": None}):
        watched = watch(**thresholds)
        assert fed(watched, [*worth(0.7, 2), token(None)]) == [CONTINUE, CONTINUE, GIVE_UP]
        assert (watched.reason, watched.confidence) == (Reason.NO_LOGPROBS, None)


def test_a_draft_without_alternatives_is_given_up_at_the_next_look_or_the_end() -> None:
    single = token(-0.1, top=(-0.1,))
    watched = watch()
    assert fed(watched, [*worth(0.7, 2), single, *worth(0.7, 3)]) == [CONTINUE] * 5 + [GIVE_UP]
    assert (watched.reason, watched.confidence) == (Reason.NO_LOGPROBS, None)
    watched = watch(commit=None, give_up=None)
    assert fed(watched, [*worth(0.7, 2), single]) == [CONTINUE] * 3
    assert watched.end("stop") is GIVE_UP
    assert (watched.reason, watched.confidence) == (Reason.NO_LOGPROBS, None)


# --- observing


def test_an_observer_commits_everything_and_tells_the_confidence_at_the_end() -> None:
    watched = ObservingWatch(calibrator())
    assert set(fed(watched, worth(0.05, 20))) == {COMMIT}
    assert watched.confidence is None
    assert watched.end("stop") is COMMIT
    assert (watched.reason, watched.confidence) == (None, pytest.approx(0.05))


@pytest.mark.parametrize("draft", [[], [token(None)]], ids=["empty", "without logprobs"])
def test_an_observer_of_what_cannot_be_judged_has_no_confidence(draft: list[Token]) -> None:
    watched = ObservingWatch(calibrator())
    fed(watched, draft)
    assert watched.end("stop") is COMMIT
    assert watched.confidence is None


def test_an_observer_without_a_calibrator_only_commits() -> None:
    watched = ObservingWatch()
    assert fed(watched, worth(0.5)) == [COMMIT] * 3
    assert watched.end(None) is COMMIT
    assert watched.confidence is None


# --- whatever the tokens

THRESHOLD = st.none() | st.floats(0.0, 1.0)
LOGPROB = st.floats(-3.0, 0.0) | st.just(-1e38) | st.none()


class AnyDraft(RuleBasedStateMachine):
    """Once COMMIT always COMMIT; after GIVE_UP nothing comes; the end decides; each decision has a reason."""

    ended = True

    @precondition(lambda self: self.ended)
    @rule(accept=st.floats(0.0, 1.0), commit=THRESHOLD, give_up=THRESHOLD)
    def begin(self, accept: float, commit: float | None, give_up: float | None) -> None:
        self.watch = watch(accept, commit, give_up)
        self.verdicts: list[Verdict] = []
        self.ended = False

    @precondition(lambda self: not self.ended)
    @rule(logprob=LOGPROB, count=st.integers(1, 12))
    def write(self, logprob: float | None, count: int) -> None:
        for each in tokens(*[logprob] * count):
            verdict = self.watch.token(each)
            assert verdict is COMMIT or COMMIT not in self.verdicts
            self.verdicts.append(verdict)
            if verdict is GIVE_UP:
                assert self.watch.reason in (Reason.GAVE_UP, Reason.NO_LOGPROBS)
                self.ended = True
                break

    @precondition(lambda self: not self.ended)
    @rule(finish=st.sampled_from(["stop", "length", None]))
    def end(self, finish: str | None) -> None:
        verdict = self.watch.end(finish)
        assert verdict is not CONTINUE
        assert verdict is COMMIT or COMMIT not in self.verdicts
        assert self.watch.reason is not None
        self.ended = True

    @invariant()
    def decisions_have_reasons(self) -> None:
        if not self.ended and self.verdicts:
            assert (self.watch.reason is None) == (self.verdicts[-1] is CONTINUE)

    @invariant()
    def commits_begin_at_a_look(self) -> None:
        if not self.ended and COMMIT in self.verdicts:
            first = self.verdicts.index(COMMIT) + 1
            assert first in looks(first)


TestAnyDraft = AnyDraft.TestCase
TestAnyDraft.settings = settings(max_examples=60, stateful_step_count=12)


@given(st.lists(LOGPROB, max_size=60), THRESHOLD, THRESHOLD)
def test_equal_tokens_get_equal_verdicts(
    logprobs: list[float | None], commit: float | None, give_up: float | None
) -> None:
    one, two = watch(0.5, commit, give_up), watch(0.5, commit, give_up)
    assert fed(one, tokens(*logprobs)) == fed(two, tokens(*logprobs))
    assert (one.end("stop"), one.reason, one.confidence) == (two.end("stop"), two.reason, two.confidence)
