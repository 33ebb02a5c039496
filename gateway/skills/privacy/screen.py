"""Applies a policy's `private` section: scans requests, and decides what may leave to a cloud."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from gateway.skills.answer_rewriter import TextFilter
from gateway.wire.body_types import Body
from policies.schema.private import Private
from routers.plan import Unavailable

from .body_scan import BodyScan
from .detection import MAX_SCAN_S, ScanTimeout, get_detector
from .redaction import PlaceholderRestorer, Vault, redact_text

if TYPE_CHECKING:
    from gateway.upstreams.upstream import Upstream

THREAD_BYTES = 32_768
"""Bytes of a body from which it is scanned in a thread, so that other requests continue."""


class PrivacyScreen:
    """The privacy transform of one exchange. Equal values get the same placeholder in everything that
    leaves."""

    def __init__(self, private: Private) -> None:
        self.private = private
        self.account: dict[str, Any] = {"action": private.action, "found": 0}
        """For the exchange's account: the number of values found, and of which entities."""
        self.must_stay_local = False
        """Whether no cloud may see the request."""
        self.description = ""
        """What was found where in the request, without quoting any of it."""
        self.places: list[str] = []
        self._detector = get_detector(private)
        self._vault = Vault()
        self._cache: dict[str, tuple[str, frozenset[str]]] = {}
        self._deadline: float | None = None
        self._timed_out = False
        self._expects_json = False

    async def scan(self, body: Body, size: int) -> None:
        """Scan a request of `size` bytes, before anything of it leaves."""
        if size < THREAD_BYTES:
            self.scan_now(body)
        else:
            await asyncio.to_thread(self.scan_now, body)

    def scan_now(self, body: Body) -> None:
        """Scan a request at once, on the calling thread."""
        scan = self.scan_body(body)
        self.must_stay_local, self.description, self.places = (
            scan.must_stay_local,
            scan.describe(),
            [*scan.entities_by_path],
        )

    def scan_body(self, body: Body) -> BodyScan:
        self._deadline = time.monotonic() + MAX_SCAN_S
        scan = BodyScan(self.private, body, self._redact)
        self._timed_out = self._timed_out or scan.timed_out
        counts = self._vault.counts
        self.account |= {"found": sum(counts.values()), "entities": dict(counts)}
        if scan.unscannable:
            self.account["unseen"] = len(scan.unscannable)
        return scan

    def rewrite_request(self, upstream: "Upstream", body: Body) -> Body:
        """Return the body for an upstream: unchanged for a local one, with placeholders for a cloud. Raises
        Unavailable if no cloud may see it."""
        if not upstream.is_cloud:
            return body
        scan = self.scan_body(body)
        if scan.must_stay_local:
            what = f"{upstream.name} is a cloud, and may not see what is private"
            raise Unavailable("private", upstream.tier, f"{what}: {scan.describe()}")
        self._expects_json = _expects_json_answer(body)
        return scan.body

    def build_answer_filter(self, upstream: "Upstream", *, json: bool) -> TextFilter | None:
        if not upstream.is_cloud or not self._vault.originals:
            return None
        return PlaceholderRestorer(self._vault.originals, quoted=json or self._expects_json)

    def redact_for_record(self, body: Body) -> Body | None:
        """Return the body with placeholders, for records. None if it must stay local."""
        scan = self.scan_body(body)
        return None if scan.must_stay_local else scan.body

    @property
    def private_values(self) -> tuple[str, ...]:
        """The private values found. Compression must not split them, since they would not be found again."""
        return tuple(sorted(self._vault.originals.values()))

    @property
    def has_findings(self) -> bool:
        """Whether anything was found."""
        return bool(self._vault.counts)

    def _redact(self, text: str) -> tuple[str, frozenset[str]]:
        if (cached := self._cache.get(text)) is not None:
            return cached
        if self._timed_out:
            raise ScanTimeout
        entities: set[str] = set()
        redacted_text = redact_text(
            text, lambda one: self._detector.find(one, self._deadline), self._vault, entities
        )
        self._cache[text] = cached = (redacted_text, frozenset(entities))
        return cached


def _expects_json_answer(body: Body) -> bool:
    """Whether the request asks for an answer in JSON."""
    wanted = body.get("response_format") or {}
    if isinstance(wanted, dict) and str(wanted.get("type", "")).startswith("json"):
        return True
    wanted = body.get("structured_outputs") or {}
    return isinstance(wanted, dict) and ("json" in wanted or "json_object" in wanted)
