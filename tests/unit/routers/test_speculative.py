"""Speculation: the large model's own answer whatever is drafted, and every branch of the plans sent by hand."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.router_builders import calibrator, settled

from routers.fragments.draft_blocks import FIRST_LENGTH, BlockLength, accepted_share, count_accepted
from routers.fragments.fallback import RESTART_PATIENCE
from routers.plan import (
    Answer,
    Draft,
    Generate,
    GreedyToken,
    Reason,
    Said,
    Say,
    Score,
    Scored,
    ScoredToken,
    Speculation,
    Tier,
    Token,
    Unavailable,
    Usage,
)
from routers.router import Request
from routers.strategies.cascade import Cascade
from routers.strategies.direct import Direct
from routers.strategies.speculative import Greedy, Probe, Speculative

END = 0
DIRECT = Direct(tier="llm")
GREEDY = Speculative(rule=Greedy(block=4), otherwise=DIRECT)
PROBE = Speculative(rule=Probe(accept=0.8, discard=0.3), otherwise=DIRECT)
SCORING = frozenset({"scoring"})
ASKED: dict[str, Any] = {"verifies": SCORING, "greedy": True}
SLM_ONLY = frozenset[Tier](["slm"])


def lost(why: str = "down", tier: Tier = "llm", partial: Draft | None = None) -> Unavailable:
    return Unavailable(why, tier, partial=partial)


def drafted(*ids: int, finish: str = "length", **more: Any) -> Draft:
    tokens = [Token(str(id_), -0.1, ()) for id_ in ids]
    text = " ".join(map(str, ids))
    return Draft("slm", text, tokens, finish, Usage(10, len(ids)), **more)


def scored(ids: list[int], own: list[int], prompt: int = 10) -> Scored:
    """Of a text of `ids` whose scorer would have written `own`, one more."""
    choices = [GreedyToken(id_, -0.1, id_ == END) for id_ in own]
    tokens = [ScoredToken(id_, -0.1, choice) for id_, choice in zip(ids, choices, strict=False)]
    return Scored(tokens, choices[-1], Usage(prompt + len(ids), 1))


def run(router: Speculative, *outcomes: Any, **request: Any) -> tuple[list[Any], Answer | Unavailable]:
    return settled(router.plan(Request(**(ASKED | request))), *outcomes)


def tokens_of(answer: Answer | Unavailable) -> list[tuple[Tier, int]]:
    assert isinstance(answer, Answer)
    return [(part.tier, part.usage.completion_tokens) for part in answer.parts]


# --- rule greedy, against every large model


Model = Callable[[tuple[int, ...]], int]


def alone(model: Model, most: int) -> list[int]:
    """What the model writes at temperature 0, its end token included where it comes to it."""
    written: list[int] = []
    while len(written) < most and (not written or written[-1] != END):
        written.append(model(tuple(written)))
    return written


def performed(
    router: Speculative, model: Model, drafts: Iterator[list[int]], most: int
) -> tuple[list[int], Answer]:
    """Runs a plan against a large model and any drafts; the ids that were said, and the answer."""
    said: list[int] = []
    plan = router.plan(Request(**ASKED, most=most))
    outcome: Any = None
    while True:
        try:
            ask = plan.send(outcome)
        except StopIteration as settled:
            return said, settled.value
        if isinstance(ask, Score):
            assert list(ask.after) == said
            ids = [int(id_) for id_ in ask.text.split()]
            own = [model((*said, *ids[:place])) for place in range(len(ids) + 1)]
            outcome = scored(ids, own)._replace(seconds=0.1)
        elif isinstance(ask, Say):
            assert list(ask.after) == said
            said += ask.ids
            outcome = Said("x" * len(said))
        elif ask.tier == "slm":
            ids = next(drafts)[: ask.max_tokens]
            outcome = drafted(
                *ids, finish="stop" if len(ids) < (ask.max_tokens or 0) else "length", seconds=0.02
            )
        else:
            assert list(ask.after) == said
            rest = alone(lambda ids, before=tuple(said): model((*before, *ids)), most - len(said))
            said += [id_ for id_ in rest if id_ != END]
            outcome = Draft("llm", finish="stop", usage=Usage(10, len(rest)))


@given(
    seed=st.integers(0, 2**32),
    vocabulary=st.integers(2, 6),
    guesses=st.lists(st.lists(st.integers(1, 5), max_size=40), min_size=1, max_size=12),
    block=st.one_of(st.none(), st.integers(1, 9)),
    least=st.sampled_from([0.0, 0.2, 1.0]),
    most=st.integers(1, 40),
)
def test_the_text_is_the_large_models_own_whatever_is_drafted(
    seed: int, vocabulary: int, guesses: list[list[int]], block: int | None, least: float, most: int
) -> None:
    def model(ids: tuple[int, ...]) -> int:
        return hash((seed, ids[-3:], len(ids) // 7)) % vocabulary

    def drafts() -> Iterator[list[int]]:
        while True:
            yield from guesses

    router = Speculative(rule=Greedy(block=block, least=least), otherwise=DIRECT)
    said, answer = performed(router, model, drafts(), most)
    whole = alone(model, most)
    assert said == [id_ for id_ in whole if id_ != END]
    assert sum(part.usage.completion_tokens for part in answer.parts) == len(whole)


def test_a_perfect_draft_saves_all_but_one_step_a_block() -> None:
    text = [1, 2, 3, 4, 5, 6, 7, 8, 9, END]
    model: Model = lambda ids: text[len(ids)]  # noqa: E731
    said: list[int] = []

    def drafts() -> Iterator[list[int]]:
        for at in (0, 5, 9):
            yield text[at:-1]

    said, answer = performed(GREEDY, model, drafts(), 100)
    assert said == text[:-1]
    assert answer.speculation == Speculation(blocks=2, drafted=8, accepted=8)
    assert tokens_of(answer) == [("slm", 8), ("llm", 2)]
    assert answer.reason is Reason.VERIFIED
    assert answer.route == "slm+llm"


# --- rule greedy, by hand


def test_a_block_continues_the_text_that_has_been_said() -> None:
    ends = scored([4], [END, END])
    asks, _ = run(GREEDY, drafted(1, 2), scored([1, 2], [1, 3, 9]), Said("ab"), drafted(4), ends, Said("ab"))
    first, score, say, second, verify, _ = asks
    assert (first.tier, first.prefix, first.max_tokens) == ("slm", "", 4)
    assert score == Score("llm", "1 2", "", ())
    assert say == Say("llm", [1, 3], (), None)
    assert (second.prefix, second.max_tokens) == ("ab", 4)
    assert verify == Score("llm", "4", "ab", (1, 3))


def test_no_more_is_said_than_the_request_allows() -> None:
    asks, answer = run(GREEDY, drafted(1, 2), scored([1, 2], [1, 2, 3]), Said("ab"), most=2)
    assert asks[0].max_tokens == 2
    assert asks[-1] == Say("llm", [1, 2], (), "length")
    assert tokens_of(answer) == [("slm", 2), ("llm", 0)]


def test_an_end_that_the_text_only_spells_out_ends_the_answer() -> None:
    """A draft may contain the text of the token that ends answers."""
    asks, answer = run(GREEDY, drafted(1, END, 2), scored([1, END, 2], [1, END, 5, 5]), Said("a"))
    assert asks[-1] == Say("llm", [1], (), "stop")
    assert tokens_of(answer) == [("slm", 1), ("llm", 1)]


def test_a_large_model_that_agrees_with_nothing_goes_on_alone() -> None:
    rejected: list[Any] = []
    for _ in range(7):
        rejected += [drafted(1), scored([1], [2, 2]), Said("b")]
    rest = Draft("llm", "rest", finish="stop", usage=Usage(10, 5))
    asks, answer = run(GREEDY, *rejected, rest)
    ask = asks[-1]
    assert (ask.tier, ask.because, ask.prefix) == ("llm", Reason.REJECTED, "b")
    assert set(ask.after) == {2}
    assert isinstance(answer, Answer)
    assert (answer.reason, answer.parts[-1]) == (Reason.REJECTED, rest)


@pytest.mark.parametrize("why", ["down", "context"])
def test_without_the_small_model_the_large_one_writes(why: str) -> None:
    reason = Reason.CONTEXT_TOO_LONG if why == "context" else Reason.NO_SLM
    large = Draft("llm", "all", finish="stop")
    asks, answer = run(GREEDY, lost(why, "slm"), large)
    assert asks[1] == Generate("llm", because=reason)
    assert answer == Answer((large,), reason)


def test_a_small_model_that_is_lost_between_blocks_leaves_the_rest_to_the_large_one() -> None:
    rest = Draft("llm", "rest", finish="stop", usage=Usage(10, 5))
    asks, answer = run(GREEDY, drafted(1), scored([1], [1, 2]), Said("ab"), lost("down", "slm"), rest)
    assert (asks[-1].prefix, asks[-1].after, asks[-1].because) == ("ab", (1, 2), Reason.NO_SLM)
    assert tokens_of(answer) == [("slm", 1), ("llm", 1), ("llm", 5)]


def test_a_scorer_lost_before_anything_was_said_is_asked_to_write_as_any_other() -> None:
    large = Draft("llm", "all", finish="stop")
    asks, answer = run(GREEDY, drafted(1), lost("error"), large)
    assert asks[-1] == Generate("llm", because=Reason.NOT_SPECULATED)
    assert answer == Answer((large,), Reason.NOT_SPECULATED)


@pytest.mark.parametrize("why", ["context", "ceiling"])
def test_where_nothing_more_fits_the_answer_ends(why: str) -> None:
    asks, answer = run(GREEDY, drafted(1), scored([1], [1, 2]), Said("ab"), drafted(3), lost(why), Said("ab"))
    assert asks[-1] == Say("llm", (), (1, 2), "length")
    assert tokens_of(answer) == [("slm", 1), ("llm", 1)]


BEGUN: tuple[Any, ...] = (drafted(1), scored([1], [1, 2]), Said("ab"), drafted(3))


def test_a_scorer_lost_midway_is_made_good_by_another_large_model() -> None:
    rest = Draft("llm", "c", finish="stop", usage=Usage(10, 1))
    asks, answer = run(GREEDY, *BEGUN, lost("down"), rest)
    assert (asks[-1].tier, asks[-1].prefix, asks[-1].after) == ("llm", "ab", ())
    assert isinstance(answer, Answer)
    assert (answer.reason, answer.parts[-1]) == (Reason.VERIFIED, rest)


def test_or_by_the_small_model_where_there_is_none() -> None:
    rest = Draft("slm", "c", finish="stop", usage=Usage(10, 1))
    asks, answer = run(GREEDY, *BEGUN, lost("down"), lost("down"), rest)
    assert (asks[-1].tier, asks[-1].prefix, asks[-1].patience) == ("slm", "ab", RESTART_PATIENCE)
    assert isinstance(answer, Answer)
    assert (answer.reason, answer.parts[-1]) == (Reason.NO_LLM, rest)


def test_or_by_nobody() -> None:
    _, end = run(GREEDY, *BEGUN, lost("down"), lost("down"), lost("busy", "slm"))
    assert isinstance(end, Unavailable)
    assert end.why == "busy"


def test_what_breaks_off_again_after_the_client_has_its_beginning_is_an_error() -> None:
    partial = Draft("llm", "c", kept=1)
    _, end = run(GREEDY, *BEGUN, lost("down"), lost("lost", partial=partial))
    assert isinstance(end, Unavailable)
    assert end.partial is partial


def test_a_large_model_that_breaks_off_alone_is_gone_on_from() -> None:
    partial = Draft("llm", "cd", kept=2, usage=Usage(10, 2))
    rest = Draft("llm", "e", finish="stop", usage=Usage(10, 1))
    asks, answer = run(GREEDY, *BEGUN[:3], lost("down", "slm"), lost("lost", partial=partial), rest)
    assert asks[-1].prefix == "abcd"
    assert tokens_of(answer) == [("slm", 1), ("llm", 1), ("llm", 2), ("llm", 1)]


def test_tokens_that_cannot_be_turned_into_text_are_not_said() -> None:
    large = Draft("llm", "all", finish="stop")
    asks, _ = run(GREEDY, drafted(1), scored([1], [1, 2]), lost("garbage"), large)
    assert asks[-1] == Generate("llm", because=Reason.NOT_SPECULATED)


# --- rule probe


TEN = list(range(1, 11))


def seen(agreed: int, prefix: int, next_: int = 99) -> Scored:
    """Ten tokens, of which the first `prefix` and `agreed` in all are the large model's own."""
    own = [id_ if place < prefix or place >= 10 - (agreed - prefix) else 77 for place, id_ in enumerate(TEN)]
    return scored(TEN, [*own, next_])


