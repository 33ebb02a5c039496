"""What a filter of retrieved passages did, told from the account of its judgements."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from routers.fragments.passage_filter import PassageFilter
from routers.plan import Judge

if TYPE_CHECKING:
    from .call import Call


def report_filter(
    calls: "Sequence[Call]", chosen: PassageFilter, count: int, shown: Sequence[int] | None
) -> dict[str, Any]:
    """Of `count` passages, those at `shown` (None: all, as given): how many are kept, in which `order`, the places of
    those `dropped`, and each one's P(relevant), `p`, as the bar is held against it, and `by` what it was judged;
    without a judgement, `why` there is none. Places count from 0."""
    judged = [
        (call, call.ask) for call in calls if isinstance(call.ask, Judge) and call.ask.passage is not None
    ]
    if shown is None:
        why = judged[-1][0].outcome if judged else "not_configured"
        return {"passages": count, "kept": count, "why": why}
    last = judged[-1][1]
    found = [call.judged.p for call, _ in judged if call.judged is not None]
    return {
        "passages": count,
        "kept": len(shown),
        "by": "verdict" if last.labels else "likelihood",
        "order": list(shown),
        "dropped": sorted(set(range(count)) - set(shown)),
        "p": [
            float(f"{one:.4g}") for one in chosen.calibrate([p[(*last.labels, "request")[0]] for p in found])
        ],
    }
