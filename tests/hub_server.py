"""A small Hub on this machine: as much of its protocol as a download needs, over real HTTP.

It also plays the Hub's bad days: gated and private repositories, a broken connection, trouble.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LFS_FROM = 1 << 10  # bytes; the Hub stores what is larger by its SHA-256


@dataclass(kw_only=True)
class Repo:
    """A repository with one commit."""

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    token: str | None = None
    """Who may see it; None is everyone."""
    claimed: dict[str, int] = field(default_factory=dict)
    """Sizes told in place of the true ones."""

    @property
    def sha(self) -> str:
        digest = hashlib.sha1()
        for name, data in sorted(self.files.items()):
            digest.update(name.encode() + hashlib.sha256(data).digest())
        return digest.hexdigest()

    def size(self, name: str) -> int:
        return self.claimed.get(name, len(self.files[name]))

    def etag(self, name: str) -> str:
        data = self.files[name]
        if len(data) >= LFS_FROM:
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def entry(self, name: str) -> dict[str, object]:
        data = self.files[name]
        entry = {"size": self.size(name), "oid": self.etag(name)}
        if len(data) >= LFS_FROM:
            entry["lfs"] = {"oid": self.etag(name), "size": self.size(name), "pointerSize": 130}
        return entry


@dataclass(kw_only=True)
class Request:
    method: str
    path: str
    range: str | None


class Hub(ThreadingHTTPServer):
    """Serves ``repos`` by their names and notes every request."""

    daemon_threads = True

    def __init__(self, repos: dict[str, Repo]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos = repos
        self.requests: list[Request] = []
        self.cut: dict[str, int] = {}
        """Files whose next GET breaks off after so many bytes."""
        self.sent = 0
        """Bytes of answers to GET."""
        self.pace = 0.0
        """Seconds to wait after every MiB."""
        self.status = 200
        """Another status: every request is answered with it."""
        self.page: bytes | None = None
        """What answers every request, as the login page of a hotel does."""
        self.token = "hf_right"
        """The one token that is known."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fetched(self) -> list[str]:
        """The names of the files whose content was asked for."""
        paths = [request.path for request in self.requests if request.method == "GET"]
        return sorted(path.partition("/resolve/")[2][41:] for path in paths if "/resolve/" in path)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that goes away is no news


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(
            Request(method=self.command, path=path, range=self.headers.get("Range"))
        )
        if self.server.page is not None:
            return self._send(200, self.server.page)
        if self.server.status != 200:
            return self._send(self.server.status, b"")
        owner_name = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        repo = self.server.repos.get(owner_name)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token != self.server.token:
            return self._fail(401, None, "Invalid credentials in Authorization header")
        if repo is None or (repo.token and repo.token != token):
            # without a token the Hub does not tell whether a private repository exists
            return self._fail(404 if token else 401, "RepoNotFound", "Repository not found")
        rest = path.partition(owner_name)[2].split("/")[1:]
        if path.startswith("/api/"):
            return self._api(repo, owner_name, rest)
        return self._resolve(repo, rest[1], "/".join(rest[2:]), token)

    def _api(self, repo: Repo, name: str, rest: list[str]) -> None:
        revision = "/".join(rest[1:]) or "main"
        if revision not in (*repo.revisions, repo.sha):
            return self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        entries = {path: repo.entry(path) for path in sorted(repo.files)}
        if rest[:1] == ["tree"]:
            tree = [{"type": "file", "path": path, **entry} for path, entry in entries.items()]
            return self._send(200, json.dumps(tree).encode())
        siblings = [{"rfilename": path} for path in entries]
        info = {"id": name, "modelId": name, "sha": repo.sha, "siblings": siblings}
        return self._send(200, json.dumps(info).encode())

    def _resolve(self, repo: Repo, revision: str, name: str, token: str) -> None:
        if revision not in (*repo.revisions, repo.sha):
            return self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if name not in repo.files:
            return self._fail(404, "EntryNotFound", "Entry not found")
        if repo.gated:
            return self._fail(403 if token else 401, "GatedRepo", "Access to it is restricted")
        headers = {
            "X-Repo-Commit": repo.sha,
            "ETag": f'"{repo.etag(name)}"',
            "X-Linked-Size": str(repo.size(name)),
            "Accept-Ranges": "bytes",
        }
        data, status = repo.files[name], 200
        if self.headers.get("Range") and self.command == "GET":
            start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data, status = data[start:], 206
        return self._send(status, data, headers, self._cut(name))

    def _cut(self, name: str) -> int | None:
        return self.server.cut.pop(name, None) if self.command == "GET" else None

    def _fail(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(
        self,
        status: int,
        data: bytes,
        headers: dict[str, str] | None = None,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            for start in range(0, len(data[:cut]), 1 << 20):
                self.wfile.write(data[:cut][start : start + (1 << 20)])
                self.server.sent += len(data[:cut][start : start + (1 << 20)])
                time.sleep(self.server.pace)
        if cut is not None:
            self.close_connection = True


@contextmanager
def serving(**repos: Repo) -> Iterator[Hub]:
    """Serve each repository as ``org/KEYWORD`` until the block ends."""
    hub = Hub({f"org/{name}": repo for name, repo in repos.items()})
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


def files_of(directory: Path) -> dict[str, bytes]:
    """The files of a directory, as a repository holds them."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
