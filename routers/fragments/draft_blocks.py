"""Blocks of drafted tokens: how much of a block is accepted, and how long the next block should be."""

from dataclasses import dataclass

from routers.plan import Choice, Draft, Scored

from .speedup import Costs, best_block

FIRST = 8
"""Tokens of a block before any draft was timed."""
MEMORY = 0.9
"""Factor on earlier counts at each new block, since acceptance changes within a text."""
PRIOR_ACCEPTED, PRIOR_REJECTED = 1.5, 0.5
"""Prior counts for the acceptance rate: the usual one of a small model of the same family."""
FEW = 5.0
"""Weighted tries before the acceptance rate may be judged hopeless."""


def verified(scored: Scored) -> tuple[int, Choice]:
    """Return the number of leading tokens that the scorer accepts, and its own token after them."""
    for count, token in enumerate(scored.tokens):
        if token.own.ends or not token.agreed:
            return count, token.own
    return len(scored.tokens), scored.next


def agreement(scored: Scored, finish: str | None) -> float:
    """Return the share, in [0, 1], of a draft's tokens that the scorer would have written itself.

    Each token is compared with the scorer's choice after the draft's own tokens before it. If the draft
    finished with `stop`, its end counts as one more token.
    """
    agreed = [token.agreed for token in scored.tokens]
    if finish == "stop":
        agreed.append(scored.next.ends)
    return sum(agreed) / len(agreed) if agreed else 0.0


@dataclass(slots=True)
class Block:
    """Chooses the length of the next block: `fixed`, or the one with the most expected tokens per second.

    An adapted length is in [1, `max_length`]. It follows from the acceptance rate per token over this
    answer's blocks, where later blocks weigh more, and from the times of this answer's calls. Speculation
    `is_hopeless` if the acceptance rate is below `min_acceptance`.
    """

    fixed: int | None
    longest: int
    least: float
    _accepted: float = 0.0
    _rejected: float = 0.0
    _drafting: float = 0.0
    _drafted: int = 0
    _verifying: float = 0.0
    _verified: int = 0
    _prompt: int = 0

    def seen(self, draft: Draft, scored: Scored) -> None:
        kept, own = verified(scored)
        whole = kept == len(scored.tokens)
        ended = draft.finish == "stop"
        rejected = not whole or (ended and not own.ends)
        accepted = kept + (whole and ended and own.ends)
        self._accepted = MEMORY * self._accepted + accepted
        self._rejected = MEMORY * self._rejected + rejected
        if self._verified:  # the first draft's time is mostly prefill
            self._drafting += draft.seconds
            self._drafted += len(draft.tokens)
        self._verifying += scored.seconds
        self._verified += scored.usage.prompt_tokens
        self._prompt = self._prompt or scored.usage.prompt_tokens - len(scored.tokens)

    @property
    def hopeless(self) -> bool:
        tried = self._accepted + self._rejected
        return tried >= FEW and self._accepted < self.least * tried

    def size(self, written: int) -> int:
        """Return the number of tokens to draft after the answer's first `written` tokens."""
        if self.fixed is not None:
            return self.fixed
        if not self._drafted:
            return min(FIRST, self.longest)
        return best_block(self._acceptance(), self._costs(), self._prompt + written, self.longest)

    def _acceptance(self) -> float:
        accepted = self._accepted + PRIOR_ACCEPTED
        return accepted / (accepted + self._rejected + PRIOR_REJECTED)

    def _costs(self) -> Costs:
        """Estimate costs per token, taking a verification's time as prefill and a draft's as decoding."""
        return Costs(
            decode_token=0.0,
            verify_call=0.0,
            verify_token=self._verifying / self._verified,
            draft_call=0.0,
            draft_token=self._drafting / self._drafted,
        )
