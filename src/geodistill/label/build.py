"""``label build``: a detection data set becomes a segmentation data set, and every box's fate is told."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from geodistill.engine import Engine, TaskResult, WorkerError, run_tasks
from geodistill.errors import DataError, GeodistillError, OutputError, RecipeError
from geodistill.files import atomic_path
from geodistill.label.assemble import ACCOUNT, Run, assemble
from geodistill.label.boxes import read_boxes, tell_unmatched
from geodistill.label.journal import NAME as JOURNAL
from geodistill.label.journal import Journal, Record
from geodistill.label.labeller import CHUNK, Labeller
from geodistill.label.plan import Item, TileId, batches, check_names, fingerprint, plan
from geodistill.label.records import Annotations
from geodistill.label.settings import Settings
from geodistill.raster import Raster

ABOUT = "settings.json"
LEFTOVER = re.compile(r"\..*\.(part|old)-\d+(\..*)?$")
"""Files that a killed process was writing."""


GPU_BATCH = 8
"""Tiles at once that keep a GPU busy with any of the encoders; their features take 4 MiB each."""


@dataclass(frozen=True)
class Work:
    """How the work is done; nothing of it changes the result.

    Attributes:
        engine: ``local`` or ``ray``.
        workers: Items at once.
        address: Ray cluster to join.
        device: Where the segmenter runs.
        batch: Tiles that go through the segmenter's encoder at once; by default `GPU_BATCH` for a network on a GPU and
            1 otherwise, so that a killed run loses little.
        gpus: GPUs, or share of one, that Ray sets aside for each item.
    """

    engine: Engine = "local"
    workers: int = 1
    address: str | None = None
    device: str = "auto"
    batch: int | None = None
    gpus: float = 0


def build(
    settings: Settings,
    out: Path | str,
    *,
    work: Work | None = None,
    resume: bool = False,
    keep_going: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Label every image of a detection data set.

    The folder then holds ``gray/`` and ``color/`` (masks), ``images/`` (tiles, where images were cut),
    ``instances.json`` (COCO), ``manifest.parquet`` (for ``fit``), ``legend.yaml``, ``settings.json`` and
    ``label.json`` (where every image and box went). A killed run is continued with ``resume`` and ends with the same
    bytes as one that was not killed; images that failed are tried again.

    Args:
        settings: What to do.
        out: A new folder, or with ``resume`` that of an earlier run.
        work: How.
        resume: Continue.
        keep_going: Take images that do not decode as told and done; otherwise they make the run end in an error,
            after everything else has been labelled.
        progress: Show progress bars on a terminal.

    Returns:
        What ``label.json`` holds.

    Raises:
        DataError: Annotations or images cannot be used, or an image failed and ``keep_going`` is not set.
        OutputError: The folder holds another run or anything else, or cannot be written.
        AccountingError: An image or box got lost.
    """
    out, work = Path(out), work or Work()
    annotations = read_boxes(
        settings.format,
        settings.boxes,
        settings.images,
        categories=settings.classes,
        keep_difficult=settings.keep_difficult,
        category_field=settings.category_field,
        progress=progress,
    )
    check_names(annotations)
    legend = settings.legend(annotations.categories)
    prepare(out, settings.to_dict() | {"input": fingerprint(annotations)}, resume)
    if (out / ACCOUNT).is_file():
        if not (out / JOURNAL).is_file():
            return read_account(out)  # finished, and nothing failed
        (out / ACCOUNT).unlink()
    with Journal(out) as journal:
        done = _still_done(out, journal)
        tasks = list(plan(annotations, settings.tile, settings.overlap))
        batch = _batch(settings.segmenter, work)
        items = batches(iter(tasks), done, batch)
        labeller = Labeller(settings, legend, out.absolute(), work.device, batch)
        _label(labeller, items, work, journal, progress)
        run = Run(out, settings, legend, annotations, sum(len(t.tiles) for t in tasks), unopened(annotations))
        account = assemble(run, journal, progress=progress)
        _close(out, journal, {failure["key"] for failure in account["failures"]})
    return _told_failures(account, out, keep_going)


def _told_failures(account: dict[str, Any], out: Path, keep_going: bool) -> dict[str, Any]:
    failures = account["failures"]
    if failures and not keep_going:
        names = tell_unmatched([failure["image"] for failure in failures])
        raise DataError(
            f"{len(failures)} of {account['images']['in']} images failed: {names} ({failures[0]['error']})",
            "",
            f"the rest is in {out}; mend them and run again with --resume, or accept it with --keep-going",
        )
    return account


