"""`run_tasks`: the one way to send many items through a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

from geodistill.engine.cluster import over_ray
from geodistill.engine.processes import in_processes, in_this_process
from geodistill.engine.task import TaskResult
from geodistill.errors import GeodistillError, RecipeError, UnknownNameError

T = TypeVar("T")
R = TypeVar("R")

Engine = Literal["local", "ray"]
ENGINES: tuple[Engine, ...] = ("local", "ray")


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
        results = over_ray(function, items, workers, address, keep_going, gpus)
    elif workers == 1:
        results = in_this_process(function, items, keep_going)
    else:
        results = in_processes(function, items, workers, keep_going)
    return _raise_at_the_end(results, keep_going)


def _raise_at_the_end(results: Iterator[TaskResult[T, R]], keep_going: bool) -> Iterator[TaskResult[T, R]]:
    first: GeodistillError | None = None
    for result in results:
        first = first or result.error
        if result.error is None or keep_going:
            yield result
    if first is not None and not keep_going:
        raise first
