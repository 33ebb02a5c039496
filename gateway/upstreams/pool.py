"""The upstreams of one tier: load balancing among them, and failover."""

from collections.abc import Iterable
from functools import cached_property, lru_cache

from gateway.wire.requirements import Needs
from routers.plan import Tier, Unavailable

from .upstream import Upstream

CURABLE = frozenset(
    {"down", "busy", "overloaded", "rate_limited", "timeout", "refused", "error", "lost", "garbage"}
)
"""Reasons of a failure after which another upstream may succeed."""

REMEMBERED = 256
"""Maximum number of needs whose matching upstreams are cached. A request looks its needs up several times."""


class Pool:
    """Balances calls among the upstreams of a tier.

    Of the upstreams that are up and can serve a request, those with the lowest priority number share the
    load. The one with the least load for its weight is called; equals take turns by weight (nginx's smooth
    weighted round-robin).
    """

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self.upstreams = tuple(sorted(upstreams, key=lambda upstream: upstream.priority))
        self._credit = dict.fromkeys(self.upstreams, 0.0)
        self._known = lru_cache(REMEMBERED)(self._found)

    @cached_property
    def writers(self) -> tuple[Upstream, ...]:
        """Upstreams that answer requests, not only judge."""
        return tuple(upstream for upstream in self.upstreams if not upstream.judges_only)

    def judges(self, model: str | None) -> list[Upstream]:
        """Return the upstreams that may judge: those that serve `model`, or all writers if it is None."""
        found = self.writers if model is None else self.upstreams
        return [upstream for upstream in found if model in (None, *upstream.models)]

    @cached_property
    def at_home(self) -> "Pool | None":
        """Pool of the upstreams that are not clouds; None if all are."""
        found = [upstream for upstream in self.upstreams if not upstream.cloud]
        if len(found) == len(self.upstreams):
            return self
        return Pool(found) if found else None

    @cached_property
    def renormalises(self) -> bool:
        """Whether log-probabilities under a constraint have another scale than unconstrained ones."""
        return any(upstream.kind.renormalises for upstream in self.writers)

    @property
    def up(self) -> bool:
        """Whether at least one writer takes calls."""
        return any(upstream.up for upstream in self.writers)

    def able(self, needs: Needs) -> bool:
        """Return whether at least one upstream can serve such a request, up or not."""
        return bool(self._able(needs))

    def ready(self, needs: Needs) -> bool:
        """Return whether at least one upstream that can serve such a request is up."""
        return self.first(needs, up=True) is not None

    def first(self, needs: Needs, *, up: bool = False) -> Upstream | None:
        """Return the upstream called for such a request if all are idle and healthy; None if no upstream can
        serve it.

        Among equals, the first in the configuration wins. `only_up` skips upstreams that are down.
        """
        for upstream in self._able(needs):
            if upstream.up or not up:
                return upstream
        return None

    def fit(self, needs: Needs) -> list[Upstream]:
        """Return the upstreams that a request may be sent to: those that can serve it and are up, else those
        that can serve it.

        If none can serve it, return the one with the most useful refusal: a prompt that is too long for it,
        if any. The only upstream of a pool is returned unchecked.
        """
        if len(self.upstreams) == 1:
            return [*self.upstreams]
        able = self._able(needs)
        return [upstream for upstream in able if upstream.up] or [*able] or [self._nearest(needs)]

    def choose(self, left: list[Upstream]) -> Upstream:
        """Return the upstream to call next, and remove it from `candidates`."""
        if len(left) == 1:
            return left.pop()
        ranks = [_rank(upstream) for upstream in left]
        best = min(ranks)
        chosen = self._turn([upstream for upstream, rank in zip(left, ranks, strict=True) if rank == best])
        left.remove(chosen)
        return chosen

    def _able(self, needs: Needs) -> tuple[Upstream, ...]:
        """Return the upstreams that can serve such a request, up or not."""
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
    """Return a pool per tier, in the order in which the tiers first appear."""
    tiers: dict[Tier, list[Upstream]] = {}
    for upstream in upstreams:
        tiers.setdefault(upstream.tier, []).append(upstream)
    return {tier: Pool(found) for tier, found in tiers.items()}


def might_cure(lost: Unavailable, failed: Upstream, left: list[Upstream]) -> list[Upstream]:
    """Return the remaining upstreams that may succeed after this failure.

    Return none once a part of the answer has been sent to the client.
    """
    if lost.partial is not None:
        return []
    if lost.why == "private":
        return [other for other in left if not other.cloud]
    if lost.why == "context":
        return [other for other in left if (other.context or 0) > (failed.context or 0)]
    return left if lost.why in CURABLE else []


def _rank(upstream: Upstream) -> tuple[bool, bool, int, float]:
    return upstream.restarting, upstream.spared, upstream.priority, upstream.load / upstream.weight
