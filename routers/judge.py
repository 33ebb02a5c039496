"""Judgements as plan fragments: `yield from` one, and decide on what it gives.

`verify` is P(True) of Kadavath et al., "Language Models (Mostly) Know What They Know" (arXiv 2207.05221): a model is
asked whether a proposed answer is correct, and the probability of its yes is read from one token.
"""

from typing import Annotated, Literal

from pydantic import Field

from .calibration import Strict
from .plan import Draft, Fragment, Judge, Judged, Reason, Tier

QUESTION = """Here are a request and a proposed answer.

Request:
{request}

Proposed answer:
{answer}

Is the proposed answer correct? Reply with one word, yes or no."""


class Verify(Strict):
    """Judges a finished draft once more before it is served."""

    kind: Literal["verify"] = "verify"
    """Names the judgement."""
    tier: Tier = "slm"
    """Who judges."""
    accept: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Lowest probability of yes with which the draft is served."""
    below: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Only accepted drafts whose confidence is under this are judged; the others are served at once."""


def verify(draft: Draft, tier: Tier) -> Fragment[float]:
    """P(yes), in [0, 1], that the draft answers the request correctly. Raises Unavailable."""
    judged = yield Judge(tier, QUESTION, ("yes", "no"), draft.text, Reason.JUDGED)
    assert isinstance(judged, Judged)  # noqa: S101  every driver answers an ask in kind
    return judged.p["yes"]
