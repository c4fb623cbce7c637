"""What is written down of each stage: that it began, and, last of all, that it is done, with all that it left.

``OUT/done/STAGE.started.json`` says of which key the folder ``OUT/STAGE`` holds an unfinished result.
``OUT/done/STAGE.json`` takes its place when the stage is done: written beside its place and renamed, so that it is
whole or not there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from geodistill.errors import DataError, OutputError, output_errors
from geodistill.files import write_text
from geodistill.folders import empty_folder, foreign_files, mark_folder, names_below, results_within
from geodistill.lazy import load
from geodistill.project.fingerprints import Stamp, stamp_file, visible_files
from geodistill.project.stage_table import KINDS, kind_of
from geodistill.reading import ANNOTATION_BYTES, read_object

FOLDER = "done"
"""Folder of the records."""

_FORMAT = 1


@dataclass(frozen=True)
class StageRecord:
    """A finished stage.

    Attributes:
        key: Its key.
        parts: What the key was made of.
        outputs: Stamp of each file that it left, by its path in the stage's folder.
        taken: Digest of the outputs of each stage that it took results from, as they were.
        facts: What it says of itself, such as scores.
        seconds: How long it took, the last time that it was taken up.
        finished: When, in ISO 8601.
        versions: Of the packages that it ran with.
        summary: One line for people.
        stands_for: Digest of the outputs before the project was moved, which hold the same in other words.
        where: The project's folders when it ran.
        besides: Whether what files rest on besides themselves is in its parts; versions before left it out.
        format: Of this record.
    """

    key: str
    parts: Mapping[str, Any]
    outputs: Mapping[str, Stamp]
    taken: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    finished: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    stands_for: str = ""
    where: str = ""
    besides: bool = False
    format: int = _FORMAT

    @property
    def digest(self) -> str:
        """Digest of the content of all outputs, or the one that it stands for."""
        return self.stands_for or self.content

    @property
    def content(self) -> str:
        """Digest of the content of all outputs, as they are written."""
        contents = sorted((name, stamp[2]) for name, stamp in self.outputs.items())
        return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


def read_record(out: Path, name: str) -> StageRecord | None:
    """Return the record of a finished stage; ``None`` where there is none that can be used."""
    try:
        data = read_object(out / FOLDER / f"{name}.json", ANNOTATION_BYTES)
        data["outputs"] = {file: tuple(stamp) for file, stamp in data["outputs"].items()}
        record = StageRecord(**data)
    except (DataError, TypeError, KeyError, AttributeError):
        return None
    return record if record.format == _FORMAT else None


def write_record(out: Path, name: str, record: StageRecord) -> None:
    """Write that a stage is done.

    Raises:
        OutputError: It cannot be written.
    """
    write_text(out / FOLDER / f"{name}.json", json.dumps(asdict(record), indent=1), errors="surrogatepass")
    with suppress(OSError):
        _started(out, name).unlink(missing_ok=True)


def started_as(out: Path, name: str) -> tuple[str, Mapping[str, str], str]:
    """Return the key of the unfinished result in a stage's folder, what it took, and where it was begun; or nothing."""
    try:
        data = read_object(_started(out, name))
        return str(data["key"]), dict(data["taken"]), str(data.get("where", ""))
    except (DataError, KeyError, TypeError, ValueError):
        return "", {}, ""


def _started(out: Path, name: str) -> Path:
    return out / FOLDER / f"{name}.started.json"


def stamp_outputs(out: Path, name: str, before: StageRecord | None = None) -> dict[str, Stamp]:
    """Return the stamp of every file that a stage left.

    Raises:
        OutputError: One cannot be read.
    """
    folder, known = out / name, {} if before is None else before.outputs
    with output_errors(folder):
        names = _watched(name, visible_files(folder))
        return {file: stamp_file(folder / file, known.get(file)) for file in names}


