"""Runs a router's own plan over a record, so that tuning evaluates the code that runs live.

Replay answers the plan's asks from the record's calls instead of from models. It never guesses. If the record has no
outcome for an ask, the replay ends there and names the ask as missing: an accepted draft has no LLM answer, and a draft
that was given up early has no later tokens.
"""

from collections.abc import Callable, Sequence
from math import inf

from routers.plan import (
    Answer,
    Ask,
    Both,
    Draft,
    Generate,
    Judge,
    Judged,
    Missing,
    Outcome,
    Plan,
    Question,
    Raced,
    Reason,
    Said,
    Say,
    Score,
    Scored,
    Tier,
    Token,
    TokenLike,
    Unavailable,
    Verdict,
    Watch,
)
from routers.plan_run import PlanRun
from routers.router import Router

from .outcomes import RaceLeg, ReplayedCall, ReplayResult, build_draft, to_replayed_call, to_usage
from .schema import CallLine, ExchangeLine, Record, RecordError

UNKNOWN_TEXT = "..."
"""The text of an outcome that nobody reads."""


INTERRUPTED = ("cancelled", "shutdown")
"""Outcomes of calls that ended because their exchange was ended from outside."""


class Interrupted(Exception):
    """The exchange was ended from outside at this point of the record: its client left, or the gateway stopped."""


def replay(record: Record, router: Router | None = None) -> ReplayResult:
    """Replay one exchange under its own policy, or under that policy with another router.

    A conversation that stayed with the large model still does. Raises RecordError if the router reads features of the
    prompt and the record has none, or if the record's values make no sense to the plan."""
    exchange = record.exchange
    result = ReplayResult(record)
    if exchange.aside is not None:
        result.calls, result.error = [to_replayed_call(line) for line in exchange.calls], exchange.error
        result.cancelled = exchange.cancelled
        return result
    request = exchange.request.to_request()
    policy = record.policy if router is None else record.policy.model_copy(update={"router": router})
    if policy.router.reads_features and not request.features:
        raise RecordError(
            f"exchange {exchange.id}: its record has no features of the prompt, which this router reads"
        )
    try:
        result.answer = _drive(policy.plan(request), _Performer(exchange, result.calls))
    except Missing as missing:
        result.missing = missing.ask
    except Interrupted:
        result.cancelled, result.error = exchange.error is None, exchange.error
    except Unavailable as failure:
        result.error = failure.why
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise RecordError(f"exchange {exchange.id} cannot be replayed: {what}") from error
    return result


def _call_key(line: CallLine) -> tuple[str, Tier, bool, Reason | None]:
    """Return what must be equal in a recorded call and an ask. Judgements also differ by why they were asked."""
    return line.ask, line.tier, line.resumed, line.because if line.ask == "judge" else None


def _drive(plan: Plan, perform: Callable[[Ask], Outcome]) -> Answer:
    """Run a plan to its answer. Raises whatever `perform` raises and the plan does not handle."""
    try:
        run = PlanRun(plan)
        while (ask := run.ask) is not None:
            try:
                outcome = perform(ask)
            except Unavailable as failure:
                run.tell(failure)
            else:
                run.tell(outcome)
        return run.result
    finally:
        plan.close()


