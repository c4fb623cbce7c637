"""The client of a language model's endpoint, whose answers are bounded in size and time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any


def bounded_client(limit: int, seconds: float) -> Any:
    """Return an HTTP client for openai's that breaks off answers which are too large, do not end or come compressed.

    Args:
        limit: Bytes of an answer at most.
        seconds: How long one answer may take.
    """
    from openai import DefaultHttpxClient

    # The library below openai's client, whose name changed from one release to another.
    base = next(kind for kind in DefaultHttpxClient.__mro__ if kind.__name__ == "Client")
    http: Any = import_module(base.__module__.partition(".")[0])

    class Bounded(http.SyncByteStream):  # type: ignore[misc]
        """A stream of bytes with an end."""

        def __init__(self, stream: Any) -> None:
            self._stream, self._end = stream, time.monotonic() + seconds

        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for part in self._stream:
                size += len(part)
                if size > limit:
                    raise http.ReadError(f"more than {limit} bytes")
                if time.monotonic() > self._end:
                    raise http.ReadTimeout("an answer that does not end")
                yield part

        def close(self) -> None:
            """Close the connection."""
            self._stream.close()

    def bound(response: Any) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise http.ReadError("a compressed answer: a few bytes can stand for any number")
        response.stream = Bounded(response.stream)

    plain = {"Accept-Encoding": "identity"}
    return DefaultHttpxClient(timeout=seconds, headers=plain, event_hooks={"response": [bound]})
