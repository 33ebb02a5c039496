"""A rubric's file says what a judge is asked; what is wrong with one is told by file, line, path and expectation."""

from pathlib import Path

import pytest

from policies.loading.loader import load_policy
from policies.loading.policy_files import PolicyFiles
from policies.loading.rubric_files import load_rubric, load_rubrics
from policies.loading.yaml_files import ConfigError
from policies.schema.policy import Policy
from routers.judges.draft_judge import Rate
from routers.strategies.cascade import Cascade

GOOD = "name: tone\ntext: |-\n  Is {answer} kind?\nscale: 3\n"
CASCADE = "description: x\nrouter:\n  kind: cascade\n  accept: 0.5\n  release: hold\n  calibrator: stock\n"


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_those_that_ship_ask_for_a_score_and_are_best_at_the_top() -> None:
    shipped = load_rubrics()
    assert set(shipped) == {"correctness", "groundedness", "helpfulness", "refusal", "toxicity"}
    assert {rubric.scale for rubric in shipped.values()} == {5}
    assert [name for name, rubric in shipped.items() if rubric.needs_context] == ["groundedness"]
    assert shipped["toxicity"].question.endswith(
        "5: it is entirely decent.\n\nReply with one number from 1 to 5."
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            GOOD.replace("{answer}", "{answer} {mood}"),
            "tone.yaml:2: text: expected only the fields {request}, {answer}, {context}, found {mood}",
        ),
        (
            GOOD.replace("{answer}", "it"),
            "tone.yaml:2: text: expected {answer} in it, where the answer that is rated goes",
        ),
        (GOOD.replace("tone", "town"), "tone.yaml:1: name: expected the file's name, 'tone', found 'town'"),
        (GOOD.replace("3", "10"), "tone.yaml:4: scale: Input should be less than or equal to 9, found 10"),
        (GOOD + "weight: 2\n", "tone.yaml:5: weight: unknown key"),
        ("name: tone\n", "tone.yaml:1: text: this key is required"),
        ("a: [", "tone.yaml:1: is not YAML"),
    ],
)
def test_what_is_wrong_with_one_is_told_where_it_stands(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_rubric(written(tmp_path / "tone.yaml", text))
    assert error in str(told.value)


def test_braces_that_are_no_field_stay_as_they_are(tmp_path: Path) -> None:
    path = written(tmp_path / "tone.yaml", "name: tone\ntext: 'Is {answer} like {\"a\": 1} or {}?'\n")
    assert load_rubric(path).text.endswith('{"a": 1} or {}?')


def test_a_policy_names_one_that_ships_or_one_beside_it(tmp_path: Path) -> None:
    written(tmp_path / "rubrics" / "tone.yaml", GOOD)
    judge = "  judge: {kind: rate, rubric: tone, accept: 2}\n"
    section = (
        "evaluate:\n  share: 0.1\n  evaluators: [verify, {kind: rate, rubric: helpfulness}, structure]\n"
    )
    policy = load_policy(written(tmp_path / "mine.yaml", CASCADE + judge + section))
    assert isinstance(policy, Policy)
    assert isinstance(policy.router, Cascade)
    assert isinstance(policy.router.judge, Rate)
    assert policy.router.judge.rubric.text == "Is {answer} kind?"
    assert policy.evaluate is not None
    assert [one.name for one in policy.evaluate.evaluators] == ["verify", "rate:helpfulness", "structure"]
    assert policy.evaluate.max_calls == 3


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (
            "  judge: {kind: rate, rubric: charm, accept: 2}\n",
            "mine.yaml:7: router.judge.rubric: expected a rubric (correctness, groundedness, helpfulness, refusal, "
            "toxicity), found 'charm'",
        ),
        (
            "  judge: {kind: rate, rubric: groundedness, accept: 2}\n",
            "mine.yaml:7: router.judge: the rubric groundedness names {context}, and a draft is judged without one",
        ),
        (
            "evaluate:\n  share: 0.1\n  evaluators:\n  - verify\n  - {kind: rate, rubric: charm}\n",
            "mine.yaml:11: evaluate.evaluators.1.rubric: expected a rubric",
        ),
        (
            "evaluate:\n  share: 0.1\n  evaluators: []\n",
            "mine.yaml:9: evaluate.evaluators: List should have at least 1 item",
        ),
        (
            "evaluate:\n  share: 2\n  evaluators: [verify]\n",
            "mine.yaml:8: evaluate.share: Input should be less",
        ),
    ],
)
def test_a_policy_that_names_none_is_told_where(tmp_path: Path, lines: str, error: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_policy(written(tmp_path / "mine.yaml", CASCADE + lines))
    assert error in str(told.value)


def test_rubrics_are_followed_as_policies_are(tmp_path: Path) -> None:
    files = PolicyFiles(tmp_path)
    files.load()
    assert "tone" not in files.rubrics
    tone = written(tmp_path / "rubrics" / "tone.yaml", GOOD)
    assert files.read_stamps() != files.stamps
    files.load()
    assert files.rubrics["tone"].scale == 3
    assert files.read_stamps() == files.stamps
    tone.unlink()
    assert files.read_stamps() != files.stamps
