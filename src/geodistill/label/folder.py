"""The output folder of ``label build``: whose it is, and which run it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geodistill.errors import OutputError, output_error
from geodistill.files import atomic_path
from geodistill.folders import HOLDER, LOCK, MARKER, is_leftover, mark_folder, sweep
from geodistill.label.assemble import ACCOUNT, INSTANCES, LEGEND, MANIFEST
from geodistill.label.ledger import NAME as JOURNAL
from geodistill.label.worker import CHUNK, FOLDERS
from geodistill.reading import read_object
from geodistill.writing import json_text

ABOUT = "settings.json"
KIND = "label set"
OURS = (ABOUT, ACCOUNT, INSTANCES, LEGEND, MANIFEST, JOURNAL, CHUNK, *(f"{name}/*" for name in FOLDERS))
"""What of the folder a run writes."""

_TOLD = {
    "annotations": "the annotation files or their classes are others",
    "image_names": "images were added, removed or renamed",
    "weights": "the segmenter's weights have changed",
}


def refuse_other(out: Path, resume: bool) -> dict[str, Any] | None:
    """Return what the run in a folder is about; ``None`` where the folder is new or empty.

    Raises:
        OutputError: It holds something else, a link in place of a file of ours, or a run that is not to be continued.
    """
    own = (MARKER, LOCK, HOLDER)
    entries = list(out.iterdir()) if out.is_dir() else []
    held = [entry for entry in entries if entry.name not in own and not is_leftover(entry.name)]
    path = out / ABOUT
    if held and not path.is_file():
        raise OutputError(f"{out} is not empty and holds no run of 'label build'", "a new folder")
    if not path.is_file():
        return None
    if not resume:
        raise OutputError(f"{out} holds a run already", "a new folder", "continue that run with --resume")
    for entry in held:
        if entry.is_symlink():
            raise OutputError(f"{entry} is a link", "files of our own", "use a new folder")
    return read_object(path, error=OutputError)


def begin(out: Path, about: dict[str, Any], earlier: dict[str, Any] | None) -> None:
    """Write down what a run is about and whose the folder is; remove what killed processes left there.

    Args:
        out: The folder.
        about: What the run's result depends on, JSON-ready.
        earlier: The same of the run that is continued, or ``None``.

    Raises:
        OutputError: They differ, or the folder cannot be written.
    """
    if earlier is not None and (changed := [k for k in {**earlier, **about} if earlier.get(k) != about.get(k)]):
        was = ", ".join(_difference(key, earlier.get(key), about.get(key)) for key in sorted(changed)[:3])
        raise OutputError(f"{out} holds a run with other settings ({was})", "the same settings", "use a new folder")
    sweep(out, held=True)
    with atomic_path(out / ABOUT) as part:
        part.write_text(json_text(about, 2) + "\n", encoding="utf-8")
    try:
        mark_folder(out, KIND, OURS)
    except OSError as error:
        raise output_error(out / MARKER, error) from error


def _difference(key: str, was: Any, now: Any) -> str:
    return _TOLD[key] if key in _TOLD and was is not None else f"{key} was {was!r}, is {now!r}"