DRAFT = drafted(*TEN, finish="stop")


@pytest.mark.parametrize(("agreed", "next_", "share"), [(9, END, 10 / 11), (10, 99, 10 / 11), (10, END, 1.0)])
def test_a_draft_that_is_verified_enough_is_served(agreed: int, next_: int, share: float) -> None:
    asks, answer = run(PROBE, DRAFT, seen(agreed, 3, next_))
    assert asks == [asks[0], Score("llm", DRAFT.text)]
    assert answer == Answer((DRAFT,), Reason.VERIFIED, pytest.approx(share), Speculation(1, 10, 10))


def test_one_that_is_not_is_continued_from_the_first_token_that_is_not_the_large_models() -> None:
    rest = Draft("llm", "rest", finish="stop", usage=Usage(10, 5))
    asks, answer = run(PROBE, DRAFT, seen(5, 3), Said("abc"), rest)
    assert asks[2] == Say("llm", [1, 2, 3, 77], (), None, Reason.REJECTED)
    assert (asks[3].tier, asks[3].after, asks[3].because) == ("llm", (1, 2, 3, 77), Reason.REJECTED)
    assert isinstance(answer, Answer)
    assert (answer.reason, answer.confidence) == (Reason.REJECTED, pytest.approx(5 / 11))
    assert answer.speculation == Speculation(1, 10, 3)
    assert tokens_of(answer) == [("slm", 3), ("llm", 1), ("llm", 5)]


