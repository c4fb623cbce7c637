"""The one way to send many items through a function, `run_tasks`, and the one way to show how far that is.

What became of each item is a value that can be sent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from geodistill.errors import GeodistillError, RecipeError, check_name

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")
R = TypeVar("R")

Engine = Literal["local", "ray"]
ENGINES: tuple[Engine, ...] = ("local", "ray")


@dataclass(frozen=True)
class Machines:
    """Where items are worked on, and how many at once; nothing of it changes a result.

    Attributes:
        engine: ``local``, or ``ray`` for a cluster.
        workers: How many items are worked on at once.
        address: Ray cluster to join, such as ``auto`` or ``ray://host:10001``; by default the one that RAY_ADDRESS
            names, else one is started on this machine for this run.
        gpus: GPUs, or share of one, that Ray sets aside for each item.
    """

    engine: Engine = "local"
    workers: int = 1
    address: str | None = None
    gpus: float = 0

    def check(self) -> None:
        """Refuse what nothing could be worked with.

        Raises:
            UnknownNameError: No engine has that name.
            RecipeError: A number makes no sense, or Ray is not installed.
        """
        check_name("engine", self.engine, ENGINES)
        if self.workers < 1 or self.gpus < 0:
            raise RecipeError(f"{self.workers} workers and {self.gpus:g} GPUs an item", "at least 1 worker and 0 GPUs")
        if self.engine == "ray" and find_spec("ray") is None:
            raise RecipeError(
                "the engine 'ray' asks for the package ray, which is not installed",
                "",
                "pip install 'geodistill[ray]', or use the engine 'local' with several workers",
            )


TRIES = 3
"""How often an item is begun before the death of its worker counts as its failure."""


class WorkerError(GeodistillError):
    """The process that worked on an item died, each time it was tried."""


@dataclass(frozen=True)
class TaskResult(Generic[T, R]):
    """What became of an item, by its position: the function's value, or an error."""

    index: int
    item: T
    value: R | None
    error: GeodistillError | None = None


@dataclass(frozen=True)
class Outcome:
    """What a function returned for an item, or how it failed."""

    value: Any = None
    error: GeodistillError | None = None


def attempt(function: Callable[[T], R], item: T) -> Outcome:
    """Apply a function to an item; a failure becomes a value, and a defect goes its way."""
    try:
        return Outcome(function(item))
    except GeodistillError as error:
        return Outcome(error=error)


def died(index: int, item: T) -> TaskResult[T, Any]:
    """Return the result of an item whose worker died each time."""
    error = WorkerError(
        f"the worker died {TRIES} times on item {index + 1}", "", "it may need more memory: use fewer workers"
    )
    return TaskResult(index, item, None, error)


def run_tasks(
    function: Callable[[T], R],
    items: Sequence[T],
    machines: Machines = Machines(),
    *,
    keep_going: bool,
) -> Iterator[TaskResult[T, R]]:
    """Apply a function to every item and yield each result as soon as it is there.

    Nothing starts before the first result is asked for. With one local worker the items are done in this process,
    in order; otherwise the order is that of completion, and function, items and values must be picklable. The
    function is sent once to each process and stays there, so it may be a method of an object that owns something heavy
    (a network) and loads it at the first item.

    Args:
        function: What to do with an item. A `GeodistillError` is the item's failure; any other exception is a
            defect and ends the run.
        items: The items.
        machines: Where, and how many at once.
        keep_going: Go on after failures. If not, no item is begun after the first failure, the results of those
            under way are still given, and then the error is raised.

    Raises:
        UnknownNameError: No engine has that name.
        RecipeError: Ray is not installed, the cluster cannot be reached, or a number makes no sense.
        GeodistillError: The first failure, unless ``keep_going``.
    """
    machines.check()
    if machines.engine == "ray":
        from geodistill.engine.cluster import over_ray

        results = over_ray(function, items, machines, keep_going)
    elif machines.workers == 1:
        results = in_this_process(function, items, keep_going)
    else:
        from geodistill.engine.processes import in_processes

        results = in_processes(function, items, machines.workers, keep_going)
    return _raise_at_the_end(results, keep_going)


def _raise_at_the_end(results: Iterator[TaskResult[T, R]], keep_going: bool) -> Iterator[TaskResult[T, R]]:
    first: GeodistillError | None = None
    for result in results:
        first = first or result.error
        if result.error is None or keep_going:
            yield result
    if first is not None and not keep_going:
        raise first


def in_this_process(function: Callable[[T], R], items: Sequence[T], keep_going: bool) -> Iterator[TaskResult[T, R]]:
    """Do the items one after another, up to the first failure unless ``keep_going``."""
    for index, item in enumerate(items):
        outcome = attempt(function, item)
        result: TaskResult[T, R] = TaskResult(index, item, outcome.value, outcome.error)
        yield result
        if result.error is not None and not keep_going:
            return


def shows_progress() -> bool:
    """Return whether somebody sees progress bars: in a terminal, or in a notebook, whose output calls itself none."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")


def progress_bar(items: Iterable[T], name: str, show: bool = True, **how: Any) -> tqdm[T]:
    """Return items under a bar where it is to be shown and somebody sees it; ``how`` is further arguments of tqdm's.

    A bar that its user moves on has no items, such as ``range(0)``, and a ``total``.
    """
    from tqdm import tqdm  # not everything that runs tasks shows them

    return tqdm(items, name, disable=not (show and shows_progress()), **how)
