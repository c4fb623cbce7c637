"""A folder served over HTTP with range requests, whose bytes and requests are counted and which can break down."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder with range requests, and counts the bytes it sends.

    Attributes:
        folder: What it serves.
        sent: Bytes that it has sent.
        places: Where in its files they stood; what is sent twice counts once.
        limit: Bytes after which it answers no more.
        broken: Whether it answers at all.
    """

    folder: Path
    sent = 0
    places: set[int]
    limit = float("inf")
    broken = False

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.server.folder / self.path.split("?")[0].lstrip("/")
        if not path.is_file() or self.server.broken or self.server.sent > self.server.limit:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data, size = path.read_bytes(), path.stat().st_size
        first, last = 0, size - 1
        if asked := self.headers.get("Range"):
            begin, end = asked.removeprefix("bytes=").split("-")
            first, last = int(begin), min(int(end or last), last)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if body:
            self.server.sent += last + 1 - first
            self.server.places |= set(range(first, last + 1))
            self.wfile.write(data[first : last + 1])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Serve a folder, which is made, from a free port of this machine."""
    folder.mkdir()
    with Server(("127.0.0.1", 0), Handler) as held:
        held.folder, held.places = folder, set()
        thread = threading.Thread(target=held.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield held
        held.shutdown()
        thread.join()
