"""A hub on loopback that speaks what `huggingface_hub` uses: a repository's files with their checksums, revisions,
redirects to the content of large files, ranges, and the codes of errors. It sends real bytes, of real files too."""

import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

COMMIT = "c0ffee" + "0" * 34
BLOCK = 1 << 16


@dataclass
class HubFile:
    """`sha256` and `size` are what the hub says; the content may be other. A file in LFS has a checksum."""

    content: bytes | Path
    is_large: bool = True
    sha256: str = ""
    size: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.content, Path):
            self.size = self.size or self.content.stat().st_size
            with self.content.open("rb") as file:
                self.sha256 = self.sha256 or hashlib.file_digest(file, "sha256").hexdigest()
        else:
            self.size = self.size or len(self.content)
            self.sha256 = self.sha256 or hashlib.sha256(self.content).hexdigest()

    def read(self, start: int) -> Iterator[bytes]:
        if isinstance(self.content, bytes):
            yield self.content[start:]
            return
        with self.content.open("rb") as file:
            file.seek(start)
            while block := file.read(BLOCK):
                yield block

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_large else self.sha256[:40]


@dataclass
class HubRepository:
    files: dict[str, HubFile]
    licence: str = "apache-2.0"
    gated: bool = False
    context: int | None = None
    commit: str = COMMIT


@dataclass
class HubRequest:
    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class LoopbackHub:
    url: str = ""
    repositories: dict[str, HubRepository] = field(default_factory=dict)
    plain: dict[str, HubFile] = field(default_factory=dict)
    """Files of a web server that is no hub, by their paths."""
    requests: list[HubRequest] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    """After how many bytes each next answer with content is cut."""
    hold_at: int | None = None
    """After how many bytes an answer with content stops, until `released` is set."""
    released: threading.Event = field(default_factory=threading.Event)
    status: int | None = None
    """A status with which every request is answered."""

    @property
    def content_url(self) -> str:
        """The server of large files' content: another host, as at Hugging Face."""
        return self.url.replace("127.0.0.1", "localhost")

    def add(self, repository: str, files: dict[str, bytes | Path | HubFile], **more: Any) -> HubRepository:
        """Add a repository; files that are no weights are small ones."""
        large = (".gguf", ".safetensors", ".bin")
        made = {
            name: content if isinstance(content, HubFile) else HubFile(content, name.endswith(large))
            for name, content in files.items()
        }
        self.repositories[repository] = HubRepository(made, **more)
        return self.repositories[repository]

    def downloads(self) -> list[HubRequest]:
        """The requests for content of large files."""
        return [
            each
            for each in self.requests
            if each.method == "GET" and each.path.startswith(("/cdn/", "/plain/"))
        ]

    def find_content(self, sha256: str) -> HubFile | None:
        files = [file for repository in self.repositories.values() for file in repository.files.values()]
        return next((file for file in files if file.sha256 == sha256), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, parts = self.server.hub, urlsplit(self.path)
        path = unquote(parts.path)
        hub.requests.append(
            HubRequest(self.command, path, self.headers.get("Range"), self.headers.get("Authorization"))
        )
        if hub.status is not None:
            self._fail(hub.status, "")
        elif path in hub.plain:
            self._send_content(hub.plain[path])
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            self._answer_api(match[1], match[2], match[3], parse_qs(parts.query))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[2], match[3])
        elif match := re.fullmatch(r"/cdn/(\w+)", path):
            self._send_content(hub.find_content(match[1]))
        else:
            self._fail(404, "EntryNotFound")

    def _find(self, repository: str, revision: str | None) -> HubRepository | None:
        found = self.server.hub.repositories.get(repository)
        if found is None:
            self._fail(401, "RepoNotFound")
        elif found.gated and self.headers.get("Authorization") != "Bearer hf_may_read":
            self._fail(403, "GatedRepo")
        elif revision not in (None, "main", found.commit):
            self._fail(404, "RevisionNotFound")
        else:
            return found
        return None

    def _answer_api(
        self, name: str, kind: str | None, revision: str | None, query: dict[str, list[str]]
    ) -> None:
        repository = self._find(name, revision)
        if repository is None:
            return
        if kind == "tree":
            self._send_json([_to_tree_entry(path, file) for path, file in repository.files.items()])
            return
        siblings = [
            _to_sibling(path, file, blobs="blobs" in query) for path, file in repository.files.items()
        ]
        info = {"id": name, "sha": repository.commit, "siblings": siblings}
        info |= {"tags": [f"license:{repository.licence}"], "private": False}
        self._send_json(
            info | ({"gguf": {"context_length": repository.context}} if repository.context else {})
        )

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._find(name, revision)
        if repository is None:
            return
        file = repository.files.get(path)
        if file is None:
            self._fail(404, "EntryNotFound")
            return
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{file.etag}"'}
        if not file.is_large:
            self._send_content(file, headers)
            return
        linked = {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.sha256}"'}
        self._send(302, headers | linked | {"Location": f"{self.server.hub.content_url}/cdn/{file.sha256}"})

    def _send_content(self, file: HubFile | None, headers: dict[str, str] | None = None) -> None:
        if file is None:
            self._fail(404, "EntryNotFound")
            return
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        more = {"Content-Range": f"bytes {start}-{file.size - 1}/{file.size}"} if match else {}
        sizes = {"Content-Length": str(file.size - start), "Accept-Ranges": "bytes"}
        self._send(206 if match else 200, (headers or {}) | sizes | more)
        if self.command == "GET":
            self._write(file.read(start))

    def _write(self, blocks: Iterator[bytes]) -> None:
        hub, sent = self.server.hub, 0
        cut_at = hub.cuts.pop(0) if hub.cuts else None
        for block in blocks:
            self.wfile.write(block if cut_at is None else block[: cut_at - sent])
            sent += len(block)
            if hub.hold_at is not None and sent >= hub.hold_at:
                hub.released.wait()
            if cut_at is not None and sent >= cut_at:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return

    def _send_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self._send(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _fail(self, status: int, code: str) -> None:
        self._send(status, {"X-Error-Code": code, "X-Error-Message": "a page of words"} if code else {})

    def _send(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()


def _to_sibling(path: str, file: HubFile, *, blobs: bool) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": path}
    if blobs:
        sibling |= {"size": file.size, "blobId": file.sha256[:40]}
        if file.is_large:
            sibling["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
    return sibling


def _to_tree_entry(path: str, file: HubFile) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": file.size, "oid": file.sha256[:40]}
    if file.is_large:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
    return entry


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: LoopbackHub

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that went away."""


@contextmanager
def run_hub() -> Iterator[LoopbackHub]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.hub = hub = LoopbackHub(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.released.set()
            server.shutdown()
            thread.join()


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str, home: Path) -> None:
    """Set what a user sets by HF_ENDPOINT and HF_HOME. `huggingface_hub` reads these when it is imported, so in this
    process its constants are set too."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
