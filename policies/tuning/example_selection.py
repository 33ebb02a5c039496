"""Which examples a small model can learn most from: those whose answers it finds least likely.

An example's loss is the mean negative log-probability that the small model gives the answer's tokens after its prompt.
Small models' losses choose data for larger ones too (perplexity-based pruning, Ankner et al., arXiv 2405.20541; which
end of the scale serves best depended on the data there, so compare on the validation set). The highest losses are not
all lessons: where the prompt makes the answer no likelier than it is without one, the two do not belong together, or
the model understands neither. Such examples are left out, as those with an instruction-following difficulty above 1 are
(Li et al., arXiv 2308.12032): the loss after the prompt over the loss without it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .sft_examples import Example


class Loss(NamedTuple):
    """Nats a token."""

    given: float
    """After the prompt."""
    alone: float
    """Without it."""


class Selected(NamedTuple):
    """`examples` with their losses, highest first."""

    examples: list[tuple[Example, Loss]]
    unscored: int
    """Too long for the small model to read."""
    outliers: int
    """The prompt made the answer no likelier."""
    easier: int
    """Left out because others were worth more."""


def select(examples: Sequence[Example], losses: Sequence[Loss | None], wanted: float) -> Selected:
    """`wanted` is a number of examples from 1 on, a share of them below."""
    scored = [pair for pair in zip(examples, losses, strict=True) if pair[1] is not None]
    fitting = [(example, loss) for example, loss in scored if loss is not None and loss.given < loss.alone]
    fitting.sort(key=lambda pair: (-pair[1].given, pair[0].id))
    count = int(wanted) if wanted >= 1 else max(1, round(wanted * len(examples)))
    best = fitting[:count]
    return Selected(best, len(examples) - len(scored), len(scored) - len(fitting), len(fitting) - len(best))
