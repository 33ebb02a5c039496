"""A scorer learns from prompts what there is to learn, and nothing from what hardly varies."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.record_builders import judged, record
from support.router_builders import MADE_FOR, TRAINED_ON, worth
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

import policies.tuning.report
from gateway.cli import app
from gateway.wire.prompt_text import extract_recorded_features
from policies.records.schema import PolicyLine
from policies.tuning.collection.graded_drafts import GradedDraft, read_graded
from policies.tuning.collection.grades import OLD_GRADES_FILE, Grade
from policies.tuning.difficulty import build_difficulty_predictor, fit_scorer
from policies.tuning.report import auroc, predict_drafts
from routers.strategies.difficulty import FEATURES, Scorer, measure_features


@pytest.fixture(scope="module", autouse=True)
def fast() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(1):
        patch.setattr(policies.tuning.report, "RESAMPLES", 20)
        yield


def prompt_of(rng: np.random.Generator, numbers: int) -> str:
    words = ["word"] * int(rng.integers(2, 9))
    return " ".join([*words, *(["17"] * numbers)])


def asked(count: int, seed: int, split: str = "train") -> list[tuple[str, Grade]]:
    """Prompts whose answers are the more often wrong the more numbers are in them."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        numbers = int(rng.integers(0, 6))
        right = bool(rng.random() < 1.0 / (1.0 + np.exp(2.0 * (numbers - 2.5))))
        fields = {"item": "i", "kind": ("sums", "facts")[number % 2], "template": f"{split}/{number % 12}"}
        grade = Grade(id=f"sf-{split}-{number}", split=split, right=right, **fields)  # type: ignore[arg-type]
        found.append((prompt_of(rng, numbers), grade))
    return found


def drafts(count: int, seed: int, split: str = "train") -> list[GradedDraft]:
    return [
        GradedDraft(grade, worth(0.5), "stop", 1.0, measure_features(prompt, len(prompt), 1))
        for prompt, grade in asked(count, seed, split)
    ]


@pytest.fixture(scope="module")
def fitted(fast: None) -> Scorer:
    return fit_scorer(drafts(240, seed=1), MADE_FOR, TRAINED_ON)


def test_a_fitted_scorer_tells_hard_prompts_from_easy_ones(fitted: Scorer) -> None:
    right, score = predict_drafts(build_difficulty_predictor(fitted), drafts(300, seed=2))
    assert auroc(right, score) > 0.85
    assert (
        fitted.score(measure_features("one word", 8, 1))
        > 0.9
        > 0.1
        > fitted.score(measure_features("17 " * 5, 15, 1))
    )


def test_training_is_deterministic_and_survives_its_file(fitted: Scorer) -> None:
    assert fit_scorer(drafts(240, seed=1), MADE_FOR, TRAINED_ON) == fitted
    assert Scorer.model_validate_json(fitted.model_dump_json()) == fitted


