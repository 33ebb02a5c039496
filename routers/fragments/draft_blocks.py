"""Blocks of drafted tokens: what stands of one that was verified, and how long the next one had best be."""

from dataclasses import dataclass

from routers.plan import Choice, Draft, Scored

from .speedup import Costs, best_block

FIRST = 8
"""Tokens of a block before any time was seen."""
MEMORY = 0.9
"""What counts of all earlier blocks with each new one: texts change as they go on."""
PRIOR_ACCEPTED, PRIOR_REJECTED = 1.5, 0.5
"""What an answer's first blocks are weighed against: the usual acceptance of a small model of the same family."""
FEW = 5.0
"""Tries after which an acceptance is believed to be hopeless."""


def verified(scored: Scored) -> tuple[int, Choice]:
    """How many leading tokens of a text its scorer would have written itself, and the one it writes after them."""
    for count, token in enumerate(scored.tokens):
        if token.own.ends or not token.agreed:
            return count, token.own
    return len(scored.tokens), scored.next


def agreement(scored: Scored, finish: str | None) -> float:
    """The share, in [0, 1], of a draft's tokens that its scorer would have written itself, each after the draft's own
    ones before it; its end, where it came to one, counts as a token."""
    agreed = [token.agreed for token in scored.tokens]
    if finish == "stop":
        agreed.append(scored.next.ends)
    return sum(agreed) / len(agreed) if agreed else 0.0


@dataclass(slots=True)
class Block:
    """The length of the next block, `fixed` or that of the most expected tokens a second, from 1 to `longest`.

    The acceptance is that of a token, over this answer's blocks, the later ones counting more; times are those of
    this answer's calls. `least`: the acceptance under which it is `hopeless`.
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
        if self._verified:  # the first draft's time is mostly that of reading the prompt
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
        """Tokens to draft after an answer's first `written` ones."""
        if self.fixed is not None:
            return self.fixed
        if not self._drafted:
            return min(FIRST, self.longest)
        return best_block(self._acceptance(), self._costs(), self._prompt + written, self.longest)

    def _acceptance(self) -> float:
        accepted = self._accepted + PRIOR_ACCEPTED
        return accepted / (accepted + self._rejected + PRIOR_REJECTED)

    def _costs(self) -> Costs:
        """A verification's time is nearly all reading, and a draft's nearly all writing."""
        return Costs(
            decode_token=0.0,
            verify_call=0.0,
            verify_token=self._verifying / self._verified,
            draft_call=0.0,
            draft_token=self._drafting / self._drafted,
        )
