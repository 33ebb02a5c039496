"""The one door: every upstream call of an exchange leaves through here, whoever asked for it.

It checks whether the tier is there at all, then, in this order: privacy (may a cloud see this?) and the ceilings
(calls, tokens, dollars, time). The breaker is the upstream's own, on its way out.
"""

from collections.abc import Mapping
from math import inf

from gateway.exchange.exchange import Call, Exchange
from gateway.upstreams.pool import Pool
from gateway.upstreams.upstream import Upstream
from gateway.wire.requirements import Needs
from routers.cost import FREE, Price, cost
from routers.plan import Generate, Question, Say, Skill, Tier, Unavailable, Usage


class Door:
    """Of one exchange."""

    def __init__(self, pools: Mapping[Tier, Pool], exchange: Exchange) -> None:
        self._pools = pools
        self._exchange = exchange
        self._passed = 0
        self._refusals = 0
        self.expired = False
        """Whether the exchange's time is over."""

    def candidates(self, ask: Generate | Question | Skill, needs: Needs) -> tuple[Pool, list[Upstream]]:
        """The tier's upstreams that the exchange may be shown to. Raises Unavailable; and Closed for a plan that
        does not take no for an answer."""
        pool = self._pools.get(ask.tier)
        if pool is None:
            raise self.refused("not_configured", ask, f"no {ask.tier} is configured")
        if self._exchange.private:
            if pool.at_home is None:
                names = ", ".join(upstream.name for upstream in pool.upstreams)
                raise self.refused(
                    "private", ask, f"this request is private, and no cloud may see it ({names})"
                )
            pool = pool.at_home
        return pool, pool.fit(needs)

    def allowance(
        self, ask: Generate | Question | Skill, price: Price, prompt_tokens: int, share: float = 1.0
    ) -> int | None:
        """Leave for one call, to write at most so many tokens in each of its choices; None: as many as the request
        says. `share` of what the ceilings leave is for this call, the rest for one beside it. Raises as
        `candidates`."""
        ceilings = self._exchange.policy.ceilings
        counts = not isinstance(ask, Skill)  # what prepares a call is none of the plan's
        if counts and self._passed >= (most := self._exchange.most_calls):
            raise self.refused("ceiling", ask, f"more than {most} upstream calls")
        self.check_time(ask)
        left = inf
        if ceilings.tokens is not None or ceilings.usd is not None:
            left = share * min(self._tokens_left(), self._tokens_for_money(price, prompt_tokens))
            left /= self._exchange.choices(ask)
        if left < 1:
            raise self.refused("ceiling", ask, "the tokens or dollars of this exchange are spent")
        self._passed += counts
        return int(left) if left < inf else None

    def check_time(self, ask: Generate | Question | Say | Skill) -> None:
        """Raises Unavailable once the exchange's time is over."""
        if self.expired:
            seconds = self._exchange.policy.ceilings.seconds
            raise self.refused("ceiling", ask, f"the {seconds:g} s of this exchange are over")

    def _tokens_left(self) -> float:
        most = self._exchange.policy.ceilings.tokens
        if most is None:
            return inf
        return most - sum(call.written for call in self._exchange.calls)

    def _tokens_for_money(self, price: Price, prompt_tokens: int) -> float:
        """Completion tokens that the dollars left pay for, after the prompt, whose length is an estimate."""
        most = self._exchange.policy.ceilings.usd
        if most is None:
            return inf
        spent = sum(call.spent for call in self._exchange.calls)
        left = most - spent - cost(Usage(prompt_tokens), price)
        if left < 0:
            return 0.0
        rate = cost(Usage(prompt_tokens, 1_000_000), price) - cost(Usage(prompt_tokens), price)
        return left / rate * 1e6 if rate else inf

    def refused(self, why: str, ask: Generate | Question | Say | Skill, message: str) -> Unavailable:
        """On the exchange's account where replay, which has no door, could not tell it."""
        if why != "not_configured":
            self.note(why, ask, message)
        self._refusals += 1
        if self._refusals > self._exchange.most_calls:
            raise Closed(why, ask.tier, message)
        return Unavailable(why, ask.tier, message)

    def note(self, outcome: str, ask: Generate | Question | Say | Skill, message: str) -> None:
        """Puts on the exchange's account how an ask ended for which no call was let out."""
        exchange = self._exchange
        call = Call(ask, ask.tier, "", "", FREE, started=exchange.elapsed(), prompt_tokens=0)
        call.outcome, call.message = outcome, message
        call.settle(exchange.elapsed(), None)
        exchange.calls.append(call)


class Closed(Unavailable):
    """The plan went on asking after many refusals: the exchange ends."""
