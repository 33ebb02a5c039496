"""Posts JSON to pages of a server beside its endpoints, without retries or a limit on concurrent calls."""

import orjson

from gateway.wire.body_types import Body

from .malformed import parsing
from .reported_error import find_reported_error
from .transport import Garbage, Transport, quote


async def post_page(transport: Transport, url: str, body: Body, timeout_s: float) -> Body:
    """Return the JSON object that the page answers. Raises TransportError, and Garbage for any other answer.

    An error inside a successful response is another answer too.
    """
    response = await transport.post(url, orjson.dumps(body), timeout_s)
    try:
        raw = await response.read()
    finally:
        response.close()
    if response.status >= 300:
        raise Garbage(f"{url} answered {response.status}: {quote(raw)}")
    with parsing(f"what {url} gives"):
        answer: Body = dict(orjson.loads(raw))
    if find_reported_error(answer) is not None:
        raise Garbage(f"{url} answered an error: {quote(raw)}")
    return answer