def prepare(out: Path, about: dict[str, Any], resume: bool) -> None:
    """Make a new folder for a run, or make sure that an existing one is of the same run.

    Args:
        out: The folder.
        about: What the run's result depends on, JSON-ready.
        resume: Whether an earlier run may be continued.

    Raises:
        OutputError: The folder holds something else, or cannot be written.
    """
    path = out / ABOUT
    held = [entry for entry in out.iterdir() if not LEFTOVER.match(entry.name)] if out.is_dir() else []
    if held and not path.is_file():
        raise OutputError(f"{out} is not empty and holds no run of 'label build'", "a new folder")
    if path.is_file():
        if not resume:
            raise OutputError(f"{out} holds a run already", "a new folder", "continue that run with --resume")
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise OutputError(f"{path} cannot be read ({error})", "a folder that 'label build' wrote") from error
        if changed := [key for key in {**earlier, **about} if earlier.get(key) != about.get(key)]:
            was = ", ".join(f"{key} was {earlier.get(key)!r}, is {about.get(key)!r}" for key in sorted(changed)[:3])
            raise OutputError(f"{out} holds a run with other settings ({was})", "the same settings", "use a new folder")
    sweep(out)
    with atomic_path(path) as part:
        part.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sweep(out: Path) -> None:
    """Remove what killed processes were writing in a folder."""
    leftovers = [path for path in out.rglob(".*") if LEFTOVER.match(path.name)] if out.is_dir() else []
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _still_done(out: Path, journal: Journal) -> set[TileId]:
    """Give the tiles that need no more work: written down without error, with their files in place."""
    done = set()
    for tile in journal.tiles():
        record = journal.read(tile)
        files = [out / name for name in (*record.get("masks", ()), record.get("image", "")) if name]
        if not record["error"] and all(path.is_file() for path in files):
            done.add(tile)
    return done


def _batch(segmenter: str, work: Work) -> int:
    """Give the number of tiles that a worker takes at once."""
    if work.batch is not None:
        if work.batch < 1:
            raise RecipeError(f"batches of {work.batch} tiles", "at least 1")
        return work.batch
    if ":" not in segmenter or work.device == "cpu":
        return 1
    import torch  # only networks need it, and it takes seconds to import

    return GPU_BATCH if work.gpus or torch.cuda.is_available() else 1


def _label(labeller: Labeller, items: list[Item], work: Work, journal: Journal, progress: bool) -> None:
    tiles = sum(len(task.tiles) for item in items for task in item)
    results: Iterator[TaskResult[Item, list[Record]]] = run_tasks(
        labeller,
        items,
        engine=work.engine,
        workers=work.workers,
        address=work.address,
        keep_going=True,
        gpus=work.gpus,
    )
    with tqdm(total=tiles, desc="labelling", unit="tile", disable=not (progress and sys.stderr.isatty())) as bar:
        for result in results:
            if result.value is not None:
                journal.append(result.value)
            elif isinstance(result.error, WorkerError):
                journal.append(_lost(result.item, result.error))
            elif result.error is not None:
                raise result.error
            bar.update(sum(len(task.tiles) for task in result.item))


def _lost(item: Item, error: GeodistillError) -> list[Record]:
    """Give the records of tiles whose worker died each time."""
    return [
        {"key": task.key, "window": [w.row, w.col, w.height, w.width], "error": str(error)}
        for task in item
        for w in (tile.window for tile in task.tiles)
    ]


def unopened(annotations: Annotations) -> dict[str, str]:
    """Say by its key why each image without a size cannot be opened."""
    reasons = {}
    for image in annotations.images:
        if not image.width or not image.height:
            try:
                Raster(image.image).close()
                reasons[image.key] = f"{image.image} could not be opened when the boxes were read"
            except DataError as error:
                reasons[image.key] = str(error)
    return reasons


def _close(out: Path, journal: Journal, failed: set[str]) -> None:
    """End a run: the journal goes, or keeps what need not be done again where images failed."""
    if failed:
        journal.keep(tile for tile in journal.tiles() if tile[0] not in failed)
    else:
        journal.remove()
        (out / CHUNK).unlink(missing_ok=True)
    sweep(out)


def read_account(folder: Path | str) -> dict[str, Any]:
    """Read the account of a finished run.

    Raises:
        DataError: The folder holds none.
    """
    path = Path(folder) / ACCOUNT
    try:
        account: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error})", "the folder of a finished 'label build'") from error
    return account
