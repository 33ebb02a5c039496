"""Judgements of an answer, as plan fragments for `yield from`.

`verify` is P(True) of Kadavath et al., "Language Models (Mostly) Know What They Know" (arXiv 2207.05221): a
model is asked whether a proposed answer is correct, and the probability of its yes is read from one token. It
is asked twice, with the labels in both orders, since models favour the first or the last label. `rate` is
G-Eval's score (Liu et al., arXiv 2303.16634): the mean over a scale's tokens, weighted by their
probabilities. `agree` compares the answer with new samples of its request: see `routers.judges.agreement`.
"""

from typing import NamedTuple

from routers.plan import Comparison, Fragment, Judge, Judged, Tier

from .agreement import ENTAILMENT
from .rubric import Rubric

CORRECTNESS_PROMPT = """Here are a request and a proposed answer.

Request:
{request}

Proposed answer:
{answer}

Is the proposed answer correct? Reply with one word, """
LABEL_ORDERS = (("yes", "no"), ("no", "yes"))
"""Both orders in which the question names the labels."""


class Judgement(NamedTuple):
    """A judge's score of an answer.

    `score` is on the judge's own scale; `p` is the same score in [0, 1], and higher is better. `mass` is the
    share of the total probability that fell on the labels, or its mean over several questions.
    """

    score: float
    p: float
    mass: float


def build_question(first: str, second: str) -> str:
    """Return the question. The labels come last, so that servers cache the prefix of both orders."""
    return f"{CORRECTNESS_PROMPT}{first} or {second}."


def verify(answer: str, tier: Tier, model: str = "") -> Fragment[Judgement]:
    """Return P(yes) for whether the answer is correct. Raises Unavailable."""
    p = mass = 0.0
    for labels in LABEL_ORDERS:
        judged = yield from _ask_judge(Judge(tier, build_question(*labels), labels, answer, model=model))
        p += judged.p["yes"] / len(LABEL_ORDERS)
        mass += judged.mass / len(LABEL_ORDERS)
    return Judgement(p, p, mass)


def rate(answer: str, rubric: Rubric, tier: Tier, model: str = "", context: str = "") -> Fragment[Judgement]:
    """Return the answer's mean score by the rubric. Raises Unavailable."""
    ask = Judge(tier, rubric.question, rubric.scores, answer, model=model, context=context)
    judged = yield from _ask_judge(ask)
    mean = sum(int(score) * p for score, p in judged.p.items())
    return Judgement(mean, (mean - 1.0) / (rubric.scale - 1.0), judged.mass)


def agree(answer: str, samples: int, compare: Comparison, tier: Tier, model: str = "") -> Fragment[Judgement]:
    """Return how far `samples` new answers agree with this one, in [0, 1]. Raises Unavailable."""
    prompt = ENTAILMENT if compare == "entailment" else ""
    ask = Judge(tier, prompt, LABEL_ORDERS[0], answer, model=model, samples=samples, compare=compare)
    judged = yield from _ask_judge(ask)
    return Judgement(judged.p["yes"], judged.p["yes"], judged.mass)


def _ask_judge(ask: Judge) -> Fragment[Judged]:
    judged = yield ask
    assert isinstance(judged, Judged)  # noqa: S101  every driver answers an ask in kind
    return judged
