"""Applies a policy's `private` section: scans requests, and decides what may leave to a cloud."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from gateway.skills.answer_rewriter import TextFilter
from gateway.wire.shapes import Body
from policies.schema.private import Private
from routers.plan import Unavailable

from .body_scan import Looked
from .detection import PATIENCE, Undecided, detector
from .redaction import Restoring, Vault, redacted

if TYPE_CHECKING:
    from gateway.upstreams.upstream import Upstream

LARGE = 32_768
"""Bytes of a body from which it is scanned in a thread, so that other requests continue."""


class Privacy:
    """The privacy transform of one exchange. Equal values get the same placeholder in everything that
    leaves."""

    def __init__(self, private: Private) -> None:
        self.private = private
        self.told: dict[str, Any] = {"action": private.action, "found": 0}
        """For the exchange's account: the number of values found, and of which entities."""
        self.stays = False
        """Whether no cloud may see the request."""
        self.where = ""
        """What was found where in the request, without quoting any of it."""
        self.places: list[str] = []
        self._detector = detector(private)
        self._vault = Vault()
        self._known: dict[str, tuple[str, frozenset[str]]] = {}
        self._until: float | None = None
        self._exhausted = False
        self._answers_json = False

    async def look(self, body: Body, size: int) -> None:
        """Scan a request of `size` bytes, before anything of it leaves."""
        if size < LARGE:
            self.open(body)
        else:
            await asyncio.to_thread(self.open, body)

    def open(self, body: Body) -> None:
        """Scan a request at once, on the calling thread."""
        looked = self.looked(body)
        self.stays, self.where, self.places = looked.stays, looked.where(), [*looked.found]

    def looked(self, body: Body) -> Looked:
        self._until = time.monotonic() + PATIENCE
        looked = Looked(self.private, body, self._hidden)
        self._exhausted = self._exhausted or looked.undecided
        counts = self._vault.counts
        self.told |= {"found": sum(counts.values()), "entities": dict(counts)}
        if looked.unseen:
            self.told["unseen"] = len(looked.unseen)
        return looked

    def outgoing(self, upstream: "Upstream", body: Body) -> Body:
        """Return the body for an upstream: unchanged for a local one, with placeholders for a cloud. Raises
        Unavailable if no cloud may see it."""
        if not upstream.cloud:
            return body
        looked = self.looked(body)
        if looked.stays:
            what = f"{upstream.name} is a cloud, and may not see what is private"
            raise Unavailable("private", upstream.tier, f"{what}: {looked.where()}")
        self._answers_json = _asks_for_json(body)
        return looked.body

    def incoming(self, upstream: "Upstream", *, json: bool) -> TextFilter | None:
        if not upstream.cloud or not self._vault.originals:
            return None
        return Restoring(self._vault.originals, quoted=json or self._answers_json)

    def recorded(self, body: Body) -> Body | None:
        """Return the body with placeholders, for records. None if it must stay local."""
        looked = self.looked(body)
        return None if looked.stays else looked.body

    @property
    def values(self) -> tuple[str, ...]:
        """The private values found. Compression must not split them, since they would not be found again."""
        return tuple(sorted(self._vault.originals.values()))

    @property
    def hides(self) -> bool:
        """Whether anything was found."""
        return bool(self._vault.counts)

    def _hidden(self, text: str) -> tuple[str, frozenset[str]]:
        if (known := self._known.get(text)) is not None:
            return known
        if self._exhausted:
            raise Undecided
        told: set[str] = set()
        hidden = redacted(text, lambda one: self._detector.find(one, self._until), self._vault, told)
        self._known[text] = known = (hidden, frozenset(told))
        return known


def _asks_for_json(body: Body) -> bool:
    """Whether the request asks for an answer in JSON."""
    wanted = body.get("response_format") or {}
    if isinstance(wanted, dict) and str(wanted.get("type", "")).startswith("json"):
        return True
    wanted = body.get("structured_outputs") or {}
    return isinstance(wanted, dict) and ("json" in wanted or "json_object" in wanted)