def _watched(name: str, files: Iterable[str]) -> list[str]:
    """Return those of a stage's files that may not change."""
    patterns = KINDS[kind_of(name)].unwatched
    return [file for file in files if not any(fnmatchcase(file, pattern) for pattern in patterns)]


def changed_output(out: Path, name: str, record: StageRecord) -> str | None:
    """Say what of a finished stage is gone or was reviewed since; ``None`` where all is there, as it was written.

    Raises:
        OutputError: A file is there and holds what no verb of ours wrote.
    """
    folder, kind = out / name, KINDS[kind_of(name)]
    states = {file: _state(folder / file, record.outputs[file]) for file in _watched(name, record.outputs)}
    altered = [file for file, state in states.items() if state == "altered"]
    before = record.outputs.get(kind.decisions)
    reviewed = bool(kind.decisions) and _state(folder / kind.decisions, before) in ("altered", "new")
    if reviewed:
        altered = load(kind.decided)(folder, [file for file in altered if file != kind.decisions])
    if altered:
        raise OutputError(
            f"{folder / altered[0]} was altered since stage {name} wrote it",
            "the file as it was written",
            f"remove it to have it made anew, or move it out of {out} and name it in the project file",
        )
    if reviewed:
        return "its result was reviewed"
    return next((f"{file} is gone" for file, state in states.items() if state == "gone"), None)


def _state(path: Path, stamp: Stamp | None) -> Literal["same", "altered", "new", "gone"]:
    """Return what a file is beside its stamp; without a stamp it is new, or still not there."""
    try:
        now = stamp_file(path, stamp)
    except OSError:
        return "gone"
    return "new" if stamp is None else "same" if now[2] == stamp[2] else "altered"


def begin_stage(
    out: Path, name: str, key: str, taken: Mapping[str, str], record: StageRecord | None, where: str = ""
) -> bool:
    """Make a stage's folder ready: what is there of the same result stays, anything else of ours goes.

    Args:
        out: The project's folder.
        name: The stage.
        key: Its key.
        taken: Digest of the outputs of each stage that it takes results from.
        record: Of the last time it was done.
        where: The project's folders: a result that was begun elsewhere names files there, and begins anew.

    Returns:
        Whether a part of the same result is there.

    Raises:
        OutputError: The folder holds what no stage wrote, or cannot be written.
    """
    folder = out / name
    earlier = [started_as(out, name)]
    if record is not None:
        earlier.append((record.key, dict(record.taken), record.where))
    same = any((key, dict(taken)) == (of, took) and there in ("", where) for of, took, there in earlier)
    used = folder.is_dir() and bool(names_below(folder))
    if used and record is not None and (extra := _extra_file(folder, record, name)):
        raise OutputError(
            f"{folder} holds {extra}, which stage {name} did not write", "its own files alone", "move it elsewhere"
        )
    with output_errors(folder):
        # Until the folder is ready it holds a result of no key, should this be cut short.
        _write_started(out, name, key if same else "", taken, where)
        (out / FOLDER / f"{name}.json").unlink(missing_ok=True)
        if used and not same:
            empty_folder(folder, stays=[decisions] if (decisions := KINDS[kind_of(name)].decisions) else [])
        folder.mkdir(parents=True, exist_ok=True)
        if not KINDS[kind_of(name)].marks:
            mark_folder(folder, "stage of run", ["*"])
        _write_started(out, name, key, taken, where)
    return same and used


def _write_started(out: Path, name: str, key: str, taken: Mapping[str, str], where: str) -> None:
    text = json.dumps({"key": key, "taken": dict(taken), "where": where})
    write_text(_started(out, name), text, errors="surrogatepass")


def _extra_file(folder: Path, record: StageRecord, name: str) -> str:
    if KINDS[kind_of(name)].marks:
        return next(iter(foreign_files(folder, results_within(folder))), "")
    return next((file for file in _watched(name, visible_files(folder)) if file not in record.outputs), "")
