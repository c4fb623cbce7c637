"""The review over HTTP: on the loopback address alone, and only for who has the link with its token."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from geodistill.errors import BusyError, DataError, GeodistillError, OutputError
from geodistill.reading import parse_object
from geodistill.review.session import ReviewSession

ADDRESS = "127.0.0.1"

POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page may ask for its own files alone."""

FILES = {"": "review.html", "review.css": "review.css", "review.js": "review.js", "list.js": "list.js"}
"""Files of the page by the address that they have behind the token."""

KINDS = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}

LONGEST_BODY = 1 << 16
"""Bytes of a question at most."""

_THIS_MACHINE = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.IGNORECASE)

NO_TOKEN = "This review opens by the whole link that 'geodistill review' printed, token included.\n"


class ReviewServer(ThreadingHTTPServer):
    """Serves one review.

    Args:
        session: The review.
        port: Where; any free one with 0.

    Attributes:
        token: What the link holds, and nobody else can guess.

    Raises:
        OutputError: The port is taken.
    """

    daemon_threads = True

    def __init__(self, session: ReviewSession, port: int = 0) -> None:
        self.session, self.token = session, secrets.token_urlsafe(24)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            raise OutputError(f"port {port} ({error})", "a free port", "choose another --port") from error

    @property
    def link(self) -> str:
        """The address of the page."""
        return f"http://{ADDRESS}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a browser that goes away amid an answer is no mistake."""
        import sys

        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


PageRequest = Mapping[str, Any]


def _answers(session: ReviewSession) -> Mapping[str, Callable[[PageRequest], Any]]:
    """Return what answers each question; a missing part of one is a KeyError, another form a TypeError."""
    return {
        "state": lambda q: session.state(str(q["client"])),
        "list": lambda q: session.listed(int(q["first"]), int(q["count"])),
        "next": lambda q: session.next_object(str(q["client"]), str(q["reviewer"]), int(q["behind"])),
        "open": lambda q: session.open_place(str(q["client"]), str(q["reviewer"]), int(q["place"])),
        "decide": lambda q: session.decide(
            str(q["client"]), str(q["reviewer"]), int(q["id"]), str(q["verdict"]), int(q["last"])
        ),
        "undo": lambda q: session.undo(str(q["client"]), str(q["reviewer"])),
        "prompt": lambda q: session.prompt(str(q["client"]), int(q["id"]), list(q["box"]), q.get("point")),
    }


class _Handler(BaseHTTPRequestHandler):
    """Answers one browser."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "geodistill", ""
    timeout = 60
    server: ReviewServer

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer with a file of the page or a picture."""
        path = self._path()
        if path is None:
            return
        if f"/{self.server.token}" == urlsplit(self.path).path:  # the page names its files relative to itself
            self._send(HTTPStatus.PERMANENT_REDIRECT, b"", KINDS["html"], f"/{self.server.token}/")
        elif path in FILES:
            file = FILES[path]
            text = resources.files("geodistill.review").joinpath(file).read_bytes()
            self._send(HTTPStatus.OK, text, KINDS[file.rpartition(".")[2]])
        elif path == "crop":
            asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            self._try(lambda: self.server.session.crop(int(asked["id"]), int(asked["zoom"])), "image/jpeg")
        else:
            self._send_error(HTTPStatus.NOT_FOUND, "there is no such page")

    def do_POST(self) -> None:
        """Answer a question of the page."""
        path = self._path()
        if path is None:
            return
        answer = _answers(self.server.session).get(path)
        length = self.headers.get("Content-Length", "")
        if answer is None:
            self.close_connection = True  # what it says is not read
            self._send_error(HTTPStatus.NOT_FOUND, "there is no such question")
        elif not length.isascii() or not length.isdigit() or int(length) > LONGEST_BODY:
            self.close_connection = True
            self._send_error(HTTPStatus.BAD_REQUEST, f"a question of {length[:20] or 'unknown'} bytes")
        else:
            body = self.rfile.read(int(length))
            self._try(lambda: json.dumps(answer(parse_object(body, "a question"))).encode(), "application/json")

    def _path(self) -> str | None:
        """Return what is asked for behind the token; ``None`` after a refusal.

        A page of somebody else's may have this address by a name of its own, so the name is looked at as well. The port
        is another one behind a tunnel.
        """
        first, _, path = urlsplit(self.path).path.removeprefix("/").partition("/")
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin", "")
        known = bool(_THIS_MACHINE.fullmatch(host)) and origin.lower() in ("", f"http://{host.lower()}")
        if known and hmac.compare_digest(first.encode(), self.server.token.encode()):
            return path
        self.close_connection = True
        self._send(HTTPStatus.FORBIDDEN, NO_TOKEN.encode(), "text/plain; charset=utf-8")
        return None

    def _try(self, answer: Callable[[], bytes], kind: str) -> None:
        try:
            data = answer()
        except BusyError as error:
            self._send_error(HTTPStatus.CONFLICT, str(error))
        except DataError as error:
            self._send_error(HTTPStatus.BAD_REQUEST, str(error))
        except GeodistillError as error:
            self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            self._send_error(HTTPStatus.BAD_REQUEST, f"not understood ({error!r})"[:300])
        else:
            self._send(HTTPStatus.OK, data, kind)

    def _send_error(self, status: HTTPStatus, text: str) -> None:
        self._send(status, json.dumps({"error": text}).encode(), "application/json")

    def _send(self, status: HTTPStatus, data: bytes, kind: str, location: str = "") -> None:
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(data))),
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
