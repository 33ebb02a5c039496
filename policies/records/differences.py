"""Compares a replay with the record that it replays."""

from routers.plan import Speculation

from .outcomes import ReplayResult
from .schema import Record, SpeculationLine


def find_differences(replayed: ReplayResult) -> list[str]:
    """Return a sentence for each value in which a replay differs from its record.

    Compared are the verdict, reason, confidence, stopping token and cost of every call, the answer, the total cost,
    and how the exchange ended. Numbers must be equal exactly."""
    exchange = replayed.record.exchange
    pairs: list[tuple[str, object, object]] = [("calls", len(exchange.calls), len(replayed.calls))]
    for number, call in enumerate(replayed.calls, 1):
        line = call.line
        watched = line.tokens is not None
        pairs += [
            (f"call {number} verdict", line.verdict, call.verdict),
            (f"call {number} reason", line.reason, call.reason),
            (f"call {number} confidence", line.confidence, call.confidence),
            (f"call {number} kept", line.kept, call.kept),
            (
                f"call {number} stopping token",
                len(line.tokens.ids) if line.tokens else None,
                call.stopped_at if watched else None,
            ),
            (f"call {number} cost", line.cost_usd, call.cost_usd),
        ]
    answer = replayed.answer
    recorded = exchange.answer
    pairs += [
        ("route", recorded.route if recorded else None, answer.route if answer else None),
        ("answer's reason", recorded.reason if recorded else None, answer.reason if answer else None),
        (
            "answer's confidence",
            recorded.confidence if recorded else None,
            answer.confidence if answer else None,
        ),
        ("speculation", _to_speculation(exchange.speculation), answer.speculation if answer else None),
        ("uncalibrated", exchange.uncalibrated, _is_uncalibrated(replayed.record)),
        ("cost", exchange.cost_usd, replayed.cost_usd),
        ("cancelled", exchange.cancelled and recorded is None, replayed.cancelled),
        ("missing", None, replayed.missing),
        ("ends in an error", exchange.error is not None and recorded is None, replayed.error is not None),
    ]
    return [
        f"{name}: recorded {before!r}, replayed {after!r}" for name, before, after in pairs if before != after
    ]


def _is_uncalibrated(record: Record) -> bool:
    return record.policy.is_uncalibrated(record.exchange.request.to_request())


def _to_speculation(line: SpeculationLine | None) -> Speculation | None:
    return None if line is None else Speculation(line.blocks, line.drafted, line.accepted)
