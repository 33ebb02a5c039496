"""Blocks of drafted tokens: how much of a block is accepted, and how long the next block should be."""

from dataclasses import dataclass

from routers.plan import Draft, GreedyToken, Scored

from .speedup import Costs, best_block

FIRST_LENGTH = 8
"""Tokens of a block before any draft was timed."""
DECAY = 0.9
"""Factor on earlier counts at each new block, since acceptance changes within a text."""
PRIOR_ACCEPTED, PRIOR_REJECTED = 1.5, 0.5
"""Prior counts for the acceptance rate: the usual one of a small model of the same family."""
MIN_TRIES = 5.0
"""Weighted tries before the acceptance rate may be judged hopeless."""


def count_accepted(scored: Scored) -> tuple[int, GreedyToken]:
    """Return the number of leading tokens that the scorer accepts, and its own token after them."""
    for count, token in enumerate(scored.tokens):
        if token.greedy.ends or not token.is_greedy:
            return count, token.greedy
    return len(scored.tokens), scored.next


def accepted_share(scored: Scored, finish: str | None) -> float:
    """Return the share, in [0, 1], of a draft's tokens that the scorer would have written itself.

    Each token is compared with the scorer's choice after the draft's own tokens before it. If the draft
    finished with `stop`, its end counts as one more token.
    """
    matches = [token.is_greedy for token in scored.tokens]
    if finish == "stop":
        matches.append(scored.next.ends)
    return sum(matches) / len(matches) if matches else 0.0


@dataclass(slots=True)
class BlockLength:
    """Chooses the length of the next block: `fixed`, or the one with the most expected tokens per second.

    An adapted length is in [1, `max_length`]. It follows from the acceptance rate per token over this
    answer's blocks, where later blocks weigh more, and from the times of this answer's calls. Speculation
    `is_hopeless` if the acceptance rate is below `min_acceptance`.
    """

    fixed: int | None
    max_length: int
    min_acceptance: float
    _accepted: float = 0.0
    _rejected: float = 0.0
    _draft_seconds: float = 0.0
    _draft_tokens: int = 0
    _verify_seconds: float = 0.0
    _verify_tokens: int = 0
    _prompt_tokens: int = 0

    def update(self, draft: Draft, scored: Scored) -> None:
        leading, correction = count_accepted(scored)
        is_fully_accepted = leading == len(scored.tokens)
        is_complete = draft.finish == "stop"
        rejected = not is_fully_accepted or (is_complete and not correction.ends)
        accepted = leading + (is_fully_accepted and is_complete and correction.ends)
        self._accepted = DECAY * self._accepted + accepted
        self._rejected = DECAY * self._rejected + rejected
        if self._verify_tokens:  # the first draft's time is mostly prefill
            self._draft_seconds += draft.seconds
            self._draft_tokens += len(draft.tokens)
        self._verify_seconds += scored.seconds
        self._verify_tokens += scored.usage.prompt_tokens
        self._prompt_tokens = self._prompt_tokens or scored.usage.prompt_tokens - len(scored.tokens)

    @property
    def is_hopeless(self) -> bool:
        tried = self._accepted + self._rejected
        return tried >= MIN_TRIES and self._accepted < self.min_acceptance * tried

    def next_length(self, written: int) -> int:
        """Return the number of tokens to draft after the answer's first `written` tokens."""
        if self.fixed is not None:
            return self.fixed
        if not self._draft_tokens:
            return min(FIRST_LENGTH, self.max_length)
        return best_block(self._acceptance(), self._costs(), self._prompt_tokens + written, self.max_length)

    def _acceptance(self) -> float:
        accepted = self._accepted + PRIOR_ACCEPTED
        return accepted / (accepted + self._rejected + PRIOR_REJECTED)

    def _costs(self) -> Costs:
        """Estimate costs per token, taking a verification's time as prefill and a draft's as decoding."""
        return Costs(
            decode_token=0.0,
            verify_call=0.0,
            verify_token=self._verify_seconds / self._verify_tokens,
            draft_call=0.0,
            draft_token=self._draft_seconds / self._draft_tokens,
        )