def test_where_the_large_model_ends_it_there_is_no_rest() -> None:
    own = [1, 2, 3, 4, 5, END, 77, 77, 77, 77, 99]
    asks, answer = run(PROBE, DRAFT, scored(TEN, own), Said("abc"))
    assert asks[-1] == Say("llm", [1, 2, 3, 4, 5], (), "stop", Reason.REJECTED)
    assert tokens_of(answer) == [("slm", 5), ("llm", 1)]


@pytest.mark.parametrize("verdict", [seen(2, 2), seen(5, 0)], ids=["too little", "not its beginning"])
def test_one_that_is_hardly_verified_is_discarded(verdict: Scored) -> None:
    large = Draft("llm", "all", finish="stop")
    asks, answer = run(PROBE, DRAFT, verdict, large)
    assert asks[-1] == Generate("llm", because=Reason.REJECTED)
    assert isinstance(answer, Answer)
    assert (answer.parts, answer.reason, answer.speculation) == (
        (large,),
        Reason.REJECTED,
        Speculation(1, 10, 0),
    )


def test_a_draft_stands_where_nobody_can_write_better() -> None:
    _, answer = run(PROBE, DRAFT, seen(2, 2), lost("down"))
    assert isinstance(answer, Answer)
    assert (answer.parts, answer.reason) == ((DRAFT,), Reason.NO_LLM)


