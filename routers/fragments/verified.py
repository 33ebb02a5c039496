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

from .draft_blocks import verified
from .fallback import RESTART_PATIENCE, large, write

ENDS = ("context", "ceiling")
"""Failures (`Unavailable.why`) that end the answer with `length`, as they would the large model alone."""


def score(ask: Score) -> Fragment[Scored]:
    """Yield one `Score` and return its outcome. Raises Unavailable."""
    scored = yield ask
    assert isinstance(scored, Scored)  # noqa: S101  every driver answers an ask in kind
    return scored


class Verified:
    """An answer that grows by verified tokens.

    `ids` are the large model's token ids of the committed answer, and `text` is their text. `remaining` is
    how many of the `max_tokens` may still follow (infinite if None). `because` is the reason in each `Say`.
    """

    def __init__(self, most: int | None, because: Reason = Reason.VERIFIED) -> None:
        self._because = because
        self.ids: tuple[int, ...] = ()
        self.text = ""
        self._most = inf if most is None else most
        self._blocks = self._drafted = self._accepted = 0
        self._prompts: dict[Tier, int] = {}

    @property
    def left(self) -> float:
        return self._most - len(self.ids)

    def take(self, draft: Draft, scored: Scored) -> Fragment[str | None]:
        """Commit the accepted tokens of a scored draft and the large model's own token after them.

        Returns the finish reason if the answer ends, else None. Raises Unavailable.
        """
        kept, own = verified(scored)
        ids = [token.id for token in scored.tokens[:kept]]
        if not own.ends:
            ids.append(own.id)
        finish = "length" if len(ids) >= self.left else "stop" if own.ends else None
        kept = int(min(kept, self.left))
        yield from self._say(ids[: int(min(len(ids), self.left))], finish)
        self._prompts.setdefault("slm", draft.usage.prompt_tokens)
        self._prompts.setdefault("llm", scored.usage.prompt_tokens - len(scored.tokens))
        self._blocks += 1
        self._drafted += len(scored.tokens)
        self._accepted += kept
        return finish

    def _say(self, ids: Sequence[int], finish: str | None) -> Fragment[None]:
        said = yield Say("llm", ids, self.ids, finish, self._because)
        assert isinstance(said, Said)  # noqa: S101  every driver answers an ask in kind
        self.ids, self.text = (*self.ids, *ids), said.text

    def alone(self, reason: Reason) -> Plan:
        """The large model continues by itself from its own tokens."""
        if not self.ids:
            return (yield from large(reason))
        ask = Generate("llm", ObservingWatch, self.text, because=reason, after=self.ids)
        try:
            rest = yield from write(ask)
        except Unavailable as lost:
            return (yield from self._rescued(lost, reason))
        return self.answer(reason, None, rest)

    def unscored(self, lost: Unavailable) -> Plan:
        """Finish the answer after a draft could not be scored."""
        if not self.ids:
            return (yield from large(Reason.NOT_SPECULATED))
        return (yield from self._rescued(lost, Reason.VERIFIED))

    def _rescued(self, lost: Unavailable, reason: Reason) -> Plan:
        """Either tier continues from the text that the client has; the large model is asked first."""
        written = [lost.partial] if lost.partial else []
        if lost.why in ENDS:
            yield from self._say((), "length")
            return self.answer(reason, "length", *written)
        text = self.text + "".join([part.text for part in written])
        large = Generate("llm", ObservingWatch, text, because=reason)
        small = Generate("slm", ObservingWatch, text, RESTART_PATIENCE, Reason.NO_LLM)
        for ask in (large, small):
            try:
                rest = yield from write(ask)
            except Unavailable as gone:
                if gone.partial:
                    raise
                lost = gone
            else:
                return self.answer(ask.because, None, *written, rest)
        raise lost

    def answer(self, reason: Reason, finish: str | None, *rest: Draft) -> Answer:
        """Return the answer in parts: accepted drafted tokens, the large model's own tokens, and `rest`."""
        slm = self._part("slm", self._accepted, finish)
        own = len(self.ids) - self._accepted + (finish == "stop")  # servers count the end token too
        llm = self._part("llm", own, finish)
        parts = (*([slm] if self._accepted else []), llm, *rest)
        return Answer(parts, reason, speculation=Speculation(self._blocks, self._drafted, self._accepted))

    def _part(self, tier: Tier, tokens: int, finish: str | None) -> Draft:
        return Draft(tier, finish=finish, usage=Usage(self._prompts.get(tier, 0), tokens), kept=tokens)
