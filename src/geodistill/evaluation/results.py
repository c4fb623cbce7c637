"""The folder of an evaluation's files: locked while it is written, and never written over what is not ours."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from geodistill.data.manifest import Row
from geodistill.description import DESCRIPTION, WEIGHTS, find_segmenter
from geodistill.errors import ArtifactError, OutputError
from geodistill.evaluation.shown_images import FOLDER, shown_names
from geodistill.evaluation.shown_images import KIND as IMAGES_KIND
from geodistill.files import check_outputs
from geodistill.folders import claim_files, hold_folder, refuse_foreign
from geodistill.raster.source import every_file
from geodistill.segmenter import Segmenter

KIND = "evaluation"
REPORT = "report.html"
"""The page that those who call `evaluate` write there (`geodistill.report.write_report`)."""

OBJECTS = "objects.json"
"""Scores of objects, which those who ask for them write there."""

FILES = ("metrics.json", "metrics.csv", "per_image.csv", "confusion.png", OBJECTS, REPORT)
_TOGETHER = 5000
"""Images whose sources are looked up in one go."""


def check_place(out: Path) -> None:
    """Refuse a directory that cannot be made or written, before any work is done.

    Raises:
        OutputError: It cannot.
    """
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        reason = "not writable" if nearest.is_dir() else "not a directory"
        raise OutputError(
            f"{out} cannot be written ({nearest} is {reason})", "a writable place", "choose another --out"
        )


@contextmanager
def hold_results(out: Path | None, worst: int, inputs: Sequence[Path | str]) -> Iterator[None]:
    """Hold the folder of the results, once it is certain that writing them costs nobody a file.

    Args:
        out: The folder; nothing is done where there is none.
        worst: Pictures of the worst images at most.
        inputs: Every file that is read.

    Raises:
        OutputError: A result would be written over an input or a file that is not ours, or the folder cannot be
            written.
        BusyError: Another command is at work in it.
    """
    if out is None:
        yield
        return
    names = _names(worst)
    check_outputs([out / name for name in names], inputs)
    claim_files(out, KIND, names, write=False)
    if (out / FOLDER).is_dir():
        refuse_foreign(out / FOLDER, IMAGES_KIND)
    with hold_folder(out, "evaluate"):
        yield


def claim_results(out: Path, worst: int) -> None:
    """List the results in the folder's marker, before they are written.

    Raises:
        OutputError: One is there already and is not ours.
    """
    claim_files(out, KIND, _names(worst))


def read_files(rows: Sequence[Row], *others: Path | str | None) -> list[Path | str]:
    """Return every local file behind some images and their masks, and ``others`` that are given."""
    names = [str(path) for row in rows for path in (row.image, row.mask) if path is not None]
    files: list[Path | str] = [other for other in others if other is not None]
    for first in range(0, len(names), _TOGETHER):
        files += every_file(names[first : first + _TOGETHER])
    return files


def model_files(model: Segmenter | Path | str) -> list[Path | str]:
    """Return the files of a model that was named by its folder or run."""
    if isinstance(model, Segmenter):
        return []
    try:
        folder = find_segmenter(model)
    except ArtifactError:
        return []  # loading it will tell
    return [folder / DESCRIPTION, folder / WEIGHTS]


def _names(worst: int) -> list[str]:
    return [*FILES, *shown_names(worst)]
