"""Many items through one function: in this process, in several on this machine, or over a Ray cluster.

A worker that dies (out of memory, machine lost) costs its item another try and nothing else: every item gives
exactly one result. Because an item can be begun twice, a function that writes files writes them whole (`atomic_path`).
"""

from geodistill.engine.tasks import (
    ENGINES,
    TRIES,
    Engine,
    Machines,
    TaskResult,
    WorkerError,
    progress_bar,
    run_tasks,
    shows_progress,
)

__all__ = [
    "ENGINES",
    "TRIES",
    "Engine",
    "Machines",
    "TaskResult",
    "WorkerError",
    "progress_bar",
    "run_tasks",
    "shows_progress",
]
