"""The policies that come with the gateway -> a table; who should use each is the comment that its file begins with."""

from pathlib import Path

from policies.loading.layers import BUILT_IN, list_policy_files
from policies.loading.loader import load_policy
from tools.docs.table import code, table


def built_in_table() -> str:
    rows = []
    for path in list_policy_files(BUILT_IN):
        policy = load_policy(path)
        rows.append([code(policy.name), code(policy.kind), comment(path)])
    return table(["policy", "strategy", "who should use it, and what it does"], rows)


def comment(path: Path) -> str:
    """What a policy's file says before its first key."""
    lines = path.read_text(encoding="utf-8").splitlines()
    first = next(place for place, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(line.removeprefix("#").strip() for line in lines[:first])
