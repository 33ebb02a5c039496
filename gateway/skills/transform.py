"""What rewrites bodies on their way to an upstream, and the texts of its answers on their way back."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import orjson

from gateway.upstreams.transport.transport import Broken, Response
from gateway.wire.shapes import Body

from .answer_rewriter import Rewritten, TextFilter

if TYPE_CHECKING:
    from gateway.upstreams.upstream import Upstream


class Unusable(Broken):
    """An answer that may not be used, though its server did well. `why` is a code of `Unavailable`."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(why, message, fresh=False)


class Transform(Protocol):
    """Of one exchange: every body that it sends passes `outgoing`, whatever asked for it."""

    def outgoing(self, upstream: "Upstream", body: Body) -> Body:
        """The body as this upstream gets it; the given one stays as it is. Raises Unavailable for what may not go."""
        ...

    def incoming(self, upstream: "Upstream", *, json: bool) -> TextFilter | None:
        """For one running text of an answer, or, with `json`, for a tool call's arguments; None: it is left alone."""
        ...


def leaving(transforms: Sequence[Transform], upstream: "Upstream", body: Body | bytes) -> bytes:
    """A body's bytes as they leave to an upstream. Raises Unavailable."""
    if transforms:
        body = orjson.loads(body) if isinstance(body, bytes) else body
        for transform in transforms:
            body = transform.outgoing(upstream, body)
    return body if isinstance(body, bytes) else orjson.dumps(body)


def arriving(transforms: Sequence[Transform], upstream: "Upstream", response: Response) -> Response:
    """An upstream's answer as the exchange reads it: what left last is undone first."""

    def filters(json: bool) -> list[TextFilter]:
        found = [transform.incoming(upstream, json=json) for transform in reversed(transforms)]
        return [one for one in found if one is not None]

    return Rewritten(response, filters) if transforms and (filters(False) or filters(True)) else response
