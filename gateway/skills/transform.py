"""Transforms: rewrite request bodies sent to an upstream, and the texts of its answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import orjson

from gateway.upstreams.transport.transport import Broken, Response
from gateway.wire.shapes import Body

from .answer_rewriter import Rewritten, TextFilter

if TYPE_CHECKING:
    from gateway.upstreams.upstream import Upstream


class Unusable(Broken):
    """Raised when an answer must not be used although its server worked. `why` is a code of `Unavailable`."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(why, message, fresh=False)


class Transform(Protocol):
    """Rewrites the traffic of one exchange. Every body that the exchange sends passes `rewrite_request`."""

    def outgoing(self, upstream: "Upstream", body: Body) -> Body:
        """Return the body that this upstream receives. The given body is not modified. Raises Unavailable if
        the upstream must not receive it."""
        ...

    def incoming(self, upstream: "Upstream", *, json: bool) -> TextFilter | None:
        """Build the filter for one running text of an answer, or for a tool call's arguments if `json`. None:
        the text stays as it is."""
        ...


def leaving(transforms: Sequence[Transform], upstream: "Upstream", body: Body | bytes) -> bytes:
    """Apply all transforms to a body and encode it as JSON bytes. Raises Unavailable."""
    if transforms:
        body = orjson.loads(body) if isinstance(body, bytes) else body
        for transform in transforms:
            body = transform.outgoing(upstream, body)
    return body if isinstance(body, bytes) else orjson.dumps(body)


def arriving(transforms: Sequence[Transform], upstream: "Upstream", response: Response) -> Response:
    """Wrap an upstream's response so that the transforms rewrite its texts, the last transform first."""

    def filters(json: bool) -> list[TextFilter]:
        found = [transform.incoming(upstream, json=json) for transform in reversed(transforms)]
        return [one for one in found if one is not None]

    return Rewritten(response, filters) if transforms and (filters(False) or filters(True)) else response
