"""Who looks at which object, so that two browsers never get the same one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

SECONDS = 120.0
"""How long an object stays with a browser that does not answer any more."""


@dataclass
class Lease:
    """An object that a browser shows: since when, and until when it stays there."""

    client: str
    reviewer: str
    since: float
    until: float


class Leases:
    """Objects by the browser that shows them; one per browser.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._leases: dict[int, Lease] = {}

    def take(self, numbers: Iterable[int], client: str, reviewer: str) -> int | None:
        """Lease to a browser the first of some objects that no other one shows; ``None`` where there is none."""
        with self._lock:
            self._sweep()
            number = next((n for n in numbers if self._leases.get(n) is None or self._leases[n].client == client), None)
            if number is None:
                return None
            now = self._clock()
            kept = self._leases.get(number)
            self._leases = {n: lease for n, lease in self._leases.items() if lease.client != client}
            since = now if kept is None else kept.since
            self._leases[number] = Lease(client, reviewer, since, now + SECONDS)
            return number

    def renew(self, client: str) -> None:
        """Keep what a browser shows with it."""
        with self._lock:
            for lease in self._leases.values():
                if lease.client == client:
                    lease.until = self._clock() + SECONDS

    def holder(self, number: int) -> str | None:
        """Return the name of who looks at an object."""
        with self._lock:
            self._sweep()
            lease = self._leases.get(number)
            return None if lease is None else lease.reviewer

    def seconds(self, number: int, client: str) -> float | None:
        """Return how long a browser has shown an object; ``None`` where it does not."""
        with self._lock:
            lease = self._leases.get(number)
            return None if lease is None or lease.client != client else self._clock() - lease.since

    def count(self) -> int:
        """Return the number of browsers that show something."""
        with self._lock:
            self._sweep()
            return len(self._leases)

    def _sweep(self) -> None:
        now = self._clock()
        self._leases = {n: lease for n, lease in self._leases.items() if lease.until > now}
