"""Items in several processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from types import FrameType
from typing import Any, TypeVar

from geodistill.engine.tasks import TRIES, Outcome, TaskResult, attempt, died
from geodistill.memory import keep_freed_memory

T = TypeVar("T")
R = TypeVar("R")

GRACE_SECONDS = 10.0
"""How long a worker that is to end may clean up."""


class _Process:
    """Applies a pickled function. Each process has a pool of its own, so that its death concerns no other item."""

    def __init__(self, function: bytes, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # GDAL and OpenMP do not survive a fork
        self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_prepare, initargs=(function, threads))
        self._pid = self._pool.submit(os.getpid)

    def submit(self, item: Any) -> Future[Outcome]:
        return self._pool.submit(_apply, item)

    def stop(self, now: bool) -> None:
        """End the process; ``now`` without waiting for the item under way, which may still clean up behind it."""
        last = None
        if now and self._pid.done() and self._pid.exception() is None:
            _send(self._pid.result(), signal.SIGTERM)
            # It may be deep in a library that hears no signals.
            last = threading.Timer(
                GRACE_SECONDS, _send, (self._pid.result(), getattr(signal, "SIGKILL", signal.SIGTERM))
            )
            last.start()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if last is not None:
            last.cancel()


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _end(number: int, frame: FrameType | None) -> None:
    """End as an exception does, so that nothing half-written is left."""
    raise SystemExit(128 + number)


_sent: list[bytes] = []
"""In a worker's process: the function it was started for."""


@cache
def _function() -> Callable[[Any], Any]:
    """Return the function, loaded at the first item: what it has loaded itself stays from item to item."""
    function: Callable[[Any], Any] = pickle.loads(_sent[0])
    return function


def _apply(item: Any) -> Outcome:
    return attempt(_function(), item)


def _prepare(function: bytes, threads: int) -> None:
    """Make a new process a good worker; runs in it before the function is loaded."""
    _sent.append(function)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(threads)


def _end_with_parent() -> None:
    """A killed parent cannot end its workers, and they would wait for it for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def in_processes(
    function: Callable[[T], R], items: Sequence[T], workers: int, keep_going: bool
) -> Iterator[TaskResult[T, R]]:
    """Do the items in processes of their own, and an item again whose process died."""
    threads = max((os.cpu_count() or 1) // workers, 1)
    waiting = deque((index, 1) for index in range(len(items)))
    sent = pickle.dumps(function)
    idle = [_Process(sent, threads) for _ in range(min(workers, len(items)))]
    busy: dict[Future[Outcome], tuple[_Process, int, int]] = {}
    finished = False
    try:
        while waiting or busy:
            while waiting and idle:
                worker, (index, tries) = idle.pop(), waiting.popleft()
                try:
                    busy[worker.submit(items[index])] = (worker, index, tries)
                except BrokenProcessPool:  # it died while idle
                    worker.stop(now=False)
                    idle.append(_Process(sent, threads))
                    waiting.appendleft((index, tries))
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                worker, index, tries = busy.pop(future)
                try:
                    outcome: Outcome = future.result()
                    result: TaskResult[T, R] = TaskResult(index, items[index], outcome.value, outcome.error)
                    idle.append(worker)
                except BrokenProcessPool:
                    worker.stop(now=False)
                    idle.append(_Process(sent, threads))
                    if tries < TRIES:
                        waiting.appendleft((index, tries + 1))
                        continue
                    result = died(index, items[index])
                if result.error is not None and not keep_going:
                    waiting.clear()
                yield result
        finished = True
    finally:
        for worker in [*idle, *(worker for worker, _, _ in busy.values())]:
            worker.stop(now=not finished)
