"""Answers of services through httpx, bounded in size and time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx


class BoundedTransport(httpx.HTTPTransport):
    """A transport that breaks off answers which are too large, take too long or come compressed.

    Args:
        limit: Bytes of an answer at most.
        seconds: How long one answer may take in all.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        super().__init__()
        self._limit, self._seconds = limit, seconds

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return the answer, its body not yet read.

        Raises:
            httpx.ReadError: The answer is compressed: a few bytes can stand for any number.
        """
        end = time.monotonic() + self._seconds
        response = super().handle_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            response.close()
            raise httpx.ReadError("a compressed answer", request=request)
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = _BoundedStream(response.stream, self._limit, end)
        return response


class _BoundedStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, limit: int, end: float) -> None:
        self._stream, self._limit, self._end = stream, limit, end

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._stream:
            size += len(part)
            if size > self._limit:
                raise httpx.ReadError(f"more than {self._limit} bytes")
            if time.monotonic() > self._end:
                raise httpx.ReadTimeout("an answer that does not end")
            yield part

    def close(self) -> None:
        self._stream.close()
