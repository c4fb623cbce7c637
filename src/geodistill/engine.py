"""Many items through one function: in this process, in several on this machine, or over a Ray cluster.

A worker that dies (out of memory, machine lost) costs its item another try and nothing else: every item gives
exactly one result. Because an item can be begun twice, a function that writes files writes them whole (`atomic_path`).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from geodistill.errors import GeodistillError, RecipeError, UnknownNameError
from geodistill.memory import keep_freed_memory

T = TypeVar("T")
R = TypeVar("R")

Engine = Literal["local", "ray"]
ENGINES: tuple[Engine, ...] = ("local", "ray")
TRIES = 3
"""How often an item is begun before the death of its worker counts as its failure."""

_Told = tuple[type[GeodistillError], str, str, str]
_Outcome = tuple[Any, _Told | None]


class WorkerError(GeodistillError):
    """The process that worked on an item died, each time it was tried."""


@dataclass(frozen=True)
class TaskResult(Generic[T, R]):
    """What became of one item.

    Attributes:
        index: Position among the items.
        item: The item.
        value: What the function returned; ``None`` where it failed.
        error: Why it failed, else ``None``.
    """

    index: int
    item: T
    value: R | None
    error: GeodistillError | None = None


def run_tasks(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    engine: Engine = "local",
    workers: int = 1,
    address: str | None = None,
    keep_going: bool,
    gpus: float = 0,
) -> Iterator[TaskResult[T, R]]:
    """Apply a function to every item and give each result as soon as it is there.

    Nothing starts before the first result is asked for. With one local worker the items are done in this process,
    in order; otherwise the order is that of completion, and function, items and values must be picklable. A heavy
    object that the function needs (a network) is best kept by the function itself, once a process.

    Args:
        function: What to do with an item. A `GeodistillError` is the item's failure; any other exception is a
            defect and ends the run.
        items: The items.
        engine: ``local``, or ``ray`` for a cluster.
        workers: How many items are worked on at once.
        address: Ray cluster to join, such as ``auto`` or ``ray://host:10001``; by default the one that RAY_ADDRESS
            names, else one is started on this machine for this run.
        keep_going: Go on after failures. If not, no item is begun after the first failure, the results of those
            under way are still given, and then the error is raised.
        gpus: GPUs, or share of one, that Ray sets aside for each item.

    Raises:
        UnknownNameError: No engine has that name.
        RecipeError: Ray is not installed, the cluster cannot be reached, or a number makes no sense.
        GeodistillError: The first failure, unless ``keep_going``.
    """
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES)
    if workers < 1 or gpus < 0:
        raise RecipeError(f"{workers} workers and {gpus:g} GPUs an item", "at least 1 worker and 0 GPUs")
    if engine == "ray":
        results = _over_ray(function, items, workers, address, keep_going, gpus)
    elif workers == 1:
        results = _in_this_process(function, items, keep_going)
    else:
        results = _in_processes(function, items, workers, keep_going)
    return _raise_at_the_end(results, keep_going)


def _raise_at_the_end(results: Iterator[TaskResult[T, R]], keep_going: bool) -> Iterator[TaskResult[T, R]]:
    first: GeodistillError | None = None
    for result in results:
        first = first or result.error
        if result.error is None or keep_going:
            yield result
    if first is not None and not keep_going:
        raise first


def _attempt(function: Callable[[T], R], item: T) -> _Outcome:
    """Return value and failure as plain values: an exception may not survive pickling."""
    try:
        return function(item), None
    except GeodistillError as error:
        return None, (type(error), error.received, error.expected, error.mend)


def _result(index: int, item: T, outcome: _Outcome) -> TaskResult[T, Any]:
    value, told = outcome
    if told is None:
        return TaskResult(index, item, value)
    kind, *parts = told
    # Subclasses take other arguments, but all keep these three parts.
    error = kind.__new__(kind)
    GeodistillError.__init__(error, *parts)
    return TaskResult(index, item, None, error)


def _died(index: int, item: T) -> TaskResult[T, Any]:
    error = WorkerError(
        f"the worker died {TRIES} times on item {index + 1}", "", "it may need more memory: use fewer workers"
    )
    return TaskResult(index, item, None, error)


def _in_this_process(function: Callable[[T], R], items: Sequence[T], keep_going: bool) -> Iterator[TaskResult[T, R]]:
    for index, item in enumerate(items):
        result: TaskResult[T, R] = _result(index, item, _attempt(function, item))
        yield result
        if result.error is not None and not keep_going:
            return


class _Worker:
    """One process. Each has a pool of its own, so that its death concerns no other item."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # GDAL and OpenMP do not survive a fork
        self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_prepare, initargs=(threads,))
        self._pid = self._pool.submit(os.getpid)

    def submit(self, call: Callable[[T], _Outcome], item: T) -> Future[_Outcome]:
        return self._pool.submit(call, item)

    def stop(self, now: bool) -> None:
        """End the process; ``now`` without waiting for the item under way."""
        if now and self._pid.done() and self._pid.exception() is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid.result(), signal.SIGTERM)
        self._pool.shutdown(wait=True, cancel_futures=True)


