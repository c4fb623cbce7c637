"""A language model's endpoint on this machine, which answers as it is told to."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "sk-" + "a" * 20


class StandIn(ThreadingHTTPServer):
    """Answers each request by the next of `plan`; the last one stays."""

    plan: list[str]
    asked: list[dict[str, object]]
    url: str


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append({"body": body, "key": self.headers.get("Authorization")})
        step = self.server.plan.pop(0) if len(self.server.plan) > 1 else self.server.plan[0]
        if step.isdigit():
            self._send(int(step), b'{"error": {"message": "no"}}')
        elif step == "slow":
            time.sleep(1.5)
            self._send(200, self._completion("late"))
        elif step == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.close_connection = True
        elif step == "junk":
            self._send(200, b"<html>not json")
        elif step == "endless":
            self._drip(b" " * 65536, 0.0)
        elif step == "drip":
            self._drip(b" ", 0.05)
        elif step == "slow headers":
            self.close_connection = True
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            with contextlib.suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
        elif step == "endless500":
            self._drip(b" " * 65536, 0.0, 500)
        elif step == "packed":
            self._send(200, gzip.compress(b" " * 10**8), ("Content-Encoding", "gzip"))
        elif step.startswith("raw:"):
            self._send(200, step.removeprefix("raw:").encode())
        elif step == "odd":
            self._send(200, b'{"choices": []}')
        else:
            self._send(200, self._completion(step.removeprefix("say:")))

    def _completion(self, text: str) -> bytes:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        return json.dumps(whole).encode()

    def _drip(self, part: bytes, wait: float, status: int = 200) -> None:
        """Send the same over and over, until nobody listens."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            for _ in range(2000):
                self.wfile.write(part)
                time.sleep(wait)

    def _send(self, status: int, body: bytes, *more: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "0")
        for name, value in more:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
