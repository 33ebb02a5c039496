"""Child processes: start, wait until they answer, read their CPU time and memory, stop."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CPUCLOCK_SCHED = 2
_READY_TIMEOUT = 60.0
_STOP_TIMEOUT = 15.0


def free_ports(count: int) -> list[int]:
    """`count` different loopback ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


def answers(port: int, method: str, path: str, body: bytes | None = None) -> bool:
    """Whether one request gets a 200."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body, {"content-type": "application/json"} if body else {})
        response = connection.getresponse()
        response.read()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return response.status == 200


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: [0] is the state, [1] the parent."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """A process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def _cpu(pid: int) -> float:
    """Seconds of one process with all its threads, and of its children that have ended.

    The process's own CPU clock counts nanoseconds; /proc/PID/stat counts the same in ticks of 10 ms.
    The clock's number is the one that clock_getcpuclockid(3) gives.
    """
    fields = _stat(pid)
    ended = (int(fields[13]) + int(fields[14])) * _TICK
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED) + ended


@dataclass
class Child:
    """A running child process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def cpu(self) -> float:
        """CPU seconds of the process tree so far."""
        total = _cpu(self.process.pid)
        for pid in tree(self.process.pid)[1:]:
            with suppress(OSError):
                total += _cpu(pid)
        return total

    def rss(self) -> int:
        """Resident bytes of the process tree."""
        pages = 0
        for pid in tree(self.process.pid):
            with suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * _PAGE

    def wait_ready(self, ready: Callable[[], bool]) -> None:
        """Poll until it answers; show its log when it does not."""
        deadline = time.monotonic() + _READY_TIMEOUT
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{self.name} did not become ready (exit {self.process.poll()}):\n{tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ask it to end, then end what is left of its tree."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            rest = tree(self.process.pid)[1:]
            self.process.kill()
            self.process.wait()
            for pid in rest:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)


def start(name: str, command: Sequence[str], cwd: Path, log: Path, env: dict[str, str]) -> Child:
    """Start a child process that logs to a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    return Child(name, process, log)
