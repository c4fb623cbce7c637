"""Leakage: images of different splits that overlap on the ground or look alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from geodistill.data.manifest import Manifest, Row
from geodistill.engine import progress_bar
from geodistill.errors import DataError
from geodistill.raster import Grid, Raster, Window
from geodistill.raster.ground import Ground, outline_in_degrees

SHRUNK = 256
"""Images are read at about this size for their fingerprint."""

_SHOWN = 5
"""Pairs of each kind that the text names."""


@dataclass(frozen=True)
class Leak:
    """Two images of different splits, by their keys.

    ``overlap``: they share ground, by ``amount`` of the smaller one's. ``alike``: so many of 64 bits of their
    fingerprints differ.
    """

    kind: Literal["overlap", "alike"]
    first: str
    second: str
    splits: tuple[str, str]
    amount: float

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self)


def find_leaks(manifest: Manifest, distance: int = 4, *, progress: bool = False) -> list[Leak]:
    """Compare every two labelled images of different splits; fingerprints are alike up to ``distance`` of 64 bits.

    Raises:
        DataError: A file cannot be read.
    """
    rows = [row for row in manifest.entries if row.split != "unlabelled" and row.window.height]
    prints, grounds = [], []
    for row in progress_bar(rows, "fingerprints", progress, unit="image"):
        print_of_row, ground = _look(row)
        prints.append(print_of_row)
        grounds.append(ground)
    return [*_overlaps(rows, grounds), *_alike(rows, np.array(prints, np.uint64), distance)]


def fingerprint(image: NDArray[Any]) -> int:
    """Return 64 bits that say where an image ``(C, H, W)`` grows brighter from left to right, on a grid of 8 x 8."""
    grey = cv2.resize(image.astype(np.float32).mean(0), (9, 8), interpolation=cv2.INTER_AREA)
    return int(np.packbits(grey[:, 1:] > grey[:, :-1]).view(">u8")[0])


def format_leaks(leaks: Sequence[Leak], manifest: Manifest) -> str:
    """Write leaks as the text that ``data leakage`` prints."""
    counts = Counter(row.split for row in manifest.entries)
    lines = []
    for kind, what in (("overlap", "share ground"), ("alike", "look alike")):
        of_kind = [leak for leak in leaks if leak.kind == kind]
        touched = {name for leak in of_kind for name, split in zip((leak.first, leak.second), leak.splits, strict=True)
                   if split == "test"}  # fmt: skip
        share = f" ({len(touched)} of {counts['test']} test images)" if counts["test"] else ""
        lines.append(f"{len(of_kind)} pairs of different splits {what}{share}")
        lines += [f"  {k.splits[0]} {k.first} | {k.splits[1]} {k.second} ({k.amount:.3g})" for k in of_kind[:_SHOWN]]
        lines += [f"  ... and {len(of_kind) - _SHOWN} more"] if len(of_kind) > _SHOWN else []
    if leaks:
        lines.append("scores on such images are too good: divide by group, block or site")
    return "\n".join(lines)


def _look(row: Row) -> tuple[int, Any]:
    with Raster(row.image) as raster:
        pixels, _ = raster.read(row.window)
        ground = _place(raster.grid, row.window)
    step = max(1, min(pixels.shape[1:]) // SHRUNK)
    return fingerprint(pixels[:, ::step, ::step]), ground


def _place(grid: Grid, window: Window) -> tuple[str, Any] | None:
    """Return where a window lies: ``earth`` and its outline on a plane of equal areas, or its own CRS and that there.

    The plane is longitude and sine of latitude (Lambert's cylinder), from -180 to 180 degrees.
    """
    outline = outline_in_degrees(grid, window)
    if outline is None:  # a local CRS, or another planet
        ground = Ground(grid)
        ring = shapely.box(window.col, window.row, window.col + window.width, window.row + window.height)
        return None if ground.crs is None else (ground.crs.to_wkt(), shapely.transform(ring, ground.coordinates))
    lon, lat = shapely.get_coordinates(outline).T
    flat = np.column_stack([lon, np.sin(np.radians(lat))])
    turns = [shapely.make_valid(shapely.Polygon(flat - (360 * turn, 0))) for turn in (0, 1)]
    return "earth", shapely.union_all(turns).intersection(shapely.box(-180, -1, 180, 1))


def _overlaps(rows: Sequence[Row], grounds: Sequence[Any]) -> list[Leak]:
    leaks = []
    for crs in sorted({ground[0] for ground in grounds if ground is not None}):
        places = [i for i, ground in enumerate(grounds) if ground is not None and ground[0] == crs]
        shapes = [grounds[i][1] for i in places]
        for a, b in shapely.STRtree(shapes).query(shapes, predicate="intersects").T.tolist():
            one, two = rows[places[a]], rows[places[b]]
            shared = shapes[a].intersection(shapes[b]).area / min(shapes[a].area, shapes[b].area)
            if a < b and one.split != two.split and shared > 0.01:
                leaks.append(Leak("overlap", one.key, two.key, (one.split, two.split), float(shared)))
    return leaks


def _alike(rows: Sequence[Row], prints: NDArray[np.uint64], distance: int) -> list[Leak]:
    if not 0 <= distance < 64:
        raise DataError(f"distance {distance}", "0 to 63 bits")
    leaks = []
    for i, row in enumerate(rows):
        bits = np.bitwise_count(prints[i + 1 :] ^ prints[i])
        for j in (np.flatnonzero(bits <= distance) + i + 1).tolist():
            if rows[j].split != row.split:
                leaks.append(Leak("alike", row.key, rows[j].key, (row.split, rows[j].split), float(bits[j - i - 1])))
    return leaks
