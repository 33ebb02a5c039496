"""The key `records` of smallfirst.yaml."""

from pathlib import Path

from routers.strict import Count, Strict


class Records(Strict):
    """What exchanges leave behind for tuning."""

    path: Path | None = None
    """A folder; no records are kept where absent."""
    content: bool = False
    """Whether requests' bodies, the answers that were served and followed drafts' texts are recorded too; of private
    exchanges they never are."""
    queue: Count = 10_000
    """Records that may wait for the disk; further ones are dropped and counted."""
