"""Zips as sets are distributed: unpacked once, zips inside zips too, nothing outside the target folder."""

from __future__ import annotations

import shutil
import stat
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path, PurePosixPath

from geodistill.errors import DataError, GeodistillWarning, listed, output_errors
from geodistill.files import atomic_path, write_json
from geodistill.reading import read_object

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".txt", ".csv", ".json", ".xml", ".zip")
"""What is unpacked; elevation models in other formats, papers and programs stay where they are."""

DEEPEST = 3
LARGEST = 200 * 2**30

RECORD = "zips.json"
"""File of a folder of unpacked zips: a digest of what each of them holds, by its folder."""


def unpack_all(archives: Mapping[str, Path], into: Path) -> None:
    """Unpack archives into folders, by name, of one folder, unless that was done before.

    What was unpacked of archives that are no longer there stays, and is named.

    Raises:
        DataError: As of `unpack`, or the folder holds what was unpacked of other archives, or by the version before
            of one that is not known.
        OutputError: The folder cannot be written.
    """
    record, now = into / RECORD, {name: _digest(archive) for name, archive in archives.items()}
    if not record.is_file():
        _take_stems(archives, into)
    before = read_object(record) if record.is_file() else now
    there = {name: digest for name, digest in before.items() if (into / name).is_dir()}
    if others := sorted(name for name in there.keys() & now.keys() if there[name] != now[name]):
        received = f"{into} holds {listed(others)}, unpacked of other zips"
        expected = f"what those of this --root hold, such as {next(iter(archives.values()))}"
        raise DataError(received, expected, "remove those folders, or give another --out")
    if without := sorted(there.keys() - now.keys()):
        message = f"{into} holds {listed(without)}, unpacked of zips that are no longer there; it counts"
        warnings.warn(message, GeodistillWarning, stacklevel=2)
    write_json(record, there | now)
    for name, archive in archives.items():
        unpack(archive, into / name)


def _take_stems(archives: Mapping[str, Path], into: Path) -> None:
    """Move what was unpacked before there was a record, into a folder by the archive's stem, to the archive's name.

    Raises:
        DataError: Several archives have that stem, or the new place lies within that folder.
        OutputError: The folder cannot be moved.
    """
    for stem in sorted({archive.stem for archive in archives.values()}):
        names = [name for name, archive in archives.items() if archive.stem == stem]
        if names == [stem] or not (into / stem).is_dir():
            continue
        target = into / names[0]
        if len(names) > 1 or target.is_relative_to(into / stem):
            received = f"{into / stem}, unpacked by an earlier version of a zip such as {archives[names[0]]}"
            raise DataError(received, f"what that holds in {target}", f"remove {into / stem}; it is unpacked again")
        with output_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            (into / stem).replace(target)


def _digest(archive: Path) -> str:
    with _whole(archive), zipfile.ZipFile(archive) as file:
        members = [(member.filename, member.CRC, member.file_size) for member in file.infolist()]
    return sha256(ascii(members).encode()).hexdigest()


@contextmanager
def _whole(archive: Path) -> Iterator[None]:
    """Say of an archive that cannot be read why."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{archive} is cut short or no zip ({error})", "a whole archive", "fetch it again") from error
    except (NotImplementedError, RuntimeError) as error:
        raise DataError(f"{archive} cannot be unpacked ({error})", "a plain zip without a password") from error


def unpack(archive: Path, into: Path, depth: int = 0) -> None:
    """Unpack an archive into a folder of its own, unless that was done before.

    The folder appears whole or not at all. A zip inside is unpacked in turn, into a folder by its name.

    Raises:
        DataError: The archive is cut short or no zip, names a path outside its folder, holds a link, or is nested
            or inflated beyond reason.
        OutputError: The folder cannot be written.
    """
    if into.is_dir():
        return
    if depth >= DEEPEST:
        raise DataError(f"{archive} lies in {depth} archives", f"at most {DEEPEST - 1}")
    with _whole(archive), zipfile.ZipFile(archive) as file, atomic_path(into) as part:
        part.mkdir(parents=True)
        members = [member for member in file.infolist() if _wanted(archive, member)]
        total = sum(member.file_size for member in members)
        if total > LARGEST:
            raise DataError(f"{archive} inflates to {total / 2**30:.0f} GiB", f"at most {LARGEST / 2**30:.0f}")
        for member in members:
            _extract(file, member, part)
        for inner in sorted(part.rglob("*.zip")):
            unpack(inner, _beside(inner), depth + 1)
            inner.unlink()


def _beside(inner: Path) -> Path:
    """Return a folder that is not there yet for what a zip inside holds: one of its name may lie beside it."""
    folder, number = inner.with_suffix(""), 2
    while folder.exists():
        folder, number = inner.with_name(f"{inner.stem}-{number}"), number + 1
    return folder


def _wanted(archive: Path, member: zipfile.ZipInfo) -> bool:
    """Whether a member is a file to unpack; one whose path leads out of the folder, or a link, is refused."""
    name = PurePosixPath(member.filename.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        raise DataError(f"{archive} names {member.filename}, outside its folder", "paths inside")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(f"{archive} holds the link {member.filename}", "files only")
    return not member.is_dir() and name.suffix.lower() in SUFFIXES and name.parts[0] != "__MACOSX"


def _extract(file: zipfile.ZipFile, member: zipfile.ZipInfo, into: Path) -> None:
    target = into / member.filename.replace("\\", "/")
    target.parent.mkdir(parents=True, exist_ok=True)
    with file.open(member) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 2**20)