class _Performer:
    """Answers asks from an exchange's recorded calls, each used once, in order."""

    def __init__(self, exchange: ExchangeLine, calls: list[ReplayedCall]) -> None:
        self._exchange = exchange
        self._unused = list(exchange.calls)
        self._calls = calls

    def __call__(self, ask: Ask) -> Outcome:
        if isinstance(ask, Both):
            return self._replay_race(ask)
        if isinstance(ask, Say):
            return self._replay_say(ask)
        call = self._take_call(ask)
        if isinstance(ask, Judge):
            return self._replay_judge(call)
        if isinstance(ask, Score):
            return self._replay_score(call)
        if ask.max_tokens != call.line.max_tokens:
            raise Missing(ask)  # it was written under another limit
        draft = self._replay_generate(ask, call)
        if call.is_censored:
            raise Missing(ask)
        return draft

    def _replay_say(self, ask: Say) -> Said:
        """Only a failure to say something is on record, right after what was to be said was scored."""
        if self._unused and self._unused[0].ask == "say":
            line = self._unused.pop(0)
            self._calls.append(ReplayedCall(line, cost_usd=line.cost_usd))
            if line.outcome in INTERRUPTED:
                raise Interrupted
            raise Unavailable(line.outcome, ask.tier)
        resumed = not self._unused or self._unused[0].resumed
        return Said(UNKNOWN_TEXT if resumed else "")

    def _take_call(self, ask: Generate | Question) -> ReplayedCall:
        """The next recorded call that answers the ask."""
        kind = type(ask).__name__.lower()
        resumed = isinstance(ask, Generate) and bool(ask.prefix)
        because = ask.because if isinstance(ask, Judge) else None
        line = self._take_line((kind, ask.tier, resumed, because))
        if line is None:
            if self._exchange.is_interrupted and (not self._exchange.calls or self._was_ended_at_skill()):
                raise Interrupted
            if ask.tier not in self._exchange.request.tiers:
                raise Unavailable("not_configured", ask.tier)
            raise Missing(ask)
        call = ReplayedCall(line)
        self._calls.append(call)
        return call

    def _take_line(self, key: tuple[str, Tier, bool, Reason | None]) -> CallLine | None:
        """Return the recorded call that answers an ask, or None.

        The calls before it that the plan did not see are taken too, since their costs count: failed attempts that
        another upstream repeated, parts of a judgement, and skills that prepared the call."""
        for line in [line for line in self._unused if _call_key(line) == key]:
            self._take_skills(self._unused.index(line))
            self._unused.remove(line)
            if not (line.retried or line.inner):
                return line
            stopped_at = len(line.tokens.ids) if line.tokens else None
            self._calls.append(ReplayedCall(line, stopped_at=stopped_at, cost_usd=line.cost_usd))
        return None

    def _take_skills(self, before: int) -> None:
        """Take the skills' calls among the next `before` calls."""
        for line in [line for line in self._unused[:before] if line.ask == "skill"]:
            self._unused.remove(line)
            self._calls.append(ReplayedCall(line, cost_usd=line.cost_usd))

    def _was_ended_at_skill(self) -> bool:
        """Return whether the exchange was ended while a skill prepared the next call, and take that skill's calls."""
        was_ended = bool(self._unused) and all(line.ask == "skill" for line in self._unused)
        self._take_skills(len(self._unused) if was_ended else 0)
        return was_ended

    def _replay_judge(self, call: ReplayedCall) -> Judged:
        if call.line.judged is None:
            raise self._to_failure(call)
        call.cost_usd = call.line.cost_usd
        return Judged(call.line.judged.p, call.line.judged.mass, to_usage(call.line))

    def _replay_score(self, call: ReplayedCall) -> Scored:
        line = call.line
        if line.scored is None:
            raise self._to_failure(call)
        call.cost_usd = line.cost_usd
        return line.scored.to_scored(to_usage(line), line.duration_s)

    def _replay_race(self, both: Both) -> Raced:
        """Replay both legs, and cancel the one that commits later."""
        legs: list[RaceLeg] = []
        failure: Exception | None = None
        for ask in (both.a, both.b):
            try:
                legs.append(self._replay_leg(ask))
            except Missing:
                failure = failure or Missing(both)
            except Interrupted as gone:
                failure = gone
        if failure is not None:
            raise failure
        first = min(legs, key=lambda leg: leg.commit_s)
        at = first.commit_s
        if any(leg.may_have_committed_by(at) for leg in legs):
            raise Missing(both)
        a, b = [leg.outcome if leg is first or at == inf else leg.outcome_at(at) for leg in legs]
        return Raced(a, b)

    def _replay_leg(self, ask: Generate) -> RaceLeg:
        """Replay one leg. Raises Interrupted, which ends the whole race, and Missing."""
        try:
            call = self._take_call(ask)
        except Unavailable as failure:
            return RaceLeg(failure)
        if call.line.because is not ask.because:
            raise Missing(ask)  # it was asked after the other leg, so its commit time in a race is unknown
        try:
            draft = self._replay_generate(ask, call)
        except Unavailable as failure:
            return RaceLeg(failure, call, call.first_commit_s() if failure.partial else inf, call.end_s())
        commits = draft.verdict is Verdict.COMMIT or draft.kept
        return RaceLeg(draft, call, call.first_commit_s() if commits else inf, call.end_s())

    def _replay_generate(self, ask: Generate, call: ReplayedCall) -> Draft:
        line = call.line
        if ask.watch is None:
            return self._replay_unwatched(ask, call)
        if line.tokens is None:
            if line.outcome == "ok":
                raise Missing(ask)  # no watch followed it, so its tokens are not recorded
            raise self._to_failure(call)
        return self._replay_watched(ask, ask.watch(), call, line.tokens.to_tokens())

    def _replay_unwatched(self, ask: Generate, call: ReplayedCall) -> Draft:
        line = call.line
        if line.outcome == "stopped":
            raise Missing(ask)
        if line.outcome == "outrun":
            call.cost_usd = line.cost_usd
            return Draft(line.tier, verdict=Verdict.CONTINUE)
        if line.outcome != "ok":
            raise self._to_failure(call)
        call.cost_usd = line.cost_usd
        return Draft(line.tier, finish=line.finish, usage=to_usage(line))

    def _replay_watched(self, ask: Generate, watch: Watch, call: ReplayedCall, tokens: list[Token]) -> Draft:
        """Feed the recorded tokens to the watch, and return the draft up to where the watch stops it."""
        line = call.line
        for count, token in enumerate(tokens, 1):
            verdict = watch.token(token)
            if verdict is Verdict.COMMIT:
                call.commit_at(count)
            if verdict is Verdict.GIVE_UP:
                call.conclude(watch, verdict)
                return build_draft(call, tokens[:count], None)
        if line.outcome == "outrun":
            return build_draft(call, tokens, None)
        if line.outcome == "stopped":
            raise Missing(ask)  # the record ends where a stricter watch gave up
        if line.outcome != "ok":
            call.stopped_at = len(tokens)
            raise self._to_failure(call, tokens, watch.confidence)
        verdict = watch.end(line.finish, line.flaw)
        if verdict is Verdict.COMMIT:
            call.kept = len(tokens)
        call.conclude(watch, verdict)
        return build_draft(call, tokens, line.finish)

    def _to_failure(
        self, call: ReplayedCall, tokens: Sequence[TokenLike] = (), confidence: float | None = None
    ) -> Exception:
        """Return the exception that a call without an outcome ended in: Interrupted or Unavailable."""
        line = call.line
        call.cost_usd = line.cost_usd
        if line.outcome in INTERRUPTED:
            return Interrupted()
        if not call.kept and not (line.begun and line.tokens is None):
            return Unavailable(line.outcome, line.tier)
        delivered = tokens[: call.kept]
        text = "".join([token.text for token in delivered])
        partial = Draft(line.tier, text, delivered, kept=call.kept, confidence=confidence)
        return Unavailable(line.outcome, line.tier, partial=partial)
