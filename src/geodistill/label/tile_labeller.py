"""What a worker does: tiles are read, prompted, segmented, mended, painted and written; each gets a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import DataError
from geodistill.label.boxes import Box, boxes_in
from geodistill.label.config import LabelSettings
from geodistill.label.masks import Mask, Runs, fill_polygon
from geodistill.label.output_folder import CHUNK, FOLDERS
from geodistill.label.pixels import Tile, band_names, is_grey, read_tiles, tile_suffix, write_mask, write_tile
from geodistill.label.postprocess import DROPPED, EMPTY, IGNORED, finish, paint
from geodistill.label.segmenters.promptable import PromptableSegmenter, build_prompts, build_segmenter, parse_prompt
from geodistill.label.tile_records import GroundPlace, TileFiles, TileRecord, file_sums
from geodistill.label.tiles import ImageTask, Item, TileTask
from geodistill.raster import Raster
from geodistill.spec import IGNORE_INDEX, Legend

if TYPE_CHECKING:
    from geodistill.label.decisions import Decision


@lru_cache(maxsize=1)
def segmenter_of(name: str, device: str, chunk_file: Path | None = None) -> PromptableSegmenter:
    """Build a segmenter once per process; arguments as those of `build_segmenter`."""
    return build_segmenter(name, device=device, chunk_file=chunk_file)


@dataclass(frozen=True, eq=False)
class TileJob:
    """A tile that was read: ``candidates`` touch it, ``boxes`` belong to it, in its own frame."""

    task: ImageTask
    raster: Raster
    tile: Tile
    candidates: tuple[Box, ...]
    boxes: tuple[Box, ...]


@dataclass(frozen=True, eq=False)
class BoxResult:
    """What became of one box in one tile; ``runs`` is ``None`` where it was dropped for ``reason``.

    A decision is what a person made of it.
    """

    box: Box
    runs: Runs | None
    score: float
    reason: str
    changes: tuple[str, ...]
    decision: Decision | None = None


@dataclass(frozen=True)
class Labeller:
    """Labels tiles; called by `geodistill.engine.run_tasks`, so it is a value that can be sent to another machine.

    Batch is the number of tiles that go through the segmenter's encoder at once.
    """

    settings: LabelSettings
    legend: Legend
    out: Path
    device: str = "auto"
    batch: int = 1

    def __call__(self, item: Item) -> list[TileRecord]:
        """Label some tiles and return a record of each; an image that cannot be read has its error in them.

        Raises:
            GeodistillError: Anything that is no fault of an image: no such segmenter, a full disk.
        """
        records: list[TileRecord] = []
        with ExitStack() as open_files:
            waiting: list[TileJob] = []
            for task in item:
                try:
                    work = list(self.read(task, open_files))
                except DataError as error:
                    records += [TileRecord(task.key, tile.window, error=str(error)) for tile in task.tiles]
                    continue
                records += [TileRecord(task.key, tile.window) for tile in task.tiles if self._skips(tile)]
                waiting += work
                while len(waiting) >= self.batch:
                    records += self._label(waiting[: self.batch])
                    waiting = waiting[self.batch :]
            records += self._label(waiting)
        return records

    def _skips(self, tile: TileTask) -> bool:
        """Whether a tile needs no reading: nothing touches it and empty tiles are not wanted."""
        return not tile.boxes and not self.settings.keeps_empty

    def read(self, task: ImageTask, open_files: ExitStack) -> Iterator[TileJob]:
        """Read the tiles of an image that are to be labelled; files stay open until ``open_files`` is closed.

        Raises:
            DataError: The image cannot be read.
        """
        tiles = [tile for tile in task.tiles if not self._skips(tile)]
        if not tiles:
            return
        raster = open_files.enter_context(Raster(task.image))
        windows = [tile.window for tile in tiles]
        for tile, pixels in zip(tiles, read_tiles(raster, windows, self.settings.bands), strict=True):
            boxes = tuple(boxes_in(tile.boxes, tile.window, self.settings.share))
            yield TileJob(task, raster, pixels, tile.boxes, boxes)

    def _label(self, jobs: Sequence[TileJob]) -> Iterator[TileRecord]:
        """Embed the tiles that have boxes, all at once, and yield the record of each tile."""
        prompted = [job for job in jobs if job.boxes]
        if not prompted:
            yield from (self.write(job, []) for job in jobs)
            return
        segmenter = segmenter_of(self.settings.segmenter, self.device, self.out / CHUNK)
        kinds = parse_prompt(self.settings.prompt)
        embeddings = iter(segmenter.embed([job.tile.rgb for job in prompted]))
        for job in jobs:
            results: list[BoxResult] = []
            if job.boxes:
                masks = segmenter.masks(next(embeddings), build_prompts(job.boxes, kinds))
                results = list(self._finish(job, masks))
            yield self.write(job, results)

    def _finish(self, job: TileJob, masks: Iterable[Mask]) -> Iterator[BoxResult]:
        """Mend each mask as it comes and keep its run lengths only; no object has pixels where the file has no data."""
        height, width = job.tile.valid.shape
        whole = bool(job.tile.valid.all())
        for box, mask in zip(job.boxes, masks, strict=True):
            done = finish(mask, box, self.settings.rules, height, width)
            kept, reason = done.mask, done.reason
            if kept is not None and not whole:
                with_data = kept.pixels & job.tile.valid[kept.place]
                kept, reason = (replace(kept, pixels=with_data), "") if with_data.any() else (None, EMPTY)
            runs = None if kept is None else kept.runs(height, width)
            yield BoxResult(box, runs, mask.score, reason, done.changes)

    def write(self, job: TileJob, results: Sequence[BoxResult]) -> TileRecord:
        """Turn the masks of a tile into its files and its record."""
        height, width = job.tile.valid.shape
        instances = [
            _instance(result, self.legend.names.index(result.box.category), result.runs)
            for result in results
            if result.runs is not None
        ]
        masks = [result.runs for result in results if result.runs is not None]
        classes = [instance["mask_value"] for instance in instances]
        painted = paint(masks, classes, height, width, self.settings.order)
        files = None
        if instances or self.settings.keeps_empty:
            indices = self._with_background(painted.indices, job, results)
            indices[~job.tile.valid] = IGNORE_INDEX
            files = self._write_files(job, indices, instances)
        return TileRecord(
            job.task.key,
            job.tile.window,
            stamp=job.raster.stamp,
            outcomes=tuple((result.box.index, result.reason) for result in results),
            changes=_changes(results),
            painted=(painted.overlapping, painted.between_classes, painted.hidden),
            files=files,
        )

    def _with_background(
        self, indices: NDArray[np.uint8], job: TileJob, results: Sequence[BoxResult]
    ) -> NDArray[np.uint8]:
        """Call everything else background, except where a box lies that gave no label here.

        Where a person says that there is no object, that is background; what is to be ignored is not, all of its mask.
        """
        if self.settings.background is None:
            return indices
        height, width = indices.shape
        unknown = np.zeros_like(indices, bool)
        labelled = {each.box.index for each in results if each.runs is not None or each.reason == DROPPED}
        origin = np.array((job.tile.window.col, job.tile.window.row), np.float64)
        for box in job.candidates:
            if box.index not in labelled:
                mask = fill_polygon(box.polygon - origin, height, width)
                unknown[mask.place] |= mask.pixels
        for each in results:
            if each.decision is not None and each.reason == IGNORED and each.decision.saw_mask:
                mask = Runs.from_coco(each.decision.original["segmentation"]).crop()
                unknown[mask.place] |= mask.pixels
        return np.where((indices == IGNORE_INDEX) & ~unknown, np.uint8(0), indices)

    def _write_files(self, job: TileJob, indices: NDArray[np.uint8], instances: Sequence[dict[str, Any]]) -> TileFiles:
        task, grid = job.task, job.tile.grid
        name = task.file_name(job.tile.window)
        suffix = ".png" if grid is None else ".tif"
        masks = tuple(f"{folder}/{name}{suffix}" for folder in FOLDERS[:2])
        for path, colour in zip(masks, (False, True), strict=True):
            write_mask(self.out / path, indices, grid, self.legend, colour=colour)
        image = ""
        if task.tiled or is_grey(job.raster):
            image = f"{FOLDERS[2]}/{name}{tile_suffix(job.tile, job.raster)}"
            write_tile(self.out / image, job.tile, job.raster)
        lon, lat = (grid.lonlat if grid else None) or (None, None)
        return TileFiles(
            image=image,
            masks=masks,
            sums=file_sums(self.out, (*masks, image) if image else masks),
            bands=tuple(band_names(job.raster)),
            place=GroundPlace(lon, lat, grid.gsd if grid else None, job.raster.acquired),
            instances=tuple(instances),
        )


def _changes(results: Sequence[BoxResult]) -> dict[str, dict[str, int]]:
    """Count what happened to the masks, by class."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        counts.setdefault(result.box.category, Counter()).update(result.changes)
    return {category: dict(sorted(counter.items())) for category, counter in sorted(counts.items()) if counter}


def _instance(result: BoxResult, value: int, runs: Runs) -> dict[str, Any]:
    """Return a COCO annotation without its ids; the oriented box is measured where none was annotated."""
    box = result.box
    left, top, right, bottom = box.hbox
    corners = runs.smallest_rectangle() if box.kind == "hbox" else box.rbox
    first_row, first_column, end_row, end_column = runs.bounds
    about = {
        "box": box.index,
        "mask_value": value,
        "bbox": [first_column, first_row, end_column - first_column, end_row - first_row],
        "annotated_bbox": [round(v, 2) for v in (left, top, right - left, bottom - top)],
        "rbox": [round(v, 2) for v in corners.ravel().tolist()],
        "segmentation": runs.to_coco(),
        "area": runs.area,
        "score": round(float(result.score), 4),
        "changed": list(result.changes),
        "difficult": box.difficult,
        "iscrowd": 0,
    }
    decision = result.decision
    if decision is None:
        return about
    return about | {"reviewed": {"verdict": decision.verdict, "by": decision.by, "at": decision.at}}
