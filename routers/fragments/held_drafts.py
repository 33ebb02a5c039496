"""A performer of a plan's asks that holds every draft to its end."""

from routers.plan import (
    Ask,
    Both,
    Draft,
    Fragment,
    Generate,
    Outcome,
    Raced,
    Reason,
    Say,
    TokenLike,
    Unavailable,
    Verdict,
    Watch,
    WatchFactory,
)
from routers.plan_run import Perform
from routers.watch import ObservingWatch

from .fallback import fallback_reason


def run_leg(ask: Generate, perform: Perform) -> Fragment[Draft | Unavailable]:
    """Perform one leg of a race. Returns Unavailable instead of raising it."""
    try:
        outcome = yield from perform(ask)
    except Unavailable as failure:
        return failure
    assert isinstance(outcome, Draft)  # noqa: S101  every driver answers an ask in kind
    return outcome


def hold(ask: Ask) -> Fragment[Outcome]:
    """Perform an ask without releasing any text before the plan ends.

    The draft's verdict is COMMIT if the ask's own watch would have committed its end. Raises Unavailable.
    """
    if isinstance(ask, Both):
        return (yield from _run_in_turn(ask))
    if isinstance(ask, Say):
        raise Unavailable("incapable", ask.tier, "an answer that is held to its end is not said in parts")
    if not isinstance(ask, Generate):
        return (yield ask)
    watch_factory = _HoldingWatchFactory(ask.watch or ObservingWatch)
    outcome = yield ask._replace(watch=watch_factory, logprobs=ask.watch is not None and ask.logprobs)
    assert isinstance(outcome, Draft)  # noqa: S101  every driver answers an ask in kind
    return outcome._replace(verdict=Verdict.COMMIT) if watch_factory.accepted else outcome


def _run_in_turn(both: Both) -> Fragment[Raced]:
    """Run the second leg only if the first is not accepted: a race without early commits has no winner."""
    a = yield from run_leg(both.a, hold)
    if isinstance(a, Draft) and a.verdict is Verdict.COMMIT:
        return Raced(a, Draft(both.b.tier, verdict=Verdict.CONTINUE))
    because = fallback_reason(a) if isinstance(a, Unavailable) else a.reason or both.b.because
    return Raced(a, (yield from run_leg(both.b._replace(because=because), hold)))


class _HoldingWatchFactory:
    """A watch factory that wraps each of the plan's watches in a `HoldingWatch`."""

    def __init__(self, make_watch: WatchFactory) -> None:
        self._make_watch = make_watch
        self._latest: HoldingWatch | None = None

    def __call__(self) -> Watch:
        self._latest = HoldingWatch(self._make_watch())
        return self._latest

    @property
    def accepted(self) -> bool:
        return self._latest is not None and self._latest.accepted


class HoldingWatch:
    """Wraps another watch and holds what that one would commit.

    `accepted` is true if the other watch committed the draft's end.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.reason: Reason | None = None
        self.confidence: float | None = None
        self.accepted = False

    def token(self, token: TokenLike) -> Verdict:
        return self._hold(self._watch.token(token))

    def end(self, finish: str | None, flaw: Reason | None = None) -> Verdict:
        verdict = self._watch.end(finish, flaw)
        self.accepted = verdict is Verdict.COMMIT
        return self._hold(verdict)

    def _hold(self, verdict: Verdict) -> Verdict:
        self.reason, self.confidence = self._watch.reason, self._watch.confidence
        return Verdict.CONTINUE if verdict is Verdict.COMMIT else verdict
