"""One item and what became of it, in forms that survive the way between processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from geodistill.errors import GeodistillError

T = TypeVar("T")
R = TypeVar("R")

TRIES = 3
"""How often an item is begun before the death of its worker counts as its failure."""

Outcome = tuple[Any, tuple[type[GeodistillError], str, str, str] | None]
"""What a function returned, and kind and parts of the error where it failed."""


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


def attempt(function: Callable[[T], R], item: T) -> Outcome:
    """Return value and failure as plain values: an exception may not survive pickling."""
    try:
        return function(item), None
    except GeodistillError as error:
        return None, (type(error), error.received, error.expected, error.mend)


def result_of(index: int, item: T, outcome: Outcome) -> TaskResult[T, Any]:
    """Give an outcome as a result again, its failure as the exception that it was."""
    value, told = outcome
    if told is None:
        return TaskResult(index, item, value)
    kind, *parts = told
    # Subclasses take other arguments, but all keep these three parts.
    error = kind.__new__(kind)
    GeodistillError.__init__(error, *parts)
    return TaskResult(index, item, None, error)


def died(index: int, item: T) -> TaskResult[T, Any]:
    """Give the result of an item whose worker died each time."""
    error = WorkerError(
        f"the worker died {TRIES} times on item {index + 1}", "", "it may need more memory: use fewer workers"
    )
    return TaskResult(index, item, None, error)
