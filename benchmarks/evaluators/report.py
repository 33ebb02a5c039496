"""What was said of labelled answers -> what each evaluator is worth on one model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.evaluators.kept import Kept
from benchmarks.evaluators.labelled import Answered, by_rubric
from policies.tuning.report import auroc, bootstrap_interval, calibration_error
from routers.judges.agreement import AGREEMENT_BY, mean_agreement

Array = NDArray[np.float64]
Scores = dict[str, Any]


def told(judge: str, drafted: Sequence[Answered]) -> dict[str, Scores]:
    """By evaluator, as results name it."""
    return {
        "verify": by_judgement(judge, "verify", drafted),
        **by_comparison(judge, drafted),
        "agree:entailment": by_judgement(judge, "agree:entailment", drafted),
        **{
            f"rate:{name}": by_judgement(judge, f"rate:{name}", answers)
            for name, answers in by_rubric(drafted).items()
        },
    }


def scored(good: Array, p: Array) -> Scores:
    """Discrimination and calibration; `chance` where the interval of the AUROC has 0.5 in it, or lies below."""
    found = bootstrap_interval(auroc, good, p)
    return {
        "answers": len(good),
        "good": round(float(good.mean()), 4),
        "auroc": found,
        "calibration_error": bootstrap_interval(calibration_error, good, p),
        "chance": bool(found[1] <= 0.5),
    }


def good(answers: Sequence[Answered]) -> Array:
    """1 where it is, else 0."""
    return np.array([float(one.good) for one in answers])


def by_judgement(judge: str, evaluator: str, answers: Sequence[Answered]) -> Scores:
    kept = Kept(judge, evaluator)
    rows = [kept[one] for one in answers]
    mass = round(float(np.mean([row["mass"] for row in rows])), 4)
    return scored(good(answers), np.array([row["p"] for row in rows])) | {"mass": mass}


def by_comparison(judge: str, drafted: Sequence[Answered]) -> dict[str, Scores]:
    """By words over all items; by number over those whose answer is one."""
    samples = Kept(judge, "samples")
    judged = {"text": drafted, "number": [one for one in drafted if one.numeric]}
    return {
        f"agree:{compare}": scored(
            good(judged[compare]),
            np.array(
                [mean_agreement(compare, one.answer, samples[one]["samples"]) for one in judged[compare]]
            ),
        )
        for compare in AGREEMENT_BY
    }
