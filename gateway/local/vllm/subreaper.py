"""Runs vLLM's server and kills every process that the server has started, once it or the gateway ends.

This file is run by its path in vLLM's own Python and configured by a line on standard input. It imports only
the standard library, since the gateway's packages are not installed there. vLLM's engine and workers rename
themselves and survive a killed server; they do not survive this process or the gateway. vLLM gets its own
folder for temporary files, which is removed at the end.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import Any

POLL_INTERVAL_S = 0.2
"""Seconds between two checks that the server and the gateway are alive."""
SET_CHILD_SUBREAPER = 36
"""Option of Linux's prctl: orphaned descendants of this process become its children."""


def build_scratch_environment(scratch: str) -> dict[str, str]:
    """Return the variables that direct vLLM's temporary files to the folder `scratch`."""
    # Keep the cache of compiled kernels outside the scratch folder: compiling again takes long.
    compile_cache = os.path.join(tempfile.gettempdir(), f"torchinductor_{os.getuid()}")
    return {
        "TMPDIR": scratch,
        "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", compile_cache),
    }


def start_server(config: dict[str, Any], scratch: str) -> "subprocess.Popen[bytes]":
    """Start the server. Its key is in its environment, which only its owner may read, and in no argument."""
    # Our variables come last: a process whose first variable is set anew cannot rename itself, as vLLM's do.
    environment = {
        **os.environ,
        **build_scratch_environment(scratch),
        **config["environment"],
        "VLLM_API_KEY": config["key"],
    }
    return subprocess.Popen(
        [sys.executable, "-m", *config["command"]], stdin=subprocess.DEVNULL, env=environment
    )


def start_guard(patience: float, scratch: str) -> None:
    """Start a shell that kills this process group `patience` seconds after the gateway's pipe closes, in case
    this process and the gateway were both killed. The shell inherits the pipe and dies with the group."""
    script = 'read -r _; sleep "$1"; rm -rf -- "$2"; kill -KILL 0'
    subprocess.Popen(["/bin/sh", "-c", script, "guard", str(patience), scratch])


def wait_for_end(server: "subprocess.Popen[bytes]") -> None:
    """Wait until the server exits, SIGTERM arrives, or the gateway closes the pipe."""
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    while server.poll() is None and not signals:
        if select.select([0], [], [], POLL_INTERVAL_S)[0] and not os.read(0, 1):
            return


def stop_server(server: "subprocess.Popen[bytes]", patience: float) -> int:
    """Stop the server by SIGINT, wait up to `patience` seconds, kill the rest, and return the server's exit
    code."""
    if server.poll() is None:
        server.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            server.wait(patience)
    code = server.poll()
    kill_children()
    return -signal.SIGKILL if code is None else code


def kill_children() -> None:
    """Kill all descendants: the orphans of a killed child become children of this process."""
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
            for child in children.read().split():
                os.kill(int(child), signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def main() -> None:
    config = json.loads(sys.stdin.buffer.readline())
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # A socket's path has at most 107 bytes, and vLLM's socket names have 36.
    with tempfile.TemporaryDirectory(prefix="vllm-", ignore_cleanup_errors=True) as scratch:
        start_guard(config["patience"], scratch)
        server = start_server(config, scratch)
        wait_for_end(server)
        code = stop_server(server, config["patience"])
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
