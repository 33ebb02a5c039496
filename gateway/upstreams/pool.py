"""The upstreams of one tier: who of them is asked, and who else where one fails."""

from collections.abc import Iterable
from functools import cached_property, lru_cache

from gateway.wire.requirements import Needs
from routers.plan import Tier, Unavailable

from .upstream import Upstream

CURABLE = frozenset(
    {"down", "busy", "overloaded", "rate_limited", "timeout", "refused", "error", "lost", "garbage"}
)
"""Failures that another upstream need not share."""

REMEMBERED = 256
"""Kinds of requests of which it is remembered who can serve them: there are few, and a request asks several times."""


class Pool:
    """Of the upstreams that are up and fit a request, those of the lowest priority share it: the one with the
    least load for its weight is asked, and equals take turns by weight (nginx's smooth weighted round-robin)."""

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self.upstreams = tuple(sorted(upstreams, key=lambda upstream: upstream.priority))
        self._credit = dict.fromkeys(self.upstreams, 0.0)
        self._known = lru_cache(REMEMBERED)(self._found)

    @cached_property
    def writers(self) -> tuple[Upstream, ...]:
        """Those of them that answer requests."""
        return tuple(upstream for upstream in self.upstreams if not upstream.judges_only)

    def judges(self, model: str | None) -> list[Upstream]:
        """Those of them that may be asked to judge: who serves the model, where one is named."""
        found = self.writers if model is None else self.upstreams
        return [upstream for upstream in found if model in (None, *upstream.models)]

    @cached_property
    def at_home(self) -> "Pool | None":
        """Those of them that are no cloud, as a pool of their own; None where all are."""
        found = [upstream for upstream in self.upstreams if not upstream.cloud]
        if len(found) == len(self.upstreams):
            return self
        return Pool(found) if found else None

    @cached_property
    def renormalises(self) -> bool:
        """Whether log-probabilities under a constraint are on another scale than free ones."""
        return any(upstream.kind.renormalises for upstream in self.writers)

    @property
    def up(self) -> bool:
        """Whether any of them takes calls."""
        return any(upstream.up for upstream in self.writers)

    def able(self, needs: Needs) -> bool:
        """Whether any of them can serve such a request, up or not."""
        return bool(self._able(needs))

    def ready(self, needs: Needs) -> bool:
        """Whether any that can serve such a request is up."""
        return self.first(needs, up=True) is not None

    def first(self, needs: Needs, *, up: bool = False) -> Upstream | None:
        """Who is asked such a request while all are idle and well; of equals, who was configured first. With `up`
        those that are down are passed over."""
        for upstream in self._able(needs):
            if upstream.up or not up:
                return upstream
        return None

    def fit(self, needs: Needs) -> list[Upstream]:
        """Whom a request may be put to: those that are up, else all that could serve it. Where none could, the
        one whose refusal says most, which is that of a prompt too long."""
        if len(self.upstreams) == 1:
            return [*self.upstreams]
        able = self._able(needs)
        return [upstream for upstream in able if upstream.up] or [*able] or [self._nearest(needs)]

    def choose(self, left: list[Upstream]) -> Upstream:
        """Whom to ask next; takes it out of `left`."""
        if len(left) == 1:
            return left.pop()
        ranks = [_rank(upstream) for upstream in left]
        best = min(ranks)
        chosen = self._turn([upstream for upstream, rank in zip(left, ranks, strict=True) if rank == best])
        left.remove(chosen)
        return chosen

    def _able(self, needs: Needs) -> tuple[Upstream, ...]:
        """Those that can serve such a request, up or not."""
        return self._found(needs) if needs.tokens else self._known(needs)

    def _found(self, needs: Needs) -> tuple[Upstream, ...]:
        return tuple(upstream for upstream in self.upstreams if upstream.fits(needs))

    def _nearest(self, needs: Needs) -> Upstream:
        lacking = {upstream: upstream.lacking(needs) for upstream in self.upstreams}
        too_long = (
            upstream for upstream, lack in lacking.items() if lack is not None and lack.why == "context"
        )
        return next(too_long, self.upstreams[0])

    def _turn(self, equals: list[Upstream]) -> Upstream:
        for upstream in equals:
            self._credit[upstream] += upstream.weight
        chosen = max(equals, key=self._credit.__getitem__)
        self._credit[chosen] -= sum(upstream.weight for upstream in equals)
        return chosen


def pools(upstreams: Iterable[Upstream]) -> dict[Tier, Pool]:
    """By tier, in the order in which the tiers first appear."""
    tiers: dict[Tier, list[Upstream]] = {}
    for upstream in upstreams:
        tiers.setdefault(upstream.tier, []).append(upstream)
    return {tier: Pool(found) for tier, found in tiers.items()}


def might_cure(lost: Unavailable, failed: Upstream, left: list[Upstream]) -> list[Upstream]:
    """Who of those left might do what one has failed to do. Once the client has a part of the answer, nobody."""
    if lost.partial is not None:
        return []
    if lost.why == "private":
        return [other for other in left if not other.cloud]
    if lost.why == "context":
        return [other for other in left if (other.context or 0) > (failed.context or 0)]
    return left if lost.why in CURABLE else []


def _rank(upstream: Upstream) -> tuple[bool, bool, int, float]:
    return upstream.restarting, upstream.spared, upstream.priority, upstream.load / upstream.weight
