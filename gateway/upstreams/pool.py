"""The upstreams of one tier: load balancing among them, and failover."""

from collections.abc import Iterable
from functools import cached_property, lru_cache

from gateway.wire.requirements import Requirements
from routers.plan import Tier, Unavailable

from .upstream import Upstream

FAILOVER_REASONS = frozenset(
    {
        "down",
        "busy",
        "overloaded",
        "rate_limited",
        "out_of_quota",
        "timeout",
        "misconfigured",
        "refused",
        "error",
        "lost",
        "garbage",
    }
)
"""Reasons of a failure after which another upstream may succeed."""

MATCH_CACHE_SIZE = 256
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
        self._find_able_cached = lru_cache(MATCH_CACHE_SIZE)(self._match)
        for upstream in self.upstreams:
            upstream.on_change(self._find_able_cached.cache_clear)

    @cached_property
    def writers(self) -> tuple[Upstream, ...]:
        """Upstreams that answer requests, not only judge."""
        return tuple(upstream for upstream in self.upstreams if not upstream.judges_only)

    def find_judges(self, model: str | None) -> list[Upstream]:
        """Return the upstreams that may judge: those that serve `model`, or all writers if it is None."""
        candidates = self.writers if model is None else self.upstreams
        return [upstream for upstream in candidates if model in (None, *upstream.models)]

    @cached_property
    def without_clouds(self) -> "Pool | None":
        """Pool of the upstreams that are not clouds; None if all are."""
        own = [upstream for upstream in self.upstreams if not upstream.is_cloud]
        if len(own) == len(self.upstreams):
            return self
        return Pool(own) if own else None

    @cached_property
    def renormalises(self) -> bool:
        """Whether log-probabilities under a constraint have another scale than unconstrained ones."""
        return any(upstream.kind.renormalises for upstream in self.writers)

    @property
    def is_up(self) -> bool:
        """Whether at least one writer takes calls."""
        return any(upstream.is_up for upstream in self.writers)

    def can_serve(self, needs: Requirements) -> bool:
        """Return whether at least one upstream can serve such a request, up or not."""
        return bool(self._find_able(needs))

    def can_serve_now(self, needs: Requirements) -> bool:
        """Return whether at least one upstream that can serve such a request is up."""
        return self.find_first(needs, only_up=True) is not None

    def find_first(self, needs: Requirements, *, only_up: bool = False) -> Upstream | None:
        """Return the upstream called for such a request if all are idle and healthy; None if no upstream can
        serve it.

        Among equals, the first in the configuration wins. `only_up` skips upstreams that are down.
        """
        for upstream in self._find_able(needs):
            if not only_up or upstream.is_up:
                return upstream
        return None

    def find_candidates(self, needs: Requirements) -> list[Upstream]:
        """Return the upstreams that a request may be sent to: those that can serve it and are up, else those
        that can serve it.

        If none can serve it, return the one with the most useful refusal: a prompt that is too long for it,
        if any. The only upstream of a pool is returned unchecked.
        """
        if len(self.upstreams) == 1:
            return [*self.upstreams]
        able = self._find_able(needs)
        return (
            [upstream for upstream in able if upstream.is_up] or [*able] or [self._choose_for_refusal(needs)]
        )

    def choose(self, candidates: list[Upstream]) -> Upstream:
        """Return the upstream to call next, and remove it from `candidates`."""
        if len(candidates) == 1:
            return candidates.pop()
        ranks = [_rank(upstream) for upstream in candidates]
        best = min(ranks)
        chosen = self._choose_by_weight(
            [upstream for upstream, rank in zip(candidates, ranks, strict=True) if rank == best]
        )
        candidates.remove(chosen)
        return chosen

    def _find_able(self, needs: Requirements) -> tuple[Upstream, ...]:
        """Return the upstreams that can serve such a request, up or not."""
        return self._match(needs) if needs.tokens or needs.alternatives else self._find_able_cached(needs)

    def _match(self, needs: Requirements) -> tuple[Upstream, ...]:
        return tuple(upstream for upstream in self.upstreams if upstream.can_serve(needs))

    def _choose_for_refusal(self, needs: Requirements) -> Upstream:
        mismatches = {upstream: upstream.find_mismatch(needs) for upstream in self.upstreams}
        too_long = (
            upstream for upstream, lack in mismatches.items() if lack is not None and lack.why == "context"
        )
        return next(too_long, self.upstreams[0])

    def _choose_by_weight(self, candidates: list[Upstream]) -> Upstream:
        for upstream in candidates:
            self._credit[upstream] += upstream.weight
        chosen = max(candidates, key=self._credit.__getitem__)
        self._credit[chosen] -= sum(upstream.weight for upstream in candidates)
        return chosen


def build_pools(upstreams: Iterable[Upstream]) -> dict[Tier, Pool]:
    """Return a pool per tier, in the order in which the tiers first appear."""
    tiers: dict[Tier, list[Upstream]] = {}
    for upstream in upstreams:
        tiers.setdefault(upstream.tier, []).append(upstream)
    return {tier: Pool(found) for tier, found in tiers.items()}


def fallbacks_after(failure: Unavailable, failed: Upstream, remaining: list[Upstream]) -> list[Upstream]:
    """Return the remaining upstreams that may succeed after this failure.

    Return none once a part of the answer has been sent to the client.
    """
    if failure.partial is not None:
        return []
    if failure.why == "private":
        return [other for other in remaining if not other.is_cloud]
    if failure.why == "context":
        return [other for other in remaining if (other.context_length or 0) > (failed.context_length or 0)]
    return remaining if failure.why in FAILOVER_REASONS else []


def _rank(upstream: Upstream) -> tuple[bool, bool, int, float]:
    return upstream.is_restarting, upstream.is_backing_off, upstream.priority, upstream.load / upstream.weight
