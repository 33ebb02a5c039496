"""A watch's verdicts: by hand, and whatever the tokens."""

from collections.abc import Mapping
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.router_builders import calibrator, token, tokens, worth

from routers.confidence.answer_words import SENTENCE_END, token_shape
from routers.confidence.calibration import Logistic
from routers.confidence.signals import SIGNALS, SignalName, compute_signals
from routers.plan import Reason, Token, Verdict
from routers.watch import FIRST_CHECK, ConfidenceWatch, ObservingWatch, Release, checkpoints

CONTINUE, COMMIT, GIVE_UP = Verdict.CONTINUE, Verdict.COMMIT, Verdict.GIVE_UP


def watch(accept: float = 0.6, commit: float | None = 0.8, give_up: float | None = 0.2) -> ConfidenceWatch:
    return ConfidenceWatch(calibrator(), accept, commit, give_up)


def fed(watched: ConfidenceWatch | ObservingWatch, draft: list[Token]) -> list[Verdict]:
    return [watched.token(each) for each in draft]


class Noting:
    """A calibrator that keeps what it is asked about."""

    signals = SIGNALS

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
    assert list(checkpoints(count)) == schedule


@pytest.mark.parametrize("count", [5, 6, 7, 9, 30, 100])
def test_a_watch_looks_on_schedule_at_all_tokens_so_far(count: int) -> None:
    noting = Noting()
    draft = worth(0.5, count)
    fed(ConfidenceWatch(noting, 0.6, 0.8, 0.2), draft)  # type: ignore[arg-type]
    assert noting.seen == [compute_signals(draft[:at]) for at in checkpoints(count)]


def test_a_sure_beginning_is_committed_at_the_first_look() -> None:
    watched = watch()
    assert fed(watched, worth(0.9, FIRST_CHECK)) == [CONTINUE] * (FIRST_CHECK - 1) + [COMMIT]
    assert watched.reason is Reason.COMMITTED
    assert watched.confidence == pytest.approx(0.9)


def test_after_a_commit_every_token_and_the_end_commit() -> None:
    watched = watch()
    fed(watched, worth(0.9, FIRST_CHECK))
    assert set(fed(watched, tokens(*[-20.0] * 40, None))) == {COMMIT}
    assert watched.end("length") is COMMIT
    assert (watched.reason, watched.confidence) == (Reason.COMMITTED, pytest.approx(0.9))


def test_a_hopeless_beginning_is_given_up_at_the_first_look() -> None:
    watched = watch()
    assert fed(watched, worth(0.1, FIRST_CHECK)) == [CONTINUE] * (FIRST_CHECK - 1) + [GIVE_UP]
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
    half = tokens(*[-1.0] * FIRST_CHECK)
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


def test_an_observer_gives_up_what_is_stuck_where_it_is_to_end_loops() -> None:
    loop = [token(-0.5, text) for text in ("la", " femme", " au", " mart", "yre", ",") * 100]
    assert set(fed(ObservingWatch(calibrator()), loop)) == {COMMIT}
    watched = ObservingWatch(calibrator(), ends_loops=True)
    verdicts = fed(watched, loop)
    assert verdicts[:384] == [COMMIT] * 383 + [GIVE_UP]
    assert watched.reason is Reason.LOOP
    found = compute_signals(loop[: len(verdicts)], "length")
    assert watched.confidence == pytest.approx(calibrator().confidence(found, finished=True))
    varied = [token(-0.5, f"{n}") for n in range(100)] * 6
    assert set(fed(ObservingWatch(calibrator(), ends_loops=True), varied)) == {COMMIT}


def test_an_observer_without_a_calibrator_only_commits() -> None:
    watched = ObservingWatch()
    assert fed(watched, worth(0.5)) == [COMMIT] * 3
    assert watched.end(None) is COMMIT
    assert watched.confidence is None


# --- releases


def splicing(**changes: float | None) -> ConfidenceWatch:
    thresholds = {"accept": 0.6, "commit": 0.8, "give_up": 0.2, **changes}
    return ConfidenceWatch(calibrator(), **thresholds, release="splice")  # type: ignore[arg-type]


def sentence(confidence: float, count: int) -> list[Token]:
    *before, last = worth(confidence, count)
    return [*before, last._replace(text=f"{last.text}.")]


def test_a_sentence_flows_as_it_ends() -> None:
    watched = splicing()
    assert fed(watched, sentence(0.9, 8)) == [CONTINUE] * 7 + [COMMIT]
    assert (watched.reason, watched.confidence) == (Reason.COMMITTED, pytest.approx(0.9))
    assert fed(watched, sentence(0.9, 3)) == [CONTINUE, CONTINUE, COMMIT]
    assert watched.end("stop") is COMMIT
    assert watched.reason is Reason.COMMITTED


