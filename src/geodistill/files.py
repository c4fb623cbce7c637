"""Writing files and folders whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geodistill.errors import OutputError


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; rename it to ``path`` at the end, remove it on any failure.

    Works for files and directories; the parent directory is made. An existing file is replaced; an existing
    directory is replaced whole.

    Raises:
        OutputError: The place cannot be written or the disk is full.
    """
    path = Path(path)
    part = path.with_name(f".{path.stem}.part-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, "not writable", str(path.parent))
        yield part
        if part.is_dir() and path.is_dir():
            old = path.with_name(f".{path.name}.old-{os.getpid()}")
            path.rename(old)
            part.rename(path)
            shutil.rmtree(old)
        else:
            part.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            # Where the parent is no folder, there is nothing to remove and unlink would hide the reason.
            with suppress(OSError):
                part.unlink(missing_ok=True)


def output_error(path: Path, error: OSError) -> OutputError:
    """Say in one line why ``path`` could not be written."""
    if error.errno == errno.ENOSPC or "No space left" in str(error):
        return OutputError(f"the disk is full while writing {path}", "", "free some space or choose another --out")
    reason = error.strerror or str(error)
    return OutputError(f"{path} cannot be written ({reason})", "a writable place", "choose another --out")
