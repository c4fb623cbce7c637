"""Items over a Ray cluster, or over one started on this machine for the run."""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from geodistill.engine.tasks import TRIES, Machines, Outcome, TaskResult, WorkerError, attempt, died
from geodistill.errors import RecipeError
from geodistill.memory import keep_freed_memory

T = TypeVar("T")
R = TypeVar("R")


class _Actor:
    """A process of a Ray cluster: it keeps its GPU, and what the function has loaded, between items."""

    def __init__(self, function: Callable[[Any], Any], folder: str) -> None:
        keep_freed_memory()
        self._function = function
        # Relative paths mean what they mean to the caller, wherever the cluster was started.
        if Path(folder).is_dir():
            os.chdir(folder)

    def ready(self) -> None:
        """Answer as soon as the cluster has a place for this process."""

    def run(self, item: Any) -> Outcome:
        """Apply the function to an item."""
        return attempt(self._function, item)


def over_ray(
    function: Callable[[T], R], items: Sequence[T], machines: Machines, keep_going: bool
) -> Iterator[TaskResult[T, R]]:
    """Do the items in actors, which the cluster starts again where one died, and its item with it.

    Raises:
        RecipeError: Ray is not installed, or the cluster cannot be reached or lacks the GPUs.
        WorkerError: No actor could start.
    """
    ray, started = _join(machines.workers, machines.address)
    lost = ray.exceptions
    deaths = (lost.RayActorError, lost.WorkerCrashedError, lost.OutOfMemoryError, lost.NodeDiedError)
    actors: list[Any] = []
    try:
        gpus = machines.gpus
        if (present := ray.cluster_resources().get("GPU", 0)) < gpus:
            raise RecipeError(
                f"{gpus:g} GPUs an item and {present:g} in the Ray cluster", "as many", "ask for fewer GPUs"
            )
        # An actor that dies is started again, anywhere in the cluster, and its item given to it once more.
        start = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=TRIES - 1)(_Actor).remote
        shipped = ray.put(function)
        actors += [start(shipped, str(Path.cwd())) for _ in range(min(machines.workers, len(items)))]
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
                    outcome: Outcome = ray.get(reference)
                    result: TaskResult[T, R] = TaskResult(index, items[index], outcome.value, outcome.error)
                except deaths:
                    result = died(index, items[index])
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
    """Return the ray module, connected, and whether it was connected here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return ray, False
    named = address or os.environ.get("RAY_ADDRESS")
    where: dict[str, Any] = {"address": address} if named else {"num_cpus": workers}
    try:
        if named:
            _knock(named)
        ray.init(**where, include_dashboard=None if named else False, logging_level=logging.WARNING)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"no Ray cluster at {named or 'this machine'} ({error})",
            "the address of a running cluster",
            "start one with 'ray start --head'",
        ) from error
    return ray, True


def _knock(address: str) -> None:
    """Connect to a host and port and leave again: where nobody answers, Ray would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
