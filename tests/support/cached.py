"""A small cache of a teacher's outputs, and processes that write to it."""

from __future__ import annotations

import json
import resource
import time
import warnings
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
from torch import Tensor

from geodistill.methods.cache import TeacherCache
from geodistill.methods.teacher import Storage

SHAPES = [(5, 3, 7), (2, 4, 4)]
ABOUT: dict[str, Any] = {"weights": "w", "views": {"seed": 0}}


def cache(root: Path, slots: int = 6, cap: float = 1e9, storage: Storage = "float16", **about: Any) -> TeacherCache:
    return TeacherCache(root, ABOUT | about, SHAPES, slots, cap, storage)


def parts(seed: int, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator) for shape in SHAPES]


def fill_under_a_limit(root: Path) -> None:
    """Write six records where a file may hold three at most, and tell into ``told.json`` what came of it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 4096, resource.RLIM_INFINITY))
    full = cache(root)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for slot in range(6):
            full.write(slot, parts(slot))
    kept = [slot for slot in range(6) if full.read(slot) is not None]
    (root / "told.json").write_text(json.dumps({"warnings": len(told), "kept": kept}))


def write_all_slots(root: Path, seed: int, slots: int) -> None:
    """Write every record that is not there, in an order of its own."""
    own = cache(root, slots=slots)
    for slot in np.random.default_rng(seed).permutation(slots).tolist():
        if own.read(slot) is None:
            own.write(slot, parts(slot))


def hold_lock(path: Path) -> None:
    """Hold a lock until this process is killed; ``PATH.held`` says that it is held."""
    with filelock.FileLock(path):
        path.with_name(f"{path.name}.held").touch()
        time.sleep(300)