def _prepare(threads: int) -> None:
    """Make a new process a good worker; runs in it before the function is loaded."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
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


def _in_processes(
    function: Callable[[T], R], items: Sequence[T], workers: int, keep_going: bool
) -> Iterator[TaskResult[T, R]]:
    threads = max((os.cpu_count() or 1) // workers, 1)
    waiting = deque((index, 1) for index in range(len(items)))
    idle = [_Worker(threads) for _ in range(min(workers, len(items)))]
    busy: dict[Future[_Outcome], tuple[_Worker, int, int]] = {}
    finished = False
    try:
        while waiting or busy:
            while waiting and idle:
                worker, (index, attempt) = idle.pop(), waiting.popleft()
                try:
                    busy[worker.submit(partial(_attempt, function), items[index])] = (worker, index, attempt)
                except BrokenProcessPool:  # it died while idle
                    worker.stop(now=False)
                    idle.append(_Worker(threads))
                    waiting.appendleft((index, attempt))
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                worker, index, attempt = busy.pop(future)
                try:
                    result: TaskResult[T, R] = _result(index, items[index], future.result())
                    idle.append(worker)
                except BrokenProcessPool:
                    worker.stop(now=False)
                    idle.append(_Worker(threads))
                    if attempt < TRIES:
                        waiting.appendleft((index, attempt + 1))
                        continue
                    result = _died(index, items[index])
                if result.error is not None and not keep_going:
                    waiting.clear()
                yield result
        finished = True
    finally:
        for worker in [*idle, *(worker for worker, _, _ in busy.values())]:
            worker.stop(now=not finished)


class _Actor:
    """A process of a Ray cluster: it holds its GPU, and what the function has loaded, between items."""

    def __init__(self, function: Callable[[Any], Any], folder: str) -> None:
        keep_freed_memory()
        self._function = function
        # Relative paths mean what they mean to the caller, wherever the cluster was started.
        if Path(folder).is_dir():
            os.chdir(folder)

    def ready(self) -> None:
        """Answer as soon as the cluster has a place for this process."""

    def run(self, item: Any) -> _Outcome:
        """Apply the function to an item."""
        return _attempt(self._function, item)


def _over_ray(
    function: Callable[[T], R], items: Sequence[T], workers: int, address: str | None, keep_going: bool, gpus: float
) -> Iterator[TaskResult[T, R]]:
    ray, started = _join(workers, address)
    lost = ray.exceptions
    deaths = (lost.RayActorError, lost.WorkerCrashedError, lost.OutOfMemoryError, lost.NodeDiedError)
    actors: list[Any] = []
    try:
        if (held := ray.cluster_resources().get("GPU", 0)) < gpus:
            raise RecipeError(f"{gpus:g} GPUs an item and {held:g} in the Ray cluster", "as many", "ask for fewer GPUs")
        # An actor that dies is started again, anywhere in the cluster, and its item given to it once more.
        start = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=TRIES - 1)(_Actor).remote
        shipped = ray.put(function)
        actors += [start(shipped, str(Path.cwd())) for _ in range(min(workers, len(items)))]
        # A cluster may have no place for all of them: items go to those that have answered.
        starting = {actor.ready.remote(): actor for actor in actors}
        idle: list[Any] = []
        waiting = deque(range(len(items)))
        busy: dict[Any, tuple[Any, int]] = {}
        while waiting or busy:
            while waiting and idle:
                actor, index = idle.pop(), waiting.popleft()
                busy[actor.run.remote(items[index])] = (actor, index)
            if not waiting:
                # Their places may be all that an actor which died needs to begin its item again.
                for actor in [*idle, *starting.values()]:
                    ray.kill(actor)
                idle, starting = [], {}
            done, _ = ray.wait([*busy, *starting], num_returns=1)
            for reference in done:
                if reference in starting:
                    actor = starting.pop(reference)
                    try:
                        ray.get(reference)
                        idle.append(actor)
                    except deaths as error:
                        if not (starting or idle or busy):
                            reason = str(error).strip().splitlines()[-1]
                            raise WorkerError(f"no worker of the Ray cluster could start ({reason})") from error
                    continue
                actor, index = busy.pop(reference)
                try:
                    result: TaskResult[T, R] = _result(index, items[index], ray.get(reference))
                except deaths:
                    result = _died(index, items[index])
                idle.append(actor)
                if result.error is not None and not keep_going:
                    waiting.clear()
                yield result
    finally:
        for actor in actors:
            ray.kill(actor)
        if started:
            ray.shutdown()


def _join(workers: int, address: str | None) -> tuple[Any, bool]:
    """Give the ray module, connected, and whether it was connected here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise RecipeError(
            "the engine 'ray' asks for the package ray, which is not installed",
            "",
            "pip install 'geodistill[cluster]', or use the engine 'local' with several workers",
        ) from error
    if ray.is_initialized():
        return ray, False
    where: dict[str, Any] = {"address": address} if address or os.environ.get("RAY_ADDRESS") else {"num_cpus": workers}
    try:
        ray.init(**where, include_dashboard=False if "num_cpus" in where else None, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"no Ray cluster at {address or os.environ.get('RAY_ADDRESS') or 'this machine'} ({error})",
            "the address of a running cluster",
            "start one with 'ray start --head'",
        ) from error
    return ray, True
