"""A model hub that imitates the few endpoints of Hugging Face's that fetching a model uses."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "5f3a" * 10


@dataclass
class Hub:
    """Repositories by name, each a folder; `gated` ones are refused, `damaged` files come changed."""

    repositories: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def files(self, repository: str) -> dict[str, bytes]:
        folder = self.repositories[repository]
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def describe(self, repository: str) -> bytes:
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "blobId": hashlib.sha256(content).hexdigest()[:40],
                "lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134},
            }
            for name, content in self.files(repository).items()
        ]
        described = {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings, "tags": []}
        return json.dumps(described | {"downloads": 0, "likes": 0, "private": False}).encode()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, *args: object) -> None:
            pass

        def _answer(self, *, with_body: bool) -> None:
            path = urlsplit(self.path).path
            hub.asked.append(path)
            parts = path.removeprefix("/api/models/").strip("/").split("/")
            repository = "/".join(parts[:2])
            if repository not in hub.repositories:
                return self._send(401 if path.startswith("/api") else 404, b"{}", {"X-Error-Code": "RepoNotFound"})
            if repository in hub.gated:
                return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
            if path.startswith("/api/models/"):
                if parts[2:3] == ["revision"] and parts[3] not in ("main", COMMIT, "v1"):
                    return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return self._send(200, hub.describe(repository), {"Content-Type": "application/json"})
            file = "/".join(parts[4:])
            content = hub.files(repository)[file]
            if file in hub.damaged:
                content = bytes([content[0] ^ 1]) + content[1:]
            etag = hashlib.sha256(content).hexdigest()
            return self._send(200, content if with_body else b"", {"ETag": f'"{etag}"'}, length=len(content))

        def _send(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
            self.send_response(status)
            for name, value in {"X-Repo-Commit": COMMIT, **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
