"""Windows of image and mask straight from the files, with a bounded number of open files and a bounded cache."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geodistill.data.manifest import Manifest, Row
from geodistill.data.mask_files import decode_mask, size_mismatch_error, unknown_labels_error
from geodistill.errors import DataError
from geodistill.raster import Raster, Window
from geodistill.raster.grid import read_padded
from geodistill.raster.raster import open_image
from geodistill.raster.source import is_local
from geodistill.spec import IGNORE_INDEX, Legend

SMALL_PIXELS = 1024 * 1024
"""Tiled images above this size are read by window from the file and never cached whole."""


@dataclass(frozen=True)
class Patch:
    """A piece of an image with its labels, before or after augmentation.

    Attributes:
        image: ``(C, H, W)`` float32, sensor units; 0 where not valid.
        mask: ``(H, W)`` uint8 class indices; `IGNORE_INDEX` where ignored, not valid or unlabelled.
        valid: ``(H, W)`` bool.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.uint8]
    valid: NDArray[np.bool_]


def refuse_moved(manifest: Manifest) -> None:
    """Refuse a manifest that lies elsewhere than when it was written: the first image of no split is there.

    Raises:
        DataError: It does.
    """
    firsts = {row.split: row.image for row in reversed(manifest.entries)}
    names = [str(image) for image in firsts.values()]
    present = any(not is_local(name) or os.path.isfile(name) for name in names)  # noqa: PTH113 - too long: no file
    if manifest.path is not None and firsts and not present:
        raise DataError(f"no file {manifest.entries[0].image}, the first image of {manifest.path}", *MOVED)


MOVED = (
    "images where the manifest says, most often by a path from its own folder",
    "was it moved? move the images along, or scan again",
)
"""What was expected of a manifest whose images are not there, and the mend."""


class PatchReader(Protocol):
    """Reads windows of a manifest's rows."""

    def read(self, row: Row, window: Window) -> Patch:
        """Read a window, relative to the row's own, which may reach beyond it: what lies there is not valid."""
        ...


