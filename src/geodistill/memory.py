"""Memory: how much there is, and the C library's allocator, set for large arrays made and freed layer by layer."""

from __future__ import annotations

import ctypes
import os
import sys

SMALL = 1 << 24
"""Bytes that any machine has room for."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of the settings in mallopt(3)."""

_KEPT, _LARGEST = 2**31 - 1, 2**30
"""Bytes of free memory that a process keeps, and of the largest array that it is kept for."""


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees for its next arrays, until it ends.

    glibc gives each large array back to the system and asks for the next one anew; the system then clears every page
    of it at the first touch. With MiT-B0 at 512 px in torch that is a third of the time. The most memory that the
    process takes is the same; less of it goes back in between. For a process that is ours alone: the command line and
    its workers call this, the Python functions do not.

    Returns:
        Whether the C library has the settings: glibc does, others (musl, macOS, Windows) are left as they are.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(name, value) == 1 for name, value in ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _KEPT))
    )


def machine_memory() -> float:
    """Return the bytes of memory that this machine has; no bound where the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")
