"""The labelled answers of the evaluators' benchmark, how they are asked about, and what is reported of it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evaluators import asking, kept
from benchmarks.evaluators.kept import Kept
from benchmarks.evaluators.labelled import Answered, by_rubric
from benchmarks.evaluators.report import by_comparison, by_judgement, scored
from policies.loading.rubric_files import load_rubrics
from policies.tuning import report


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few draws do for intervals that nobody publishes."""
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    monkeypatch.setattr(report, "RESAMPLES", 20)


def test_every_rubric_has_as_many_good_answers_as_others_and_none_stands_twice() -> None:
    drafted = [Answered("Is ice cold?", "Yes.", good=True)]
    found, rubrics = by_rubric(drafted), load_rubrics()
    assert set(found) == set(rubrics)
    assert found.pop("correctness") == drafted
    for rubric, answers in found.items():
        assert Counter(one.good for one in answers) == {True: 40, False: 40}, rubric
        assert len({one[:2] for one in answers}) == 80, rubric
        assert all(bool(one.context) == rubrics[rubric].needs_context for one in answers), rubric


def test_what_a_judge_said_is_there_for_the_next_run_unless_it_would_be_asked_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = Answered("Is ice cold?", "Yes.", good=True)
    Kept("small", "rate:toxicity").add(answered, {"p": 0.5})
    found = Kept("small", "rate:toxicity")
    assert found[answered]["p"] == 0.5
    assert answered._replace(answer="No.") not in found
    assert answered not in Kept("large", "rate:toxicity")
    assert answered not in Kept("small", "rate:refusal")
    monkeypatch.setitem(kept.QUESTIONS, "rate:toxicity", "How nice is {answer}?")
    assert answered not in Kept("small", "rate:toxicity")


async def test_only_answers_without_a_judgement_are_asked_about() -> None:
    answers = [Answered("?", name, good=True) for name in "abc"]
    found, asked = Kept("small", "verify"), []

    async def ask(upstream: object, answered: Answered) -> kept.Row:
        asked.append(answered.answer)
        return {"p": 1.0}

    found.add(answers[1], {"p": 0.0})
    await asking.ask_all(None, found, answers, ask, at_once=2)  # type: ignore[arg-type]
    assert asked == ["a", "c"]
    assert found[answers[1]]["p"] == 0.0


def test_a_judge_that_knows_and_one_that_guesses() -> None:
    good = np.array([1.0, 0.0] * 20)
    knows = scored(good, good)
    assert (knows["auroc"], knows["calibration_error"], knows["chance"]) == ([1.0] * 3, [0.0] * 3, False)
    guesses = scored(good, np.full(40, 0.5))
    assert (guesses["auroc"][0], guesses["chance"], guesses["good"]) == (0.5, True, 0.5)


def test_the_mass_on_the_labels_is_reported() -> None:
    answers = [Answered("?", name, good=name == "a") for name in "ab"]
    for answered, p, mass in zip(answers, (0.9, 0.1), (0.5, 0.7), strict=True):
        Kept("small", "verify").add(answered, {"p": p, "mass": mass})
    found = by_judgement("small", "verify", answers)
    assert (found["auroc"][0], found["mass"]) == (1.0, 0.6)


def test_samples_are_compared_by_number_where_a_good_answer_is_one() -> None:
    answers = [
        Answered("?", "It is 12.", good=True, numeric=True),
        Answered("?", "It is 13.", good=False, numeric=True),
        Answered("?", "It is blue.", good=True),
    ]
    sampled = ["12", "twelve"], ["14", "15"], ["blue it is", "It is blue"]
    for answered, samples in zip(answers, sampled, strict=True):
        Kept("large", "samples").add(answered, {"samples": samples})
    found = by_comparison("large", answers)
    assert (found["agree:number"]["answers"], found["agree:number"]["auroc"][0]) == (2, 1.0)
    assert found["agree:text"]["answers"] == 3
