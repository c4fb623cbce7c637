"""Writing files and folders whole or not at all, and never over what is not ours."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import lru_cache
from glob import escape
from pathlib import Path

from geodistill.errors import BusyError, OutputError

MARKER = ".geodistill.json"
"""File of a folder that we made: of which kind it is, and what in it is ours. Nothing else in it is ever removed."""

LOCK, HOLDER = ".geodistill.lock", ".geodistill.lock.json"
"""Files of a folder that a command is at work in, and who that is; both go when it ends."""

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))

LONGEST_NAME = 255
"""Bytes that a file's name may have."""

_LEFTOVER = re.compile(r"^\.(?P<stem>.*)\.(?P<kind>part|old)-(?P<process>\d+)(?P<suffix>(\.[^.]*)?)$", re.DOTALL)


@contextmanager
def atomic_path(path: Path | str, kind: str = "folder") -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; rename it to ``path`` at the end, remove it on any failure.

    Works for files and folders; the parent folder is made. An existing file is replaced. A folder gets a `MARKER` that
    lists what was written; an existing folder is replaced only where it is empty, or its marker is of the same kind and
    lists all that it holds. What earlier writers of the same path left when they were killed is removed first.

    Args:
        path: The file or folder to write.
        kind: What a folder holds, such as ``"Segmenter"``, for its marker.

    Raises:
        OutputError: The place cannot be written, the disk is full, or a folder there holds what is not ours.
    """
    path = named_path(path)
    path = path.resolve() if path.is_symlink() and path.is_dir() else path
    part = _beside(path, "part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, "not writable", str(path.parent))
        _sweep_beside(path)
        if path.is_dir():
            refuse_foreign(path, kind)
        yield part
        if part.is_dir():
            mark_folder(part, kind, map(escape, _names_below(part)))
            if path.is_dir():
                _exchange(path, part, kind)
        if part.exists():
            part.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        _remove(part)


def _exchange(path: Path, part: Path, kind: str) -> None:
    """Put a new folder in the place of an old one; where it is cut short, `_sweep_beside` puts the old one back."""
    refuse_foreign(path, kind)  # once more: writing may have taken hours
    old = _beside(path, "old")
    path.rename(old)
    try:
        part.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old)


def named_path(path: Path | str) -> Path:
    """Return ``path`` in full, without ``.`` and ``..``.

    Raises:
        OutputError: It has no name of its own, such as ``/``, or is the current folder.
    """
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link at its end
    if not whole.name:
        raise OutputError(f"{path} is no place for a result", "a name of its own", "choose another --out")
    return whole


def _beside(path: Path, kind: str) -> Path:
    """Return a hidden name beside ``path`` that only this process uses; it keeps the suffix, which writers go by."""
    end = f".{kind}-{os.getpid()}{path.suffix}"
    return path.with_name(f".{_short_stem(path, len(os.fsencode(end)) + 1)}{end}")


def hidden_beside(path: Path, end: str) -> Path:
    """Return a hidden name beside ``path`` that ends in ``end``, shortened where it would be too long for a name."""
    name = os.fsencode(path.name)
    if len(name) + len(os.fsencode(end)) + 1 > LONGEST_NAME:
        digest = hashlib.sha256(name).hexdigest()[:12]
        name = (
            name[: LONGEST_NAME - len(os.fsencode(end)) - 14].decode("utf-8", "ignore").encode()
            + b"-"
            + digest.encode()
        )
    return path.with_name(f".{os.fsdecode(name)}{end}")


def _short_stem(path: Path, besides: int) -> str:
    """Return the stem of ``path``, shortened where it and ``besides`` more bytes are too long for a name."""
    stem = path.stem
    if len(os.fsencode(stem)) + besides <= LONGEST_NAME:
        return stem
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:12]
    kept = os.fsencode(stem)[: LONGEST_NAME - besides - 13].decode("utf-8", "ignore")
    return f"{kept}-{digest}"


def _sweep_beside(path: Path) -> None:
    """Remove what killed processes were writing to ``path``; put a folder back that one had just moved aside.

    A process looks once into each folder that it writes files to, since a folder of labels gets thousands of them.
    """
    if path.is_dir() or not path.suffix:  # a folder, which is rare and may be large
        _leftovers.cache_clear()
    for entry, stem, suffix in _leftovers(path.parent):
        besides = len(os.fsencode(entry.name)) - len(os.fsencode(stem))
        if suffix != path.suffix or stem != _short_stem(path, besides):
            continue
        if f".{stem}.old-" in entry.name and not path.exists():
            entry.rename(path)
        else:
            _remove(entry)


@lru_cache(maxsize=64)
def _leftovers(folder: Path) -> tuple[tuple[Path, str, str], ...]:
    """Return each leftover of a killed process in a folder, with stem and suffix of what it was to become."""
    found = [(entry, _LEFTOVER.match(entry.name)) for entry in folder.glob(".*")]
    dead = [(entry, match) for entry, match in found if match is not None and not is_running(int(match["process"]))]
    return tuple((entry, match["stem"], match["suffix"]) for entry, match in dead)


def sweep(folder: Path, held: bool = False) -> None:
    """Remove what killed processes were writing anywhere in a folder of ours.

    Args:
        folder: The folder.
        held: Whether this process holds it (`hold_folder`) and none of its workers is writing: then nobody else is,
            and what is left goes although a process of that number runs (on this machine, or dead and not yet reaped).
    """
    for entry in sorted(folder.rglob(".*")) if folder.is_dir() else []:
        found = _LEFTOVER.match(entry.name)
        if found is not None and (held or not is_running(int(found["process"]))):
            _remove(entry)


def is_leftover(name: str) -> bool:
    """Whether a file's name is one that `atomic_path` writes to."""
    return _LEFTOVER.match(name) is not None