class WindowReader:
    """Reads windows of manifest rows.

    Open files belong to the process that opened them: a forked or spawned worker starts with none, since GDAL
    handles must not be shared. Decoded images are kept in memory where the file has no tiles (JPEG, PNG, striped
    TIFF: a window costs the decoding of all rows above it) or is small, until the budget is used up; nothing is
    pushed out, because random draws over more images than fit would then miss at every read.

    Args:
        legend: The classes, or ``None`` to leave masks unread.
        bands: Names of the bands that each image must have: found by these where it has them all, else as they lie.
        ignore_unknown: Take labels in no legend entry as ignored instead of refusing them.
        handles: Files held open at most.
        cache_mb: Budget for decoded images, in MiB, of this process; 0 keeps none.
    """

    def __init__(
        self,
        legend: Legend | None,
        bands: Sequence[str],
        *,
        ignore_unknown: bool = False,
        handles: int = 64,
        cache_mb: int = 0,
    ) -> None:
        self._legend, self._bands, self._ignore_unknown = legend, bands, ignore_unknown
        self._handles, self._budget = max(handles, 2), cache_mb * 2**20
        self._begin()

    def _begin(self) -> None:
        self._open: OrderedDict[Path, Raster] = OrderedDict()
        self._images: dict[Path, tuple[NDArray[Any], NDArray[np.bool_]]] = {}
        self._masks: dict[Path, NDArray[np.uint8]] = {}
        self._held, self._fitting = 0, set[Path]()
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files and cached pixels behind when a worker is spawned."""
        of_this_process = ("_open", "_images", "_masks", "_held", "_fitting", "_pid")
        return {key: value for key, value in self.__dict__.items() if key not in of_this_process}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def close(self) -> None:
        """Close all files and drop the cache."""
        for raster in self._open.values():
            raster.close()
        self._begin()

    def read(self, row: Row, window: Window) -> Patch:
        """Read a window of a row.

        Args:
            row: Image and mask. Nothing outside the row's own window is read.
            window: Relative to the row's window; may reach beyond it, and what lies there is not valid.

        Raises:
            DataError: A file is missing, corrupt, of another size than its companion or than when it was scanned,
                has another number of bands, or has a label outside the legend.
        """
        self._check_process()

        def read(inside: Window) -> tuple[NDArray[Any], ...]:
            self._check_fit(row)
            pixels, valid = self._read_image(row.image, inside)
            image = np.where(valid, pixels, 0).astype(np.float32, copy=False)
            if row.mask is None or self._legend is None:
                return image, np.full(valid.shape, IGNORE_INDEX, np.uint8), valid.copy()
            labels = self._read_mask(row.mask, self._legend, inside)
            return image, np.where(valid, labels, np.uint8(IGNORE_INDEX)), valid.copy()  # not a part of the cache

        def blank(height: int, width: int) -> tuple[NDArray[Any], ...]:
            image = np.zeros((len(self._bands), height, width), np.float32)
            return image, np.full((height, width), IGNORE_INDEX, np.uint8), np.zeros((height, width), bool)

        return Patch(*read_padded(window.moved(row.window.row, row.window.col), row.window, read, blank))

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            # Forked: the parent's handles are forgotten, not closed; the list keeps them from being finalised here.
            _inherited.append(self._open)
            self._begin()

    def _check_fit(self, row: Row) -> None:
        """Once a file pair: bands and sizes as the manifest says."""
        if row.image in self._fitting:
            return
        raster = self._raster(row.image, self._bands)
        size = (raster.grid.height, raster.grid.width)
        if raster.channels != len(self._bands):
            raise DataError(
                f"{row.image} has {raster.channels} bands", f"{len(self._bands)} bands", "choose images of one kind"
            )
        if row.window.intersection(*size) != row.window:
            raise DataError(f"{row.image} is {size[1]} x {size[0]}", "the size it had when scanned", "scan again")
        if row.mask is not None and self._legend is not None:
            mask = self._raster(row.mask)
            if (mask.grid.height, mask.grid.width) != size:
                raise size_mismatch_error(row.image, size, row.mask, (mask.grid.height, mask.grid.width))
        self._fitting.add(row.image)

    def _read_image(self, path: Path, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        if path not in self._images:
            raster = self._raster(path, self._bands)
            whole = raster.grid.whole
            if window != whole and not self._worth_keeping(raster, len(self._bands) * raster.dtype.itemsize + 1):
                return raster.read(window)
            pixels, valid = raster.read(whole)
            if not self._keep(raster, pixels.nbytes + valid.nbytes):
                return pixels[(..., *window.slices)], valid[window.slices]
            self._images[path] = (pixels, valid)
        pixels, valid = self._images[path]
        return pixels[(..., *window.slices)], valid[window.slices]

    def _read_mask(self, path: Path, legend: Legend, window: Window) -> NDArray[np.uint8]:
        if path not in self._masks:
            raster = self._raster(path)
            whole = raster.grid.whole
            if window != whole and not self._worth_keeping(raster, 1):
                return self._decode(raster, legend, window)
            indices = self._decode(raster, legend, whole)
            if not self._keep(raster, indices.nbytes):
                return indices[window.slices]
            self._masks[path] = indices
        return self._masks[path][window.slices]

    def _decode(self, raster: Raster, legend: Legend, window: Window) -> NDArray[np.uint8]:
        indices, unnamed = decode_mask(raster, legend, window)
        if unnamed and not self._ignore_unknown:
            raise unknown_labels_error(raster.path, unnamed, legend)
        return indices

    def _worth_keeping(self, raster: Raster, pixel_bytes: int) -> bool:
        """Whether the whole file should be decoded now and kept."""
        pixels = raster.grid.height * raster.grid.width
        return (not raster.tiled or pixels <= SMALL_PIXELS) and self._held + pixels * pixel_bytes <= self._budget

    def _keep(self, raster: Raster, size: int) -> bool:
        """Account for decoded pixels if they are to be kept; the file itself is no longer needed then."""
        if not self._worth_keeping(raster, 0) or self._held + size > self._budget:
            return False
        self._held += size
        self._open.pop(raster.path, raster).close()
        return True

    def _raster(self, path: Path, bands: Sequence[str] | None = None) -> Raster:
        raster = self._open.pop(path, None) or (Raster(path) if bands is None else open_image(path, bands))
        self._open[path] = raster
        while len(self._open) > self._handles:
            self._open.popitem(last=False)[1].close()
        return raster


_inherited: list[OrderedDict[Path, Raster]] = []
"""Handles a forked worker got from its parent and must neither use nor close."""
