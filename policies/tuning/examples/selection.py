"""Selects the examples that a small model can learn most from: those whose answers it finds least likely.

An example's loss is the mean negative log-probability of the answer's tokens after the prompt, by the small
model. Selection by a small model's loss is perplexity-based pruning (Ankner et al., arXiv 2405.20541). There,
the best end of the scale depended on the data, so compare on the validation set. Examples whose prompt does
not make the answer likelier are left out: prompt and answer do not belong together, or the model understands
neither. These are the examples with an instruction-following difficulty (loss with the prompt over loss
without it) of 1 or more (Li et al., arXiv 2308.12032).
"""

from collections.abc import Sequence
from typing import NamedTuple

from .sft_examples import Example


class Loss(NamedTuple):
    """Mean negative log-probability of an answer, in nats a token."""

    with_prompt: float
    """The loss after the prompt."""
    without_prompt: float
    """The loss without the prompt."""


class Selection(NamedTuple):
    """The selected examples with their losses, highest first, and how many were not selected, by cause."""

    examples: list[tuple[Example, Loss]]
    unscored: int
    """Examples without a loss: the small model could not read them."""
    outliers: int
    """Examples whose prompt made the answer no likelier."""
    easier: int
    """Examples with a lower loss than the selected ones."""


def select_examples(examples: Sequence[Example], losses: Sequence[Loss | None], amount: float) -> Selection:
    """Select the examples of highest loss: `amount` of them if it is 1 or more, else that share of all."""
    scored = [pair for pair in zip(examples, losses, strict=True) if pair[1] is not None]
    fitting = [
        (example, loss)
        for example, loss in scored
        if loss is not None and loss.with_prompt < loss.without_prompt
    ]
    fitting.sort(key=lambda pair: (-pair[1].with_prompt, pair[0].id))
    count = int(amount) if amount >= 1 else max(1, round(amount * len(examples)))
    best = fitting[:count]
    return Selection(best, len(examples) - len(scored), len(scored) - len(fitting), len(fitting) - len(best))