def is_running(process: int) -> bool:
    """Whether another process of this number runs on this machine; where the system does not tell, it is taken to."""
    if process == os.getpid():
        return False  # left by an earlier process that had our number
    if os.name == "nt":
        return True  # os.kill would end it there
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        # Where the parent is no folder, there is nothing to remove and unlink would hide the reason.
        with suppress(OSError):
            path.unlink(missing_ok=True)


def mark_folder(folder: Path, kind: str, ours: Iterable[str]) -> None:
    """Write a folder's marker.

    Args:
        folder: The folder.
        kind: What it holds, such as ``"run of fit"``.
        ours: What in it is ours: paths relative to it with ``/``, where ``*`` stands for anything, folders included.
    """
    text = json.dumps({"made_by": "geodistill", "kind": kind, "ours": sorted(ours)}, indent=1, ensure_ascii=False)
    part = folder / f".{MARKER}.part-{os.getpid()}"
    part.write_text(text + "\n", encoding="utf-8", errors="surrogatepass")
    part.replace(folder / MARKER)


def read_marker(folder: Path) -> tuple[str, tuple[str, ...]] | None:
    """Return kind and patterns of a folder's marker; ``None`` where there is none or it is not readable as one."""
    try:
        data = json.loads((folder / MARKER).read_text(encoding="utf-8", errors="surrogatepass"))
        return str(data["kind"]), tuple(map(str, data["ours"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def foreign_files(folder: Path) -> list[str]:
    """Return the files of a folder that its marker does not list, and links: all of them where it has no marker."""
    marker = read_marker(folder)
    patterns = () if marker is None else marker[1]
    foreign = []
    for name in _names_below(folder):
        own = name in (MARKER, LOCK, HOLDER) or is_leftover(name.rpartition("/")[2])
        if not own and not any(fnmatchcase(name, pattern) for pattern in patterns):
            foreign.append(name)
    return foreign


def refuse_foreign(folder: Path, kind: str | None = None) -> None:
    """Make sure that a folder may be emptied.

    Args:
        folder: The folder.
        kind: What is to take its place: a run of training is ours too, and no place for a model.

    Raises:
        OutputError: It holds what is not ours, or something of ours of another kind.
    """
    marker = read_marker(folder)
    if kind is not None and marker is not None and marker[0] != kind and _names_below(folder) != [MARKER]:
        raise OutputError(f"{folder} holds a {marker[0]}", f"a new folder, or a {kind}", "choose another --out")
    if foreign := foreign_files(folder):
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise OutputError(
            f"{folder} holds what geodistill did not write there ({foreign[0]}{more})",
            "a new or empty folder, or one of an earlier run",
            "choose another --out",
        )


def claim_files(folder: Path, kind: str, names: Iterable[str], write: bool = True) -> None:
    """List files in a folder's marker, so that they are ours to write, beside whatever else the folder holds.

    Args:
        folder: The folder; it is made.
        kind: What the files are, for a folder without a marker.
        names: Paths relative to the folder, with ``/``.
        write: Whether the marker is written, and not only looked at.

    Raises:
        OutputError: One is there already and the marker does not list it, or the folder cannot be written.
    """
    names, marker = list(names), read_marker(folder)
    listed = () if marker is None else marker[1]
    for name in names:
        if (folder / name).exists() and not any(fnmatchcase(name, pattern) for pattern in listed):
            raise OutputError(
                f"{folder / name} would be overwritten, and geodistill did not write it",
                "a new folder, or one of an earlier call",
                "choose another --out",
            )
    if not write:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark_folder(folder, kind if marker is None else marker[0], {*listed, *map(escape, names)})
    except OSError as error:
        raise output_error(folder, error) from error


def empty_folder(folder: Path) -> None:
    """Remove what a folder of ours holds, the marker last; the folder itself stays.

    Raises:
        OutputError: It holds what is not ours; then nothing is removed.
    """
    refuse_foreign(folder)
    try:
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == MARKER):
            if entry.name not in (LOCK, HOLDER):
                _remove(entry)
    except OSError as error:
        raise output_error(folder, error) from error


def _names_below(folder: Path) -> list[str]:
    """Return files and links below a folder, relative to it; links are not followed. Empty folders do not count."""
    names = []
    for place, folders, files in os.walk(folder):
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        names += [(Path(place) / name).relative_to(folder).as_posix() for name in (*files, *linked)]
    return sorted(names)


@contextmanager
def hold_folder(folder: Path, verb: str) -> Iterator[None]:
    """Hold a folder against other commands; a crash frees it. The folder is made.

    Args:
        folder: The folder that is written to.
        verb: What holds it, such as ``"label build"``: told to whoever comes second.

    Raises:
        BusyError: Another command holds it.
        OutputError: It cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, blocking=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / LOCK).is_symlink():
            raise OutputError(f"{folder / LOCK} is a link", "a lock of our own", "remove it")
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"{folder} is in use by {_holder(folder)}", "one command per folder", "wait for it, or stop it"
        ) from error
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        _say_holder(folder, verb)
        yield
    finally:
        with suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def _say_holder(folder: Path, verb: str) -> None:
    about = {"verb": verb, "process": os.getpid(), "machine": socket.gethostname(), "since": time.time()}
    part = folder / f".{HOLDER}.part-{os.getpid()}"
    try:
        part.write_text(json.dumps(about), encoding="utf-8")
        part.replace(folder / HOLDER)
    except OSError as error:
        raise output_error(folder, error) from error


def _holder(folder: Path) -> str:
    try:
        about = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(about["since"])))
        return f"'geodistill {about['verb']}' (process {about['process']} on {about['machine']}, since {since})"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return "another command"


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the error that says in one line why ``path`` could not be written."""
    if error.errno in _FULL or "No space left" in str(error):
        return OutputError(f"the disk is full while writing {path}", "", "free some space or choose another --out")
    reason = error.strerror or str(error)
    return OutputError(f"{path} cannot be written ({reason})", "a writable place", "choose another --out")
