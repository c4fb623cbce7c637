"""Folders of ours: what in them is ours (a marker), who is at work in them (a lock), what killed writers left."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import Any

from geodistill.errors import BusyError, OutputError, output_error, output_errors

MARKER = ".geodistill.json"
"""File of a folder that we made: of which kind it is, and what in it is ours. Nothing else in it is ever removed."""

LOCK, HOLDER = ".geodistill.lock", ".geodistill.lock.json"
"""Files of a folder that a command is at work in, and who that is; both go when it ends."""

_ESCAPED = re.compile(r"\[([*?[])\]")
"""A sign of patterns that stands for itself, as `glob.escape` writes it."""

LEFTOVER = re.compile(r"^\.(?P<stem>.*)\.(?P<kind>part|old)-(?P<process>\d+)(?P<suffix>(\.[^.]*)?)$", re.DOTALL)
"""Names that `geodistill.files.atomic_path` writes to: ``.NAME.part-PROCESS.SUFFIX``."""


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
        data = _own_json(folder / MARKER)
        return str(data["kind"]), tuple(map(str, data["ours"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _own_json(path: Path) -> Any:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise OSError(f"{path} is no plain file")
    return json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))


def _matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return what says whether a name is one of the patterns; a folder may list a hundred thousand plain names."""
    names, others = set[str](), list[str]()
    for pattern in patterns:
        plain = _ESCAPED.sub(r"\1", pattern)
        if escape(plain) == pattern:
            names.add(plain)
        else:
            others.append(pattern)
    return lambda name: name in names or any(fnmatchcase(name, pattern) for pattern in others)


def foreign_files(folder: Path, but: Iterable[str] = ()) -> list[str]:
    """Return the files of a folder that its marker does not list, and links: all of them where it has no marker.

    Args:
        folder: The folder.
        but: Folders and files in it that are left out, such as `results_within` returns.
    """
    left_out = {MARKER, LOCK, HOLDER, *but}
    marker, kept = read_marker(folder), tuple(f"{place}/" for place in left_out)
    listed = _matcher(() if marker is None else marker[1])
    foreign = []
    for name in names_below(folder):
        ours = name in left_out or is_leftover(name.rpartition("/")[2]) or name.startswith(kept)
        if not ours and not listed(name):
            foreign.append(name)
    return foreign


def results_within(folder: Path) -> list[str]:
    """Return the folders within one of ours that another command has made and marked: an evaluation within a run."""
    places = [name.rpartition("/")[0] for name in foreign_files(folder) if name.endswith(f"/{MARKER}")]
    return [place for place in places if not foreign_files(folder / place)]


def _one(kind: str) -> str:
    """Return a kind of folder with its article."""
    return f"{'an' if kind[:1].lower() in tuple('aeiou') else 'a'} {kind}"


def refuse_foreign(folder: Path, kind: str | None = None, but: Iterable[str] = ()) -> None:
    """Make sure that a folder may be emptied.

    Args:
        folder: The folder.
        kind: What is to take its place: a run of training is ours too, and no place for a model.
        but: Folders and files in it that stay.

    Raises:
        OutputError: It holds what is not ours, or something of ours of another kind.
    """
    marker = read_marker(folder)
    if kind is not None and marker is not None and marker[0] != kind and names_below(folder) != [MARKER]:
        raise OutputError(f"{folder} holds {_one(marker[0])}", f"a new folder, or {_one(kind)}", "choose another --out")
    if foreign := foreign_files(folder, but):
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise OutputError(
            f"{folder} holds what geodistill did not write there ({foreign[0]}{more})",
            "a new or empty folder, or one of an earlier run",
            "choose another --out",
        )


