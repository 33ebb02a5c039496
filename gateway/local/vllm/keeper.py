"""vLLM's server and every process it starts, kept by one: run by path in vLLM's own Python, configured by a line on
standard input.

Nothing but the standard library is imported here, for the gateway's packages are not where vLLM is. vLLM's engine
and workers rename themselves and outlive a server that is killed; they do not outlive this process, nor the gateway.
Nor do the sockets and files that vLLM leaves where temporary files are: it is given a folder of its own for them.
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

LOOK = 0.2
"""Seconds between two looks at whether the server runs and the gateway lives."""
SET_CHILD_SUBREAPER = 36
"""Of Linux's prctl: orphans among what this process has started become its children."""


def apart(scratch: str) -> dict[str, str]:
    """Variables by which what vLLM leaves among temporary files lies in a folder of its own."""
    # What torch has compiled would lie there too, and takes long to compile again.
    compiled = os.path.join(tempfile.gettempdir(), f"torchinductor_{os.getuid()}")
    return {"TMPDIR": scratch, "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", compiled)}


def start(config: dict[str, Any], scratch: str) -> "subprocess.Popen[bytes]":
    """The server. Its key stands in its environment, which only its owner may read, and in no argument."""
    # Ours stand last: a process that sets its first variable anew can't rename itself any more, as vLLM's do.
    environment = {**os.environ, **apart(scratch), **config["environment"], "VLLM_API_KEY": config["key"]}
    return subprocess.Popen(
        [sys.executable, "-m", *config["command"]], stdin=subprocess.DEVNULL, env=environment
    )


def guard(patience: float, scratch: str) -> None:
    """Ends this process group where both this process and the gateway were killed: by then nobody else is left
    who knows of vLLM's processes. It holds the gateway's pipe too, and dies with the group it ends."""
    ending = 'read -r _; sleep "$1"; rm -rf -- "$2"; kill -KILL 0'
    subprocess.Popen(["/bin/sh", "-c", ending, "guard", str(patience), scratch])


def wait(server: "subprocess.Popen[bytes]") -> None:
    """Until the server has ended, or it is time to end it: told so, or the gateway is gone."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    while server.poll() is None and not told:
        if select.select([0], [], [], LOOK)[0] and not os.read(0, 1):
            return


def end(server: "subprocess.Popen[bytes]", patience: float) -> int:
    """Ends the server in its own way, then whatever is left; the server's exit code."""
    if server.poll() is None:
        server.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            server.wait(patience)
    code = server.poll()
    end_rest()
    return -signal.SIGKILL if code is None else code


def end_rest() -> None:
    """Kills the children, which by and by are all that is left of those below them too."""
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
    # A socket's path may have 107 letters, and vLLM's names have 36.
    with tempfile.TemporaryDirectory(prefix="vllm-", ignore_cleanup_errors=True) as scratch:
        guard(config["patience"], scratch)
        server = start(config, scratch)
        wait(server)
        code = end(server, config["patience"])
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
