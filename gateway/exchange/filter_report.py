"""Reports what a filter of retrieved passages did, from the calls that judged them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from routers.fragments.passage_filter import PassageFilter
from routers.plan import Judge

if TYPE_CHECKING:
    from .call import Call


def report_filter(
    calls: "Sequence[Call]", passage_filter: PassageFilter, count: int, shown: Sequence[int] | None
) -> dict[str, Any]:
    """Return a report on a filter of `count` passages; `shown` are the places of those it kept.

    The report has the number of passages and of those kept, their `order`, the places of those `dropped`, each
    passage's calibrated P(relevant) as `p`, and the kind of judgement as `by`. If `shown` is None, nothing was judged,
    and the report has `why` instead. Places count from 0.
    """
    judgements = [
        (call, call.ask) for call in calls if isinstance(call.ask, Judge) and call.ask.passage is not None
    ]
    if shown is None:
        why = judgements[-1][0].outcome if judgements else "not_configured"
        return {"passages": count, "kept": count, "why": why}
    last = judgements[-1][1]
    probabilities = [call.judged.p for call, _ in judgements if call.judged is not None]
    return {
        "passages": count,
        "kept": len(shown),
        "by": "verdict" if last.labels else "likelihood",
        "order": list(shown),
        "dropped": sorted(set(range(count)) - set(shown)),
        "p": [
            float(f"{relevance:.4g}")
            for relevance in passage_filter.calibrate(
                [p[(*last.labels, "request")[0]] for p in probabilities]
            )
        ],
    }
