"""Two maps read side by side, strip by strip: what each pixel was, and what it has become."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from geodistill.change.legends import CommonClasses
from geodistill.errors import DataError
from geodistill.inference.any_map import AnyMap
from geodistill.inference.map_file import map_strips
from geodistill.inference.sliding import STEPS
from geodistill.raster import Grid, Raster
from geodistill.raster.patch_labels import NONE
from geodistill.spec import IGNORE_INDEX


@dataclass(frozen=True)
class PairStrip:
    """Some whole rows of two maps.

    Attributes:
        top: First row.
        mapped: Pixels of which the first map knows the class, whatever the second does.
        before: ``(rows, W)`` uint8 common classes of the first map; `IGNORE_INDEX` where either has no data.
        after: Likewise of the second.
        codes: ``(rows, W)`` int32: ``before * K + after`` where the class changed, else `NONE`.
    """

    top: int
    mapped: int
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    codes: NDArray[np.int32]


@dataclass(frozen=True)
class MapPair:
    """Two maps on one grid.

    Attributes:
        names: Names of the two files.
        places: Where each of them lies, as it came.
        before: The first map.
        after: The second, on the grid of the first.
        confidence: Their maps of confidence, where given.
        grid: Of all of them.
        classes: Their classes brought together.
        tolerance: Pixels by which the maps may be shifted against each other; see `may_be_shifted`.
    """

    names: tuple[str, str]
    places: tuple[Grid, Grid]
    before: AnyMap
    after: AnyMap
    confidence: tuple[Path, Path] | None
    grid: Grid
    classes: CommonClasses
    tolerance: int

    def strips(self) -> Iterator[PairStrip]:
        """Yield the rows of both, in flat memory.

        Raises:
            DataError: A map is truncated or corrupt, or has values that mean nothing.
        """
        count = len(self.classes.legend)
        both = (one.haloed_strips(self.tolerance) for one in (self.before, self.after))
        for (top, here, old), (_, _, new) in zip(*both, strict=True):
            before, after = self.classes.before[old], self.classes.after[new]
            mapped = int(np.count_nonzero(before[here] != IGNORE_INDEX))
            missing = (before == IGNORE_INDEX) | (after == IGNORE_INDEX)
            before[missing] = after[missing] = IGNORE_INDEX
            changed = before != after
            if self.tolerance:
                changed &= ~may_be_shifted(before, after, changed, self.tolerance)
            codes = np.where(changed, before.astype(np.int32) * count + after, NONE).astype(np.int32)
            yield PairStrip(top, mapped, before[here], after[here], codes[here])

    def confidences(self) -> Iterator[NDArray[np.uint8]]:
        """Yield ``(rows, 3, W)`` of each strip: the product of both confidences, that before, and that after.

        Bytes of 1/`STEPS`, `IGNORE_INDEX` where either map has no data.

        Raises:
            DataError: A map is truncated or corrupt, or holds other samples.
        """
        assert self.confidence is not None
        for path in self.confidence:
            require_bytes(path)
        both = (map_strips(path, None, self.grid) for path in self.confidence)
        for old, new in zip(*both, strict=True):
            missing = (old.classes == IGNORE_INDEX) | (new.classes == IGNORE_INDEX)
            product = np.rint(old.classes.astype(np.float32) * new.classes / STEPS).astype(np.uint8)
            bands = [np.where(missing, np.uint8(IGNORE_INDEX), band) for band in (product, old.classes, new.classes)]
            yield np.stack(bands, axis=1)


def require_bytes(path: Path) -> None:
    """Make sure that a map of confidence is one as `predict` writes it.

    Raises:
        DataError: It holds other samples than bytes.
    """
    with Raster(path) as raster:
        kind = raster.label_dtype
    if kind != np.uint8:
        raise DataError(f"{path} holds {kind}", "a map of confidence written by 'geodistill predict --confidence'")


def may_be_shifted(
    before: NDArray[np.uint8], after: NDArray[np.uint8], changed: NDArray[np.bool_], tolerance: int
) -> NDArray[np.bool_]:
    """Return which changes may be nothing but a shift of the maps by up to ``tolerance`` pixels.

    Those where the new class lay within so many rows and columns before, and the old one lies so near now: along a
    border that moved by no more. What is new and apart stays, however small, and so does the inside of what grew::

        before  a a a b b b      after  a a b b b b      the third pixel may be shifted
        before  a a a a a a      after  a a b a a a      the third pixel changed
    """
    around = np.ones((2 * tolerance + 1, 2 * tolerance + 1), np.uint8)
    shifted = changed.copy()
    for classes, other in ((before, after), (after, before)):
        near = np.zeros(changed.shape, bool)
        for index in np.unique(other[changed]).tolist():
            beside = cv2.dilate((classes == index).view(np.uint8), around) > 0
            near |= beside & (other == index)
        shifted &= near
    return shifted
