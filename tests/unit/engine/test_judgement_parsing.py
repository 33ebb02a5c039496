"""A judge's answer is read whatever its server reports of the alternatives."""

import json
from typing import Any

import pytest

from gateway.engine.judge.prompt import parse_judgement
from routers.plan import NO_USAGE, Judge

ASK = Judge("slm", "Is it? {answer}", ("yes", "no"))


def answer(*alternatives: tuple[str, Any]) -> bytes:
    top = [{"token": token, "logprob": logprob} for token, logprob in alternatives]
    return json.dumps({"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}).encode()


@pytest.mark.parametrize(
    ("alternatives", "yes"),
    [
        ([("Yes", -0.1), ("maybe", None)], 1.0),
        ([("yes", 0.0), ("no", None)], 1.0),
        ([("yes", 1e308), ("no", -9999.0)], 1.0),
        ([("yes", 1e308), ("no", 5.0)], 0.5),
    ],
)
def test_odd_alternatives_are_certain_or_left_out(alternatives: Any, yes: float):
    judged = parse_judgement(ASK, answer(*alternatives), NO_USAGE)
    assert judged.p["yes"] == pytest.approx(yes)
    assert 0.0 < judged.mass <= 1.0