@pytest.mark.parametrize("count", [1, FIRST_CHECK - 1])
def test_too_short_a_sentence_flows_with_the_next(count: int) -> None:
    watched = splicing()
    assert set(fed(watched, sentence(0.9, count))) == {CONTINUE}
    assert fed(watched, sentence(0.9, 7)) == [CONTINUE] * 6 + [COMMIT]


def test_a_sentence_in_doubt_is_held() -> None:
    watched = splicing()
    assert set(fed(watched, sentence(0.7, 8))) == {CONTINUE}
    assert watched.end("stop") is COMMIT
    assert watched.reason is Reason.CONFIDENT


def test_after_a_sentence_that_flowed_the_rest_may_be_given_up() -> None:
    watched = splicing()
    assert fed(watched, sentence(0.9, 8))[-1] is COMMIT
    assert fed(watched, tokens(*[-6.0] * 5)) == [CONTINUE] * 4 + [GIVE_UP]
    assert watched.reason is Reason.GAVE_UP


def test_after_a_sentence_that_flowed_the_end_may_be_in_doubt() -> None:
    watched = splicing(give_up=None)
    fed(watched, [*sentence(0.9, 8), *tokens(*[-6.0] * 3)])
    assert watched.end("stop") is GIVE_UP
    assert watched.reason is Reason.LOW_CONFIDENCE


def test_a_hopeless_sentence_is_given_up_at_its_end_between_two_looks() -> None:
    held = splicing(give_up=None, commit=None)
    assert set(fed(held, sentence(0.05, 8))) == {CONTINUE}
    assert fed(splicing(), [*worth(0.5, 6), *sentence(0.0001, 2)])[-1] is GIVE_UP


def test_what_is_held_flows_only_at_its_end() -> None:
    watched = ConfidenceWatch(calibrator(), 0.6, 0.8, 0.2, "hold")
    assert set(fed(watched, [*sentence(0.95, 8), *worth(0.95, 30)])) == {CONTINUE}
    assert watched.end("stop") is COMMIT


