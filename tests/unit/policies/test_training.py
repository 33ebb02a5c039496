"""A folder of graded records becomes a calibrator or a scorer, made for one decoding mode, with its report."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from support.record_builders import judged, record
from support.router_builders import MADE_FOR, tokens
from threadpoolctl import threadpool_limits

import policies.tuning.report
from policies.records.schema import PolicyLine, Record, RecordError, RequestLine
from policies.tuning.collection.grades import OLD_GRADES_FILE, Grade
from policies.tuning.training import (
    Fit,
    fit_calibrator_and_predictor,
    fit_scorer_and_predictor,
    train,
)
from routers.confidence.calibration import Calibrator, LogprobSource
from routers.strategies.difficulty import Scorer, measure_features


@pytest.fixture(scope="module", autouse=True)
def fast() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(1):
        patch.setattr(policies.tuning.report, "RESAMPLES", 20)
        yield


def measure(body: dict[str, str]) -> dict[str, float]:
    return dict(measure_features(body["prompt"], len(body["prompt"]), 1))


def graded(number: int, renormalised: bool = False) -> tuple[Record, Grade]:
    """A draft that is right if its tokens are likely and its prompt has no numbers, but for every tenth."""
    is_easy = number % 4 < 2
    split: Literal["train", "held_out"] = "train" if number < 80 else "held_out"
    grade = Grade(
        id=f"sf-{number}",
        item="i",
        kind=("sums", "facts")[number % 2],
        template=f"{split}/{number % 7}",
        split=split,
        right=is_easy != (number % 10 == 0),
    )
    level = (-0.1 if is_easy else -1.5) * (1.0 + number % 9 / 10)
    prompt = "words only" if is_easy else "1 " * (1 + number % 5)
    request = RequestLine(stream=False, judgeable=True, tiers=["slm"], renormalised=renormalised)
    draft = judged(tokens(*[level] * 12))
    return record([draft], None, id=grade.id, content={"prompt": prompt}, request=request), grade


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with 80 free drafts to train on, 40 held out, and one draft under a constraint."""
    records, grades = zip(*[*map(graded, range(120)), graded(120, renormalised=True)], strict=True)
    ran = records[0].policy
    lines = [PolicyLine(digest=ran.digest, policy=ran), *(record.exchange for record in records)]
    (tmp_path / "a.jsonl").write_text("".join(f"{line.model_dump_json()}\n" for line in lines))
    (tmp_path / OLD_GRADES_FILE).write_text(json.dumps([grade.model_dump() for grade in grades]))
    return tmp_path


@pytest.mark.parametrize(
    ("fit", "kind"), [(fit_calibrator_and_predictor, Calibrator), (fit_scorer_and_predictor, Scorer)]
)
def test_it_trains_on_one_split_and_measures_on_the_other(folder: Path, fit: Fit, kind: type) -> None:
    files = (folder / "a.jsonl").read_bytes() + (folder / OLD_GRADES_FILE).read_bytes()
    training = train(folder, MADE_FOR, fit, measure)
    assert isinstance(training.model, kind)
    assert training.model.made_for == MADE_FOR
    source = training.model.trained_on
    assert (source.records, source.sha256) == (folder.name, hashlib.sha256(files).hexdigest())
    assert source.drafts == 80
    assert training.measurements["all"]["drafts"] == 40
    assert training.measurements["all"]["auroc"][0] > 0.7
    training.write_model(folder / "out.model")
    training.write_report(folder / "out.report")
    assert kind.model_validate_json((folder / "out.model").read_bytes()) == training.model  # type: ignore[attr-defined]
    assert json.loads((folder / "out.report").read_text()) == training.measurements


def test_drafts_of_the_other_decoding_mode_are_not_learned_from(folder: Path) -> None:
    constrained = LogprobSource(**{**MADE_FOR.model_dump(), "mode": "constrained"})
    with pytest.raises(ValueError, match="drafts"):
        train(folder, constrained, fit_calibrator_and_predictor, measure)


def test_a_folder_without_grades_is_refused(folder: Path) -> None:
    (folder / OLD_GRADES_FILE).unlink()
    with pytest.raises(RecordError, match="smallfirst collect"):
        train(folder, MADE_FOR, fit_calibrator_and_predictor, measure)
