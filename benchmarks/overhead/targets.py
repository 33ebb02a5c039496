"""What is measured: the stub and the gateways in front of it, each a child process on a loopback port."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.overhead.process import Child, answers, start

ROOT = Path(__file__).resolve().parents[2]

DIRECT = "direct to stub"
NGINX = "nginx"
BARE = "bare aiohttp"
SMALLFIRST_DIRECT = "smallfirst direct"
SMALLFIRST_CASCADE = "smallfirst cascade"

LARGE = "stub-large"
MODELS = {SMALLFIRST_CASCADE: "auto"}
"""The request's `model` by row; every other row asks for the large model."""

_BODY = b'{"model":"stub-large","messages":[{"role":"user","content":"Ready?"}]}'

_NGINX = """\
daemon off;
{user}
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  client_body_buffer_size 64k;
  keepalive_requests 1000000000;
  upstream stub {{ server 127.0.0.1:{stub}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://stub;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""

_SMALLFIRST = """\
listen: {{host: 127.0.0.1, port: {port}}}
local: null
expose_models: true
upstreams:
  - {{name: small, tier: slm, url: "http://127.0.0.1:{stub}/v1", model: SmolLM2-135M-Instruct,
     engine: llamacpp, key: none-needed}}
  - {{name: large, tier: llm, url: "http://127.0.0.1:{stub}/v1", model: stub-large,
     key: none-needed, price: {{input: 0.15, output: 0.60}}}}
records: {{path: {dir}/records}}
"""


@dataclass
class Site:
    """One stub and the gateways in front of it, by row."""

    dir: Path
    pace_ms: float
    events: int
    stub: int
    ports: dict[str, int] = field(default_factory=dict)
    gateways: dict[str, Child] = field(default_factory=dict)
    children: list[Child] = field(default_factory=list)

    def _start(self, name: str, command: list[str], ready: Callable[[], bool]) -> Child:
        env = {key: value for key, value in os.environ.items() if not key.upper().startswith("SMALLFIRST")}
        child = start(name, command, ROOT, self.dir / f"{name.replace(' ', '-')}.log", env)
        self.children.append(child)
        child.wait_ready(ready)
        return child

    def _gateway(self, row: str, port: int, command: list[str], ready: Callable[[], bool]) -> None:
        self.ports[row] = port
        self.gateways[row] = self._start(row, command, ready)

    def start_stub(self) -> None:
        module = [sys.executable, "-m", "benchmarks.overhead.stub"]
        flags = ["--port", str(self.stub), "--pace-ms", str(self.pace_ms), "--events", str(self.events)]
        self._start("stub", module + flags, lambda: answers(self.stub, "GET", "/health"))
        self.ports[DIRECT] = self.stub

    def start_bare(self, port: int) -> None:
        module = [sys.executable, "-m", "benchmarks.overhead.bare"]
        flags = ["--port", str(port), "--upstream", f"http://127.0.0.1:{self.stub}"]
        self._gateway(BARE, port, module + flags, lambda: _completes(port))

    def start_nginx(self, port: int) -> None:
        config, log = self.dir / "nginx.conf", self.dir / "error.log"
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(_NGINX.format(dir=self.dir, port=port, stub=self.stub, user=user))
        command = ["nginx", "-p", str(self.dir), "-c", str(config), "-e", str(log)]
        self._gateway(NGINX, port, command, lambda: _completes(port))

    def start_smallfirst(self, port: int) -> None:
        """One server for both rows: they differ in the request's model."""
        config = self.dir / "smallfirst.yaml"
        config.write_text(_SMALLFIRST.format(dir=self.dir, port=port, stub=self.stub))
        command = [sys.executable, "-m", "gateway.cli", "serve", "--config", str(config)]
        self._gateway(SMALLFIRST_DIRECT, port, command, lambda: answers(port, "GET", "/health/ready"))
        self.ports[SMALLFIRST_CASCADE] = port
        self.gateways[SMALLFIRST_CASCADE] = self.gateways[SMALLFIRST_DIRECT]

    def stop(self) -> None:
        """Stop every child, the last started first."""
        while self.children:
            self.children.pop().stop()


def _completes(port: int) -> bool:
    return answers(port, "POST", "/v1/chat/completions", _BODY)


def why_not_nginx() -> str | None:
    """The reason to leave nginx out, if there is one."""
    return None if shutil.which("nginx") else "nginx is not on the PATH"


def start_rows(site: Site, rows: list[str], ports: list[int]) -> None:
    """Start the stub and what the rows need."""
    site.start_stub()
    if BARE in rows:
        site.start_bare(ports[0])
    if NGINX in rows:
        site.start_nginx(ports[1])
    if SMALLFIRST_DIRECT in rows or SMALLFIRST_CASCADE in rows:
        site.start_smallfirst(ports[2])
