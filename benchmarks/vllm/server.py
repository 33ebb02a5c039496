"""A real vLLM server on loopback, as a process group of its own."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.vllm.environment import python, server_environment
from gateway.local.vllm.subreaper import build_scratch_environment

PATIENCE = 400.0
"""Seconds until it is ready: thirty where nothing else runs, ten times as many where much does."""

OPTIONS = (
    "--host=127.0.0.1",
    "--enforce-eager",
    "--dtype=float32",
    "--max-model-len=2048",
    "--max-num-seqs=8",
)
"""Compilation takes minutes at every start, and 16-bit arithmetic is slower on most CPUs."""


class NotServing(Exception):
    """The text ends in the server's last words."""


@dataclass(frozen=True)
class Server:
    url: str
    """The base URL for an OpenAI client."""
    model: str
    process: subprocess.Popen[bytes]
    log: Path

    def metric(self, name: str) -> float:
        """The sum over a metric's series."""
        page = _get(f"{self.url.removesuffix('/v1')}/metrics").decode()
        lines = [line for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def kill(self) -> None:
        """All of its processes at once: those that the first one started would outlive it."""
        os.killpg(self.process.pid, signal.SIGKILL)


@contextmanager
def vllm(model: Path, *options: str, core: int | None = None) -> Iterator[Server]:
    """A warm server of a folder's model, under the folder's name. Two that share few cores each want a `core` of their
    own: threads that wait for another's turn would take that one's time. Raises NotServing."""
    with tempfile.TemporaryDirectory() as scratch, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        log = Path(scratch) / "log"
        command = [str(python()), "-m", "vllm.entrypoints.openai.api_server", f"--model={model}"]
        command += [f"--served-model-name={model.name}", f"--port={port}", *OPTIONS, *options]
        bound = {} if core is None else {"VLLM_CPU_OMP_THREADS_BIND": str(core % (os.cpu_count() or 1))}
        with log.open("wb") as written:
            process = subprocess.Popen(
                command,
                stdout=written,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=server_environment() | build_scratch_environment(scratch) | bound,
                cwd=scratch,
                start_new_session=True,
            )
        server = Server(f"http://127.0.0.1:{port}/v1", model.name, process, log)
        try:
            _wait(server)
            _warm(server)
            yield server
        finally:
            _end(server)


def _wait(server: Server) -> None:
    health = f"{server.url.removesuffix('/v1')}/health"
    until = time.monotonic() + PATIENCE
    while True:
        try:
            _get(health)
        except OSError as error:
            if server.process.poll() is not None or time.monotonic() > until:
                words = server.log.read_text(encoding="utf-8", errors="replace")[-4000:]
                raise NotServing(f"{server.model}: {error}\n{words}") from error
        else:
            return
        time.sleep(0.2)


def _warm(server: Server) -> None:
    """The first request compiles what no start does."""
    asked = {
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 4,
        "logprobs": True,
        "top_logprobs": 5,
    }
    _post(f"{server.url}/chat/completions", asked | {"model": server.model, "temperature": 0})


def _end(server: Server) -> None:
    server.process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        server.process.wait(20)
    with suppress(ProcessLookupError):  # none of them is left
        server.kill()
    server.process.wait()


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return bytes(answer.read())


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found
