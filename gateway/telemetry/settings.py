"""Settings: the key `records` of smallfirst.yaml."""

from pathlib import Path

from routers.config_models import Count, Strict


class RecordSettings(Strict):
    """Settings of the records that exchanges leave behind for tuning."""

    path: Path | None = None
    """A folder for records; without it none are kept."""
    content: bool = False
    """Whether records include request bodies, served answers and the texts of followed drafts. Those of
    private exchanges are never recorded."""
    queue: Count = 10_000
    """Maximum number of records that wait for the disk; further ones are dropped and counted."""