@pytest.mark.parametrize("release", ["hold", "commit", "splice"])
def test_a_draft_that_loops_is_given_up_at_a_look(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a loop is, is said elsewhere: here it is five equal tokens."""
    monkeypatch.setattr("routers.watch.is_looping", lambda texts: texts[-5:] == ["ha"] * 5)
    watched = ConfidenceWatch(calibrator(), 0.6, None, None, release)
    assert fed(watched, [*worth(0.9, 4), *[token(-0.1, "ha")] * 5]) == [CONTINUE] * 8 + [GIVE_UP]
    assert (watched.reason, watched.confidence) == (Reason.LOOP, None)


# --- flaws and reasoning


@pytest.mark.parametrize("flaw", [Reason.INVALID_JSON, Reason.REFUSAL, Reason.EMPTY])
def test_a_draft_with_a_flaw_is_given_up_at_its_end_however_sure(flaw: Reason) -> None:
    watched = watch()
    fed(watched, worth(0.97))
    assert watched.end("stop", flaw) is GIVE_UP
    assert (watched.reason, watched.confidence) == (flaw, None)


def test_a_flaw_comes_too_late_for_what_flowed() -> None:
    watched = watch()
    fed(watched, worth(0.9, FIRST_CHECK))
    assert watched.end("length", Reason.TRUNCATED) is COMMIT
    spliced = splicing()
    fed(spliced, sentence(0.9, 8))
    assert spliced.end("length", Reason.TRUNCATED) is GIVE_UP
    assert spliced.reason is Reason.TRUNCATED


def thought(*logprobs: float | None) -> list[Token]:
    return [each._replace(text=f"{each.text}.", reasoning=True) for each in tokens(*logprobs)]


@pytest.mark.parametrize("release", ["hold", "commit", "splice"])
def test_reasoning_is_neither_judged_nor_counted(release: Release) -> None:
    plain = ConfidenceWatch(calibrator(), 0.6, 0.8, 0.2, release)
    reasoned = ConfidenceWatch(calibrator(), 0.6, 0.8, 0.2, release)
    assert set(fed(reasoned, thought(*[-9.0] * 30, None))) == {CONTINUE}
    draft = sentence(0.9, 8)
    assert fed(reasoned, draft) == fed(plain, draft)
    assert (reasoned.end("stop"), reasoned.confidence) == (plain.end("stop"), plain.confidence)


def test_reasoning_without_an_answer_is_empty() -> None:
    watched = watch()
    fed(watched, thought(-0.1, -0.1))
    assert watched.end("stop") is GIVE_UP
    assert watched.reason is Reason.EMPTY


# --- whatever the tokens

THRESHOLD = st.none() | st.floats(0.0, 1.0)
LOGPROB = st.floats(-3.0, 0.0) | st.sampled_from([-1e38, -inf, None])


ANY_TOKEN = st.builds(
    lambda logprob, alternatives, reasoning, text: token(
        logprob, text, [] if logprob is None else [max(logprob, -1.0), -2.0][:alternatives]
    )._replace(reasoning=reasoning),
    LOGPROB,
    st.sampled_from([2, 2, 2, 1]),
    st.sampled_from([False, False, False, True]),
    st.sampled_from(["t", "t."]),
)
STOPS = {Reason.GAVE_UP, Reason.NO_LOGPROBS, Reason.LOOP}


class AnyDraft(RuleBasedStateMachine):
    """What a release promises, whatever the tokens."""

    ended = True

    @precondition(lambda self: self.ended)
    @rule(
        release=st.sampled_from(["hold", "commit", "splice"]),
        accept=st.floats(0.0, 1.0),
        commit=THRESHOLD,
        give_up=THRESHOLD,
    )
    def begin(self, release: Release, accept: float, commit: float | None, give_up: float | None) -> None:
        self.watch = ConfidenceWatch(calibrator(), accept, commit, give_up, release)
        self.verdicts: list[Verdict] = []
        self.answer = 0
        self.ended = False

    @precondition(lambda self: not self.ended)
    @rule(each=ANY_TOKEN, count=st.integers(1, 12))
    def write(self, each: Token, count: int) -> None:
        for number in range(count):
            token = each._replace(text=f"{self.answer}-{number}{each.text}")
            self.answer += not token.reasoning
            verdict = self.watch.token(token)
            self.commits_as_its_release_says(verdict, token)
            self.verdicts.append(verdict)
            if verdict is GIVE_UP:
                assert self.watch.reason in STOPS
                self.ended = True
                break

    def commits_as_its_release_says(self, verdict: Verdict, token: Token) -> None:
        release, begun = self.watch.release, COMMIT in self.verdicts
        if release == "commit":
            assert verdict is COMMIT or not begun
        if verdict is COMMIT and release == "commit" and not begun:
            assert self.answer in checkpoints(self.answer)
        if verdict is COMMIT and release == "splice":
            assert token_shape(token.text) == SENTENCE_END
            assert self.answer >= FIRST_CHECK
        assert verdict is not COMMIT or release != "hold"
        assert verdict is not COMMIT or self.watch.commit is not None
        if token.reasoning and not (begun and release == "commit"):
            assert verdict is CONTINUE

    @precondition(lambda self: not self.ended)
    @rule(finish=st.sampled_from(["stop", "length", None]), flaw=st.sampled_from([None, Reason.EMPTY]))
    def end(self, finish: str | None, flaw: Reason | None) -> None:
        verdict = self.watch.end(finish, flaw)
        flows = self.watch.release == "commit" and COMMIT in self.verdicts
        assert verdict is not CONTINUE
        assert verdict is COMMIT or not flows
        assert verdict is GIVE_UP or flows or (flaw is None and self.watch.confidence >= self.watch.accept)  # type: ignore[operator]
        assert self.watch.reason is not None
        self.ended = True

    @invariant()
    def what_is_decided_has_a_reason(self) -> None:
        if not self.ended and self.verdicts:
            assert (self.watch.reason is None) == (COMMIT not in self.verdicts)
            assert self.watch.confidence is None or 0.0 <= self.watch.confidence <= 1.0


TestAnyDraft = AnyDraft.TestCase
TestAnyDraft.settings = settings(max_examples=60, stateful_step_count=12)


@given(st.lists(ANY_TOKEN, max_size=60), st.sampled_from(["hold", "commit", "splice"]), THRESHOLD, THRESHOLD)
def test_equal_tokens_get_equal_verdicts(
    draft: list[Token], release: Release, commit: float | None, give_up: float | None
) -> None:
    one, two = (ConfidenceWatch(calibrator(), 0.5, commit, give_up, release) for _ in range(2))
    assert fed(one, draft) == fed(two, draft)
    assert (one.end("stop"), one.reason, one.confidence) == (two.end("stop"), two.reason, two.confidence)


@given(st.lists(ANY_TOKEN, max_size=60))
def test_an_observer_commits_whatever_it_sees(draft: list[Token]) -> None:
    watched = ObservingWatch(calibrator())
    assert {*fed(watched, draft), watched.end("stop")} == {COMMIT}