@pytest.mark.parametrize(("why", "reason"), [("down", Reason.NO_LLM), ("context", Reason.CONTEXT_TOO_LONG)])
def test_a_draft_stands_where_nobody_can_verify_it(why: str, reason: Reason) -> None:
    _, answer = run(PROBE, DRAFT, lost(why))
    assert answer == Answer((DRAFT,), reason)


@pytest.mark.parametrize("reason", [Reason.LOOP, Reason.EMPTY, Reason.REFUSAL])
def test_what_is_no_use_to_anybody_is_not_verified(reason: Reason) -> None:
    large = Draft("llm", "all", finish="stop")
    asks, answer = run(PROBE, DRAFT._replace(reason=reason), large)
    assert asks[1:] == [Generate("llm", because=reason)]
    assert answer == Answer((large,), reason)


def test_what_was_cut_off_is_verified_as_far_as_it_goes() -> None:
    asks, _ = run(PROBE, DRAFT._replace(reason=Reason.TRUNCATED, finish="length"), seen(10, 10))
    assert isinstance(asks[-1], Score)


def test_an_answer_that_broke_off_for_the_client_is_an_error() -> None:
    partial = Draft("llm")
    _, end = run(PROBE, DRAFT, seen(2, 2), lost("lost", partial=partial))
    assert isinstance(end, Unavailable)


def test_without_a_draft_there_is_nothing_to_verify() -> None:
    large = Draft("llm", "all", finish="stop")
    asks, answer = run(PROBE, lost("down", "slm"), large)
    assert asks[1] == Generate("llm", because=Reason.NO_SLM)
    assert answer == Answer((large,), Reason.NO_SLM)


def test_verified_tokens_that_cannot_be_said_leave_the_answer_to_the_large_model() -> None:
    large = Draft("llm", "all", finish="stop")
    _, answer = run(PROBE, DRAFT, seen(5, 3), lost("error"), large)
    assert isinstance(answer, Answer)
    assert answer.parts == (large,)


# --- a prediction, and neither


@pytest.mark.parametrize("router", [GREEDY, PROBE])
def test_where_nobody_scores_the_draft_is_a_prediction(router: Speculative) -> None:
    large = Draft("llm", "all", finish="stop")
    asks, answer = run(router, DRAFT, large, verifies=frozenset({"prediction"}))
    assert asks[-1] == Generate("llm", because=Reason.PREDICTED, prediction=DRAFT.text)
    assert answer == Answer((large,), Reason.PREDICTED, speculation=Speculation(1, 0, 0))


