"""What a gateway costs per request, all rows in one interleaved run.

`python -m benchmarks.overhead.run --rounds 7 --json overhead.json`
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import uvloop

from benchmarks.overhead import measure, report, targets
from benchmarks.overhead.process import free_ports

TOKENS = 100
PACE_MS = 2.0
_SETTINGS = ("rounds", "requests", "streams", "paced_streams", "seed")
ROWS = [targets.DIRECT, targets.NGINX, targets.BARE, targets.SMALLFIRST_DIRECT, targets.SMALLFIRST_CASCADE]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--requests",
        type=int,
        default=2000,
        help="plain requests of a row in a round; the cascade's are a tenth",
    )
    parser.add_argument("--streams", type=int, default=200, help="saturated streams of a row in a round")
    parser.add_argument("--paced-streams", type=int, default=100, help="paced streams of a row in a round")
    parser.add_argument("--only", default="", help=f"rows, comma-separated: {', '.join(ROWS)}")
    parser.add_argument("--without-smallfirst", action="store_true", help="leave out its two rows")
    parser.add_argument("--seed", type=int, default=1, help="of the order of rows within a round")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed")
    args = parser.parse_args()
    wanted = [name.strip().replace("-", " ") for name in args.only.split(",") if name.strip()]
    unknown = set(wanted) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    args.rows = [row for row in ROWS if not wanted or row in wanted]
    return args


def _rows(args: argparse.Namespace) -> list[str]:
    """The rows that can run here; says which cannot."""
    rows: list[str] = args.rows
    if args.without_smallfirst:
        rows = [row for row in rows if not row.startswith("smallfirst")]
    why = targets.why_not_nginx()
    if why and targets.NGINX in rows:
        _note(f"skipped: nginx ({why})")
        rows = [row for row in rows if row != targets.NGINX]
    return rows


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _git(*command: str) -> str | None:
    done = subprocess.run(["git", *command], cwd=targets.ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return platform.machine()


def _about() -> dict[str, object]:
    """When, what and on which CPU."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("uvicorn", "aiohttp", "uvloop", "httptools")},
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
    }


def _run(args: argparse.Namespace, rows: list[str]) -> list[measure.Sample]:
    """Start everything, measure, stop everything."""
    ports = free_ports(8)
    with tempfile.TemporaryDirectory(prefix="overhead-") as temporary:
        dirs = [Path(temporary, name) for name in ("fast", "paced")]
        fast, paced = (
            targets.Site(place, pace_ms, TOKENS, port)
            for place, pace_ms, port in zip(dirs, (0.0, PACE_MS), ports[:2], strict=True)
        )
        scenarios = [
            measure.Scenario(report.PLAIN, fast, args.requests, 8, stream=False, saturated=True),
            measure.Scenario(report.SATURATED, fast, args.streams, 8, stream=True, saturated=True),
            measure.Scenario(report.PACED, paced, args.paced_streams, 10, stream=True, saturated=False),
        ]
        try:
            for site, some in ((fast, ports[2:5]), (paced, ports[5:8])):
                site.dir.mkdir()
                targets.start_rows(site, rows, some)
            return uvloop.run(measure.measure(scenarios, rows, args.rounds, args.seed, _note))
        finally:
            fast.stop()
            paced.stop()


def main() -> None:
    args = _arguments()
    rows, about = _rows(args), _about()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    samples = _run(args, rows)
    lines = []
    for scenario in (report.PLAIN, report.SATURATED, report.PACED):
        some = [report.line(samples, scenario, row, TOKENS) for row in rows]
        print(f"\n### {scenario}\n\n{report.table(some)}")
        lines += some
    bars, odd = report.bars(lines), [one.odd for one in lines if one.odd]
    print("\n### bars\n\n" + "\n".join(bar.line() for bar in bars))
    for text in odd:
        print(f"- odd: {text}")
    if args.json:
        found = {
            "about": about,
            "settings": {key: getattr(args, key) for key in _SETTINGS} | {"rows": rows},
            "lines": report.by_name(lines),
            "bars": [{**asdict(bar), "passed": bar.passed} for bar in bars],
            "odd": odd,
        }
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    if args.check and not (all(bar.passed for bar in bars) and not odd):
        sys.exit(1)


if __name__ == "__main__":
    main()
