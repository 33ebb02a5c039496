"""An answer made of drafted tokens that the large model has verified and of the large model's own tokens."""

from collections.abc import Sequence
from math import inf

from routers.plan import (
    Answer,
    Draft,
    Fragment,
    Generate,
    Plan,
    Reason,
    Said,
    Say,
    Score,
    Scored,
    Speculation,
    Tier,
    Unavailable,
    Usage,
)
from routers.watch import ObservingWatch

from .draft_blocks import count_accepted
from .fallback import RESTART_PATIENCE, ask_llm, write

LENGTH_LIMITS = ("context", "ceiling")
"""Failures (`Unavailable.why`) that end the answer with `length`, as they would the large model alone."""


def score(ask: Score) -> Fragment[Scored]:
    """Yield one `Score` and return its outcome. Raises Unavailable."""
    scored = yield ask
    assert isinstance(scored, Scored)  # noqa: S101  every driver answers an ask in kind
    return scored


class VerifiedAnswer:
    """An answer that grows by verified tokens.

    `ids` are the large model's token ids of the committed answer, and `text` is their text. `remaining` is
    how many of the `max_tokens` may still follow (infinite if None). `because` is the reason in each `Say`.
    """

    def __init__(self, max_tokens: int | None, because: Reason = Reason.VERIFIED) -> None:
        self._because = because
        self.ids: tuple[int, ...] = ()
        self.text = ""
        self._max_tokens = inf if max_tokens is None else max_tokens
        self._blocks = self._drafted = self._accepted = 0
        self._prompts: dict[Tier, int] = {}

    @property
    def remaining(self) -> float:
        return self._max_tokens - len(self.ids)

    def commit_accepted(self, draft: Draft, scored: Scored) -> Fragment[str | None]:
        """Commit the accepted tokens of a scored draft and the large model's own token after them.

        Returns the finish reason if the answer ends, else None. Raises Unavailable.
        """
        accepted, correction = count_accepted(scored)
        ids = [token.id for token in scored.tokens[:accepted]]
        if not correction.ends:
            ids.append(correction.id)
        finish = "length" if len(ids) >= self.remaining else "stop" if correction.ends else None
        accepted = int(min(accepted, self.remaining))
        yield from self._commit(ids[: int(min(len(ids), self.remaining))], finish)
        self._prompts.setdefault("slm", draft.usage.prompt_tokens)
        self._prompts.setdefault("llm", scored.usage.prompt_tokens - len(scored.tokens))
        self._blocks += 1
        self._drafted += len(scored.tokens)
        self._accepted += accepted
        return finish

    def _commit(self, ids: Sequence[int], finish: str | None) -> Fragment[None]:
        outcome = yield Say("llm", ids, self.ids, finish, self._because)
        assert isinstance(outcome, Said)  # noqa: S101  every driver answers an ask in kind
        self.ids, self.text = (*self.ids, *ids), outcome.text

    def continue_with_llm(self, reason: Reason) -> Plan:
        """The large model continues by itself from its own tokens."""
        if not self.ids:
            return (yield from ask_llm(reason))
        ask = Generate("llm", ObservingWatch, self.text, because=reason, after=self.ids)
        try:
            rest = yield from write(ask)
        except Unavailable as failure:
            return (yield from self._rescue(failure, reason))
        return self.build_answer(reason, None, rest)

    def settle_unscored(self, failure: Unavailable) -> Plan:
        """Finish the answer after a draft could not be scored."""
        if not self.ids:
            return (yield from ask_llm(Reason.NOT_SPECULATED))
        return (yield from self._rescue(failure, Reason.VERIFIED))

    def _rescue(self, failure: Unavailable, reason: Reason) -> Plan:
        """Either tier continues from the text that the client has; the large model is asked first."""
        written = [failure.partial] if failure.partial else []
        if failure.why in LENGTH_LIMITS:
            yield from self._commit((), "length")
            return self.build_answer(reason, "length", *written)
        text = self.text + "".join([part.text for part in written])
        llm_ask = Generate("llm", ObservingWatch, text, because=reason)
        slm_ask = Generate("slm", ObservingWatch, text, RESTART_PATIENCE, Reason.NO_LLM)
        for ask in (llm_ask, slm_ask):
            try:
                rest = yield from write(ask)
            except Unavailable as next_failure:
                if next_failure.partial:
                    raise
                failure = next_failure
            else:
                return self.build_answer(ask.because, None, *written, rest)
        raise failure

    def build_answer(self, reason: Reason, finish: str | None, *rest: Draft) -> Answer:
        """Return the answer in parts: accepted drafted tokens, the large model's own tokens, and `rest`."""
        slm = self._build_part("slm", self._accepted, finish)
        llm_tokens = len(self.ids) - self._accepted + (finish == "stop")  # servers count the end token too
        llm = self._build_part("llm", llm_tokens, finish)
        parts = (*([slm] if self._accepted else []), llm, *rest)
        return Answer(parts, reason, speculation=Speculation(self._blocks, self._drafted, self._accepted))

    def _build_part(self, tier: Tier, tokens: int, finish: str | None) -> Draft:
        return Draft(tier, finish=finish, usage=Usage(self._prompts.get(tier, 0), tokens), kept=tokens)
