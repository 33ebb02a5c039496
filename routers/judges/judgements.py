"""Judgements of an answer as plan fragments: `yield from` one, and decide on what it gives.

`verify` is P(True) of Kadavath et al., "Language Models (Mostly) Know What They Know" (arXiv 2207.05221): a model is
asked whether a proposed answer is correct, and the probability of its yes is read from one token. It is asked twice,
with the labels in either order, since models lean to what is named first or last. `rate` is G-Eval's score (Liu et
al., arXiv 2303.16634): the mean over a scale's tokens, weighted by their probabilities. `agree` samples the request
anew and compares: see `agreement`.
"""

from typing import NamedTuple

from routers.plan import Compare, Fragment, Judge, Judged, Tier

from .agreement import ENTAILMENT
from .rubric import Rubric

PROPOSED = """Here are a request and a proposed answer.

Request:
{request}

Proposed answer:
{answer}

Is the proposed answer correct? Reply with one word, """
ORDERS = (("yes", "no"), ("no", "yes"))
"""How the labels are named in the question."""


class Judgement(NamedTuple):
    """`score` is on the judge's own scale; `p` is the same in [0, 1], where more is better. `mass` is how much of all
    probability fell on the labels, the mean where several were asked."""

    score: float
    p: float
    mass: float


def question(first: str, second: str) -> str:
    """Ends in what differs, so that a server's prompt cache has the rest."""
    return f"{PROPOSED}{first} or {second}."


def verify(answer: str, tier: Tier, model: str = "") -> Fragment[Judgement]:
    """P(yes), that the answer is correct. Raises Unavailable."""
    p = mass = 0.0
    for labels in ORDERS:
        judged = yield from _asked(Judge(tier, question(*labels), labels, answer, model=model))
        p += judged.p["yes"] / len(ORDERS)
        mass += judged.mass / len(ORDERS)
    return Judgement(p, p, mass)


def rate(answer: str, rubric: Rubric, tier: Tier, model: str = "", context: str = "") -> Fragment[Judgement]:
    """The rubric's mean score. Raises Unavailable."""
    ask = Judge(tier, rubric.question, rubric.scores, answer, model=model, context=context)
    judged = yield from _asked(ask)
    mean = sum(int(score) * p for score, p in judged.p.items())
    return Judgement(mean, (mean - 1.0) / (rubric.scale - 1.0), judged.mass)


def agree(answer: str, samples: int, compare: Compare, tier: Tier, model: str = "") -> Fragment[Judgement]:
    """How far `samples` new answers agree with this one. Raises Unavailable."""
    asked = ENTAILMENT if compare == "entailment" else ""
    ask = Judge(tier, asked, ORDERS[0], answer, model=model, samples=samples, compare=compare)
    judged = yield from _asked(ask)
    return Judgement(judged.p["yes"], judged.p["yes"], judged.mass)


def _asked(ask: Judge) -> Fragment[Judged]:
    judged = yield ask
    assert isinstance(judged, Judged)  # noqa: S101  every driver answers an ask in kind
    return judged
