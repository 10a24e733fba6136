"""A way to an S3 server on which one request goes wrong."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal[
    "503", "403", "bad_digest", "lost_answer", "changed_answer", "cut_answer", "waits_before", "waits_after"
]
_REFUSALS = {"503": (503, "SlowDown"), "403": (403, "AccessDenied"), "bad_digest": (400, "BadDigest")}


@dataclass
class Way:
    """`fault` happens to the request of this method that comes after `spared` others of it; then it is over.

    One that waits does so before or after it is done, once it has set `reached`, until `goes_on`.
    """

    endpoint: str
    fault: Fault | None = None
    method: str = "PUT"
    spared: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    goes_on: threading.Event = field(default_factory=threading.Event)

    def breaks(self, fault: Fault, method: str, spared: int) -> None:
        self.fault, self.method, self.spared = fault, method, spared
        self.reached.clear()
        self.goes_on.clear()

    def wait(self) -> None:
        self.reached.set()
        self.goes_on.wait(60)

    def due(self, method: str) -> Fault | None:
        if self.fault is None or method != self.method:
            return None
        self.spared -= 1
        if self.spared >= 0:
            return None
        due, self.fault = self.fault, None
        return due


@contextmanager
def way_to(server: str) -> Iterator[Way]:
    """A proxy in front of an endpoint."""
    behind = urlsplit(server)

    class Passing(BaseHTTPRequestHandler):
        def passed(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length", 0)))
            fault = way.due(self.command)
            if fault in _REFUSALS:
                status, code = _REFUSALS[fault]
                self.answer(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
                return
            if fault == "waits_before":
                # Whoever asked is gone when this goes on, and what they asked for with them.
                way.wait()
                self.close_connection = True
                return
            connection = http.client.HTTPConnection(behind.hostname or "", behind.port, timeout=20)
            connection.request(self.command, self.path, data or None, dict(self.headers))
            reply = connection.getresponse()
            headers, body = dict(reply.getheaders()), reply.read()
            connection.close()
            if fault == "waits_after":
                way.wait()
            if fault in ("lost_answer", "waits_after"):
                self.close_connection = True
            elif fault == "changed_answer":
                self.answer(reply.status, headers, body[:-1] + bytes([body[-1] ^ 1]))
            elif fault == "cut_answer":
                self.answer(reply.status, headers, body, sent=len(body) // 2)
            else:
                self.answer(reply.status, headers, body)

        def answer(self, status: int, headers: dict[str, str], body: bytes, sent: int | None = None) -> None:
            self.send_response(status)
            length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            self.send_header("content-length", length)
            self.end_headers()
            self.wfile.write(body[:sent])
            self.close_connection = True

        do_GET = do_PUT = do_HEAD = passed  # noqa: N815 - names of the base class

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Passing)
    way = Way(f"http://127.0.0.1:{proxy.server_address[1]}")
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield way
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join(10)
