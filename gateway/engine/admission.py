"""The one door: every upstream call of an exchange leaves through here, whoever asked for it.

It checks whether the tier is there at all, then, in this order: privacy (may a cloud see this?) and the ceilings
(calls, tokens, dollars, time). The breaker is the upstream's own, on its way out.
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
    """Of one exchange."""

    def __init__(self, pools: Mapping[Tier, Pool], exchange: Exchange) -> None:
        self._pools = pools
        self._exchange = exchange
        self._call_count = 0
        self._refusal_count = 0
        self.is_expired = False
        """Whether the exchange's time is over."""

    def candidates(
        self, ask: Generate | Question | Skill, needs: Requirements
    ) -> tuple[Pool, list[Upstream]]:
        """The tier's upstreams that the exchange may be shown to. Raises Unavailable; and Closed for a plan that
        does not take no for an answer."""
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
        """Leave for one call, to write at most so many tokens in each of its choices; None: as many as the request
        says. `share` of what the ceilings leave is for this call, the rest for one beside it. Raises as
        `candidates`."""
        ceilings = self._exchange.policy.ceilings
        counts = not isinstance(ask, Skill)  # what prepares a call is none of the plan's
        if counts and self._call_count and self._call_count >= (most := self._exchange.max_calls):
            raise self.refuse("ceiling", ask, f"more than {most} upstream calls")
        self.check_time(ask)
        left = inf
        if ceilings.tokens is not None or ceilings.usd is not None:
            left = share * min(self._remaining_tokens(), self._affordable_tokens(price, prompt_tokens))
            left /= self._exchange.choice_count(ask)
        if left < 1:
            raise self.refuse("ceiling", ask, "the tokens or dollars of this exchange are spent")
        self._call_count += counts
        return int(left) if left < inf else None

    def check_time(self, ask: Generate | Question | Say | Skill) -> None:
        """Raises Unavailable once the exchange's time is over."""
        if self.is_expired:
            seconds = self._exchange.policy.ceilings.seconds
            raise self.refuse("ceiling", ask, f"the {seconds:g} s of this exchange are over")

    def _remaining_tokens(self) -> float:
        most = self._exchange.policy.ceilings.tokens
        if most is None:
            return inf
        return most - sum(call.completion_tokens for call in self._exchange.calls)

    def _affordable_tokens(self, price: Price, prompt_tokens: int) -> float:
        """Completion tokens that the dollars left pay for, after the prompt, whose length is an estimate."""
        most = self._exchange.policy.ceilings.usd
        if most is None:
            return inf
        spent = sum(call.cost_so_far for call in self._exchange.calls)
        left = most - spent - compute_cost(Usage(prompt_tokens), price)
        if left < 0:
            return 0.0
        rate = compute_cost(Usage(prompt_tokens, 1_000_000), price) - compute_cost(
            Usage(prompt_tokens), price
        )
        return left / rate * 1e6 if rate else inf

    def refuse(self, why: str, ask: Generate | Question | Say | Skill, message: str) -> Unavailable:
        """On the exchange's account where replay, which has no door, could not tell it."""
        if why != "not_configured":
            self.note_outcome(why, ask, message)
        self._refusal_count += 1
        if self._refusal_count > self._exchange.max_calls:
            raise PlanClosed(why, ask.tier, message)
        return Unavailable(why, ask.tier, message)

    def note_outcome(self, outcome: str, ask: Generate | Question | Say | Skill, message: str) -> None:
        """Puts on the exchange's account how an ask ended for which no call was let out."""
        exchange = self._exchange
        call = Call(ask, ask.tier, "", "", FREE, started=exchange.elapsed(), prompt_tokens=0)
        call.outcome, call.message = outcome, message
        call.settle(exchange.elapsed(), None)
        exchange.calls.append(call)


class PlanClosed(Unavailable):
    """The plan went on asking after many refusals: the exchange ends."""