def refuse_links(folder: Path, ours: Iterable[str]) -> None:
    """Make sure that nothing that is ours in a folder is a link, by which we would write and remove elsewhere.

    Args:
        folder: The folder; it may be one itself.
        ours: What in it is ours, as `mark_folder` takes it.

    Raises:
        OutputError: Something is a link.
    """
    first = {pattern.partition("/")[0] for pattern in ours}
    for name in names_below(folder):
        if name.partition("/")[0] in first and (folder / name).is_symlink():
            raise OutputError(
                f"{folder / name} is a link", "files and folders of our own", "put in its place what it names"
            )


def claim_files(folder: Path, kind: str, names: Iterable[str], write: bool = True) -> None:
    """List files in a folder's marker, so that they are ours to write, beside whatever else the folder holds.

    Args:
        folder: The folder; it is made.
        kind: What the files are.
        names: Paths relative to the folder, with ``/``.
        write: Whether the marker is written, and not only looked at.

    Raises:
        OutputError: One is there already and the marker does not list it, the folder holds something of ours of
            another kind, or it cannot be written.
    """
    names, marker = list(names), read_marker(folder)
    if marker is not None and marker[0] != kind:
        raise OutputError(f"{folder} holds {_one(marker[0])}", f"a new folder, or {_one(kind)}", "choose another --out")
    listed = () if marker is None else marker[1]
    is_listed = _matcher(listed)
    for name in names:
        if (folder / name).exists() and not is_listed(name):
            raise OutputError(
                f"{folder / name} would be overwritten, and geodistill did not write it",
                "a new folder, or one of an earlier call",
                "choose another --out",
            )
    if not write:
        return
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        mark_folder(folder, kind, {*listed, *map(escape, names)})


def empty_folder(folder: Path, stays: Iterable[str] = ()) -> None:
    """Remove what a folder of ours holds, the marker last; the folder itself and `results_within` it stay.

    Args:
        folder: The folder.
        stays: Files in it that stay too.

    Raises:
        OutputError: It holds what is not ours; then nothing is removed.
    """
    kept = [*results_within(folder), *stays]
    refuse_foreign(folder, but=kept)
    with output_errors(folder):
        _empty(folder, [folder / place for place in kept])


def _empty(folder: Path, kept: list[Path]) -> None:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == MARKER):
        if any(place.is_relative_to(entry) for place in kept):
            if entry not in kept:
                _empty(entry, kept)
        elif entry.name not in (LOCK, HOLDER):
            remove(entry)


def names_below(folder: Path) -> list[str]:
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
        verb: What holds it, such as ``"label build"``, for the message that a second command gets.

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
    with output_errors(folder):
        part.write_text(json.dumps(about), encoding="utf-8")
        part.replace(folder / HOLDER)


def _holder(folder: Path) -> str:
    try:
        about = _own_json(folder / HOLDER)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(about["since"])))
        return f"'geodistill {about['verb']}' (process {about['process']} on {about['machine']}, since {since})"
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "another command"


def sweep(folder: Path, locked: bool = False) -> None:
    """Remove what killed processes were writing anywhere in a folder of ours.

    Args:
        folder: The folder.
        locked: Whether this process holds it (`hold_folder`) and none of its workers is writing: then nobody else is,
            and what is left goes although a process of that number runs (on this machine, or dead and not yet reaped).
    """
    for entry in sorted(folder.rglob(".*")) if folder.is_dir() else []:
        leftover = LEFTOVER.match(entry.name)
        if leftover is not None and (locked or not is_running(int(leftover["process"]))):
            remove(entry)


def is_leftover(name: str) -> bool:
    """Whether a file's name is one that `atomic_path` writes to."""
    return LEFTOVER.match(name) is not None


def is_running(process: int) -> bool:
    """Whether another process of this number runs on this machine; where the system does not tell, it is taken to.

    A dead one that its parent has not waited for yet (a zombie) does not.
    """
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
    try:
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:  # no /proc
        return True
    return state not in (b"Z", b"X")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all it holds; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        # Where the parent is no folder, there is nothing to remove and unlink would hide the reason.
        with suppress(OSError):
            path.unlink(missing_ok=True)