def test_what_was_predicted_and_rejected_is_no_part_of_the_answer() -> None:
    large = Draft("llm", "all", finish="stop", usage=Usage(10, 12, accepted=6, rejected=4))
    _, answer = run(PROBE, DRAFT, large, verifies=frozenset({"prediction"}))
    assert isinstance(answer, Answer)
    assert answer.speculation == Speculation(1, 10, 6)
    assert tokens_of(answer) == [("llm", 8)]


def test_a_draft_stands_where_nobody_takes_it_as_a_prediction() -> None:
    _, answer = run(PROBE, DRAFT, lost("down"), verifies=frozenset({"prediction"}))
    assert answer == Answer((DRAFT,), Reason.NO_LLM)


def test_a_request_at_another_temperature_may_be_predicted_but_not_verified_by_blocks() -> None:
    both = frozenset({"scoring", "prediction"})
    asks, _ = run(GREEDY, DRAFT, Draft("llm", finish="stop"), verifies=both, greedy=False)
    assert asks[-1].prediction == DRAFT.text


def test_no_prediction_is_made_of_a_loop_or_without_a_draft() -> None:
    large = Draft("llm", "all", finish="stop")
    predicted = {"verifies": frozenset({"prediction"})}
    asks, _ = run(PROBE, DRAFT._replace(reason=Reason.LOOP), large, **predicted)
    assert asks[-1] == Generate("llm", because=Reason.LOOP)
    asks, _ = run(PROBE, lost("down", "slm"), large, **predicted)
    assert asks[-1] == Generate("llm", because=Reason.NO_SLM)


@pytest.mark.parametrize(
    "request_", [{"verifies": frozenset()}, {"greedy": False}], ids=["nobody", "sampled"]
)
def test_otherwise_the_other_strategy_answers_and_the_reason_says_so(request_: dict[str, Any]) -> None:
    large = Draft("llm", "all", finish="stop")
    asks, answer = run(GREEDY, large, **request_)
    assert asks == [Generate("llm")]
    assert answer == Answer((large,), Reason.NOT_SPECULATED)


def test_a_missing_tier_is_the_other_strategys_to_tell() -> None:
    cascade = Cascade(accept=0.6, calibrator=calibrator())
    router = Speculative(otherwise=cascade)
    _, answer = run(router, Draft("slm", "a", finish="stop"), tiers=SLM_ONLY)
    assert isinstance(answer, Answer)
    assert answer.reason is Reason.NO_LLM
    assert router.needs == cascade.needs
    assert not router.reads_features
    assert router.speculates
    assert router.max_calls > 100


def test_a_strategy_within_must_be_one_that_asks_one_model_after_the_other() -> None:
    with pytest.raises(ValidationError, match="hedge"):
        Speculative.model_validate({"otherwise": {"kind": "hedge"}})


# --- blocks


def test_agreement_counts_the_end_as_a_token() -> None:
    assert accepted_share(scored([1, 2], [1, 2, END]), "stop") == 1.0
    assert accepted_share(scored([1, 2], [1, 2, 3]), "stop") == pytest.approx(2 / 3)
    assert accepted_share(scored([1, 2], [1, 3, 3]), "length") == 0.5
    assert accepted_share(scored([], [3]), "length") == 0.0


def test_tokens_stand_up_to_the_first_that_is_not_the_scorers() -> None:
    assert count_accepted(scored([1, 2, 3], [1, 9, 3, 4])) == (1, GreedyToken(9, -0.1))
    assert count_accepted(scored([1, 2], [1, 2, 4])) == (2, GreedyToken(4, -0.1))


def block_after(accepted: int, size: int, blocks: int, verify: float) -> int:
    """The next block's size after several of `size` of which `accepted` tokens stood."""
    block = BlockLength(None, 32, 0.0)
    assert block.next_length(0) == FIRST_LENGTH
    ids = list(range(1, size + 1))
    own = [id_ if place < accepted else 99 for place, id_ in enumerate(ids)]
    for _ in range(blocks):
        block.update(
            drafted(*ids)._replace(seconds=0.02 * size), scored(ids, [*own, 7])._replace(seconds=verify)
        )
    return block.next_length(100)


def test_blocks_grow_with_acceptance_and_with_the_price_of_a_verification() -> None:
    assert block_after(8, 8, 6, 0.2) > block_after(4, 8, 6, 0.2) > block_after(0, 8, 6, 0.2)
    assert block_after(6, 8, 6, 1.0) > block_after(6, 8, 6, 0.05)


def test_a_draft_whose_end_the_large_model_does_not_share_counts_as_rejected() -> None:
    block = BlockLength(4, 32, 0.2)
    for _ in range(20):
        block.update(drafted(finish="stop"), scored([], [5]))
    assert block.is_hopeless
