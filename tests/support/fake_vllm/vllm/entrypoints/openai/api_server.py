"""Serves like vLLM's server, of which it has the flags that matter here.

`FAKE_NOTES` names a folder in which it writes what happened; a file `start` there holds its start back until it is
gone, `broken` makes it fail.
"""

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NOTES = Path(os.environ["FAKE_NOTES"])
ENGINE = """
import ctypes, os, pathlib, signal, subprocess, sys
name, notes = sys.argv[1:3]
ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
signal.signal(signal.SIGINT, signal.SIG_IGN)
if name == "VLLM::EngineCore":
    subprocess.Popen([sys.executable, "-c", pathlib.Path(notes, "engine.py").read_text(), "VLLM::Worker", notes])
pathlib.Path(notes, f"{name[6:]}.{os.getpid()}").touch()
while True:
    signal.pause()
"""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    speculates = False
    model = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer(200, METRICS.encode(), "text/plain")
        else:
            self._answer(200, b"")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
            return self._answer(401, b'{"error": "Unauthorized"}')
        if body.get("model") != self.server.model:
            return self._answer(404, b'{"error": {"message": "no such model"}}')
        if self.server.speculates and body.get("min_p"):
            return self._answer(400, b'{"error": {"message": "min_p is not yet supported"}}')
        if self.path == "/v1/completions":
            with (NOTES / "warmed").open("a") as note:
                note.write(json.dumps(body) + "\n")
            return self._answer(200, b'{"choices": []}')
        if "hold" in body["messages"][-1]["content"]:
            (NOTES / "holding").touch()
            threading.Event().wait()
        return self._answer(200, json.dumps(chat(body)).encode())

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def chat(body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Cold, says vLLM."}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
    }


METRICS = """# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 30.0
vllm:generation_tokens_total{engine="1",model_name="m"} 12.0
vllm:generation_tokens_created{engine="0",model_name="m"} 1.7e+09
vllm:prompt_tokens_total{engine="0",model_name="m"} 7.0
vllm:num_requests_running{engine="0",model_name="m"} 0.0
vllm:spec_decode_num_drafts_total{engine="0",model_name="m"} 10.0
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="m"} 40.0
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="m"} 10.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="0"} 9.0
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    for option in (
        "model",
        "served-model-name",
        "host",
        "max-model-len",
        "max-num-seqs",
        "speculative-config",
    ):
        parser.add_argument(f"--{option}")
    parser.add_argument("--port", type=int)
    parser.add_argument("--disable-uvicorn-access-log", action="store_true")
    parser.add_argument("--enforce-eager", action="store_true")
    args = parser.parse_args()
    if (NOTES / "broken").exists():
        raise SystemExit("ValueError: Free memory on device is less than desired GPU memory utilization")
    for note in NOTES.glob("*.[0-9]*"):
        note.unlink()  # of a life before
    (NOTES / f"Server.{os.getpid()}").touch()
    (NOTES / "environment.json").write_text(json.dumps(dict(os.environ)))
    (NOTES / "engine.py").write_text(ENGINE)
    Path(tempfile.gettempdir(), "socket").touch()
    say("(EngineCore pid=1) INFO Initializing a V1 LLM engine (v0.32.0) with config: model='m'")
    subprocess.Popen([sys.executable, "-c", ENGINE, "VLLM::EngineCore", str(NOTES)])
    say("(Worker pid=2) INFO Starting to load model m...")
    say("Loading safetensors checkpoint shards: 0% | 0/1\rLoading safetensors checkpoint shards: 100% | 1/1")
    while (NOTES / "start").exists() or not list(NOTES.glob("Worker.*")):
        time.sleep(0.01)
    server = Server((args.host, args.port), Handler)
    server.speculates, server.model = args.speculative_config is not None, args.served_model_name
    signal.signal(signal.SIGINT, lambda *_: threading.Thread(target=server.shutdown).start())
    say("INFO:     Application startup complete.")
    server.serve_forever(poll_interval=0.02)
    for engine in [*NOTES.glob("Worker.*"), *NOTES.glob("EngineCore.*")]:
        os.kill(int(engine.suffix[1:]), signal.SIGKILL)
    (NOTES / "stopped").touch()


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(15, b"VLLM::Server", 0, 0, 0)
    main()