def test_a_measure_that_hardly_varies_is_left_out(fitted: Scorer) -> None:
    """One odd prompt in a hundred must not decide on all that are odd like it."""
    assert set(fitted.features) == {"log_length", "log_context", "numbers", "digit_share"}
    some = drafts(240, seed=1)
    odd = [
        replace(draft, features={**draft.features, "turns": 9.0}) if number % 20 == 0 else draft
        for number, draft in enumerate(some)
    ]
    assert fit_scorer(odd, MADE_FOR, TRAINED_ON) == fitted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda some: [replace(draft, features={}) for draft in some], "neither measures .* nor its content"),
        (lambda some: [replace(draft, features=some[0].features) for draft in some], "prompts that differ"),
        (
            lambda some: [
                replace(draft, grade=draft.grade.model_copy(update={"right": True})) for draft in some
            ],
            "right and wrong drafts, all are right",
        ),
        (lambda some: some[:4], "at least 5 templates, found 4"),
        (lambda some: [], "at least 5 templates, found 0"),
    ],
    ids=["not measured", "all alike", "all right", "few templates", "none"],
)
def test_what_nothing_can_be_learned_from_is_refused(
    change: Callable[[list[GradedDraft]], list[GradedDraft]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_scorer(change(drafts(60, seed=3)), MADE_FOR, TRAINED_ON)


# --- from records


def recorded(folder: Path, *, content: bool) -> Path:
    some = [*asked(80, seed=4), *asked(40, seed=5, split="held_out")]
    lines = []
    for prompt, grade in some:
        body = {"model": "x", "messages": [{"role": "user", "content": prompt}]} if content else None
        draft = judged(worth(0.7)).model_copy(update={"model": MADE_FOR.model})
        found = record([draft], None, id=grade.id, content=body)
        lines += [] if lines else [PolicyLine(digest=found.policy.digest, policy=found.policy)]
        lines.append(found.exchange)
    folder.mkdir(exist_ok=True)
    (folder / "a.jsonl").write_text("".join(line.model_dump_json() + "\n" for line in lines))
    (folder / OLD_GRADES_FILE).write_text(json.dumps([grade.model_dump() for _, grade in some]))
    return folder


def test_prompts_in_records_are_measured_once_they_are_learned_from(tmp_path: Path) -> None:
    (first, *_) = read_graded(recorded(tmp_path, content=True), extract_recorded_features)
    prompt, _ = asked(80, seed=4)[0]
    assert first.features == measure_features(prompt, len(prompt), 1)
    assert tuple(first.features) == FEATURES
    assert read_graded(tmp_path)[0].features == {}
    assert read_graded(recorded(tmp_path, content=False), extract_recorded_features)[0].features == {}


def test_measures_in_records_need_no_content(tmp_path: Path) -> None:
    found = record([judged(worth(0.7))], None, features={"turns": 3.0})
    grade = asked(1, seed=1)[0][1].model_copy(update={"id": found.exchange.id})
    policy = PolicyLine(digest=found.policy.digest, policy=found.policy)
    text = f"{policy.model_dump_json()}\n{found.exchange.model_dump_json()}\n"
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / OLD_GRADES_FILE).write_text(f"[{grade.model_dump_json()}]")
    (draft,) = read_graded(tmp_path, lambda body: pytest.fail("measured again"))
    assert draft.features == {"turns": 3.0}


def test_completions_are_measured_by_their_prompt() -> None:
    assert extract_recorded_features({"prompt": "1 2 3"}) == measure_features("1 2 3", 5, 1)


def test_tune_writes_a_scorer_and_what_it_is_worth(tmp_path: Path) -> None:
    made, report = tmp_path / "scorer.json", tmp_path / "report.json"
    folder = recorded(tmp_path / "drafts", content=True)
    arguments = ["tune", str(folder), "--difficulty", "--out", str(made), "--report", str(report)]
    result = CliRunner().invoke(app, [*arguments, "--model", "small", "--engine", "openai"])
    assert result.exit_code == 0, result.output
    assert "trained on 80 drafts" in result.stderr
    scorer = Scorer.model_validate_json(made.read_bytes())
    assert (scorer.made_for, scorer.trained_on.drafts) == (MADE_FOR, 80)
    found = json.loads(report.read_text())
    assert found["all"]["auroc"][0] > 0.8
    assert set(found["kinds"]) == set(found["leaving_kind_out"]) == {"sums", "facts"}
    assert "| facts, trained without it | 20 |" in result.stdout


def test_tune_warns_of_records_that_it_leaves_out(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "drafts", content=True)
    torn = folder / "0.jsonl"
    torn.write_text('{"type": "exch')
    arguments = [
        "tune",
        str(folder),
        "--engine",
        "llamacpp",
        "--difficulty",
        "--out",
        str(tmp_path / "scorer.json"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith(f"smallfirst: 1 line of records left out: {torn}:1: the line: Invalid")


def test_tune_says_what_a_scorer_lacks(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "drafts", content=False)
    result = CliRunner().invoke(
        app,
        ["tune", str(folder), "--engine", "llamacpp", "--difficulty", "--out", str(tmp_path / "scorer.json")],
    )
    assert (result.exit_code, (tmp_path / "scorer.json").exists()) == (2, False)
    assert "smallfirst: exchange sf-train-0: its record holds neither" in result.stderr
