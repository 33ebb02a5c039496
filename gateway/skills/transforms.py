"""Transforms: rewrite request bodies sent to an upstream, and the texts of its answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import orjson

from gateway.upstreams.transport.transport import Response, TransportError
from gateway.wire.body_types import Body
from gateway.wire.parsing.nesting import read_json

from .answer_rewriter import RewrittenResponse, TextFilter

if TYPE_CHECKING:
    from gateway.upstreams.upstream import Upstream


class UnusableAnswer(TransportError):
    """Raised when an answer must not be used although its server worked. `why` is a code of `Unavailable`."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(why, message, before_response=False)


class Transform(Protocol):
    """Rewrites the traffic of one exchange. Every body that the exchange sends passes `rewrite_request`."""

    def rewrite_request(self, upstream: "Upstream", body: Body) -> Body:
        """Return the body that this upstream receives. The given body is not modified. Raises Unavailable if
        the upstream must not receive it."""
        ...

    def build_answer_filter(self, upstream: "Upstream", *, json: bool) -> TextFilter | None:
        """Build the filter for one running text of an answer, or for a tool call's arguments if `json`. None:
        the text stays as it is."""
        ...


def encode_request(transforms: Sequence[Transform], upstream: "Upstream", body: Body | bytes) -> bytes:
    """Apply all transforms to a body and encode it as JSON bytes. Raises Unavailable."""
    if transforms:
        body = read_json(body) if isinstance(body, bytes) else body
        for transform in transforms:
            body = transform.rewrite_request(upstream, body)
    return body if isinstance(body, bytes) else orjson.dumps(body)


def wrap_response(transforms: Sequence[Transform], upstream: "Upstream", response: Response) -> Response:
    """Wrap an upstream's response so that the transforms rewrite its texts, the last transform first."""

    def build_filters(json: bool) -> list[TextFilter]:
        candidates = [
            transform.build_answer_filter(upstream, json=json) for transform in reversed(transforms)
        ]
        return [one for one in candidates if one is not None]

    return (
        RewrittenResponse(response, build_filters)
        if transforms and (build_filters(False) or build_filters(True))
        else response
    )
