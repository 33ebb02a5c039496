"""Admits or refuses every upstream call of an exchange, whether the plan, a skill or a judge makes it.

The checks are, in this order: whether the tier is configured, privacy (may a cloud see the request?) and the ceilings
(calls, tokens, dollars, time). Circuit breakers are checked later, by each upstream.
"""

from collections.abc import Mapping
from math import inf

from gateway.exchange.call import Call
from gateway.exchange.exchange import Exchange
from gateway.upstreams.pool import Pool
from gateway.upstreams.upstream import Upstream
from gateway.wire.requirements import Requirements
from routers.cost import FREE, Price, compute_cost
from routers.plan import Generate, Question, Say, Skill, Tier, Unavailable, Usage


class Admission:
    """Admits the upstream calls of one exchange."""

    def __init__(self, pools: Mapping[Tier, Pool], exchange: Exchange) -> None:
        self._pools = pools
        self._exchange = exchange
        self._call_count = 0
        self._refusal_count = 0
        self.is_expired = False
        """Whether the policy's ceiling on seconds has passed."""

    def candidates(
        self, ask: Generate | Question | Skill, needs: Requirements
    ) -> tuple[Pool, list[Upstream]]:
        """Return the tier's pool, and its upstreams that may serve the ask.

        Raises Unavailable if the tier is not configured or a private request would go to a cloud. Raises PlanClosed for
        a plan that goes on after many refusals.
        """
        pool = self._pools.get(ask.tier)
        if pool is None:
            raise self.refuse("not_configured", ask, f"no {ask.tier} is configured")
        if self._exchange.private:
            if pool.without_clouds is None:
                names = ", ".join(upstream.name for upstream in pool.upstreams)
                raise self.refuse(
                    "private", ask, f"this request is private, and no cloud may see it ({names})"
                )
            pool = pool.without_clouds
        return pool, pool.find_candidates(needs)

    def token_limit(
        self, ask: Generate | Question | Skill, price: Price, prompt_tokens: int, share: float = 1.0
    ) -> int | None:
        """Admit one call and return its maximum completion tokens per choice; None if the ceilings set no limit.

        `share` is the part of the remaining tokens and dollars that the call may use; a parallel call gets the rest.
        Raises Unavailable if a ceiling is reached, PlanClosed like `candidates`.
        """
        ceilings = self._exchange.policy.ceilings
        counts = not isinstance(ask, Skill)  # a skill's call prepares one of the plan's, and is not counted
        if counts and self._call_count and self._call_count >= (max_calls := self._exchange.max_calls):
            raise self.refuse("ceiling", ask, f"more than {max_calls} upstream calls")
        self.check_time(ask)
        limit = inf
        if ceilings.tokens is not None or ceilings.usd is not None:
            limit = share * min(self._remaining_tokens(), self._affordable_tokens(price, prompt_tokens))
            limit /= self._exchange.choice_count(ask)
        if limit < 1:
            raise self.refuse("ceiling", ask, "the tokens or dollars of this exchange are spent")
        self._call_count += counts
        return int(limit) if limit < inf else None

    def check_time(self, ask: Generate | Question | Say | Skill) -> None:
        """Raise Unavailable if the exchange's time is over."""
        if self.is_expired:
            seconds = self._exchange.policy.ceilings.seconds
            raise self.refuse("ceiling", ask, f"the {seconds:g} s of this exchange are over")

    def check_cost(self, tier: Tier) -> None:
        """Raise Unavailable if the calls so far cost more than the ceiling on dollars."""
        max_usd = self._exchange.policy.ceilings.usd
        if max_usd is not None and sum(call.cost_so_far for call in self._exchange.calls) > max_usd:
            raise Unavailable("ceiling", tier, "the dollars of this exchange are spent")

    def _remaining_tokens(self) -> float:
        max_tokens = self._exchange.policy.ceilings.tokens
        if max_tokens is None:
            return inf
        return max_tokens - sum(call.completion_tokens for call in self._exchange.calls)

    def _affordable_tokens(self, price: Price, prompt_tokens: int) -> float:
        """Return how many completion tokens the remaining dollars pay for, after a prompt of `prompt_tokens`."""
        max_usd = self._exchange.policy.ceilings.usd
        if max_usd is None:
            return inf
        spent = sum(call.cost_so_far for call in self._exchange.calls)
        remaining_usd = max_usd - spent - compute_cost(Usage(prompt_tokens), price)
        if remaining_usd < 0:
            return 0.0
        rate = compute_cost(Usage(prompt_tokens, 1_000_000), price) - compute_cost(
            Usage(prompt_tokens), price
        )
        return remaining_usd / rate * 1e6 if rate else inf

    def refuse(self, why: str, ask: Generate | Question | Say | Skill, message: str) -> Unavailable:
        """Return the refusal to raise, and note it among the exchange's calls, since replay can not derive it.

        Raises PlanClosed after too many refusals.
        """
        if why != "not_configured":
            self.note_outcome(why, ask, message)
        self._refusal_count += 1
        if self._refusal_count > self._exchange.max_calls:
            raise PlanClosed(why, ask.tier, message)
        return Unavailable(why, ask.tier, message)

    def note_outcome(self, outcome: str, ask: Generate | Question | Say | Skill, message: str) -> None:
        """Note the outcome of an ask that made no upstream call, as a call without cost."""
        exchange = self._exchange
        call = Call(ask, ask.tier, "", "", FREE, started=exchange.elapsed(), prompt_tokens=0)
        call.outcome, call.message = outcome, message
        call.settle(exchange.elapsed(), None)
        exchange.calls.append(call)


class PlanClosed(Unavailable):
    """The plan made asks after too many refusals, so the exchange ends."""
