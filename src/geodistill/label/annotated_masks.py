"""True masks that annotations bring along: outlines are filled, run lengths checked and brought to another size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pycocotools import mask as coco

from geodistill.errors import DataError
from geodistill.label.boxes import FAR, areal, outlines
from geodistill.label.masks import Runs, centres_inside, run_lengths
from geodistill.reading import well_formed

Ring = NDArray[np.float64]


def mask_of(rings: Sequence[Ring], holes: Sequence[Ring], width: int, height: int) -> dict[str, Any] | None:
    """Fill outlines: pixels whose centre lies inside a ring and in no hole.

    Rings and holes are ``(V, 2)`` x, y in pixels of an image of ``width`` x ``height`` and may reach beyond it.

    Returns:
        COCO run lengths in the frame of the image; ``None`` where a vertex is not finite.
    """
    if not all(np.isfinite(ring).all() for ring in (*rings, *holes)):
        return None
    rings, holes = ([ring.clip(-FAR, FAR) for ring in which] for which in (rings, holes))
    shape = shapely.union_all(shapely.clip_by_rect(outlines(rings), 0, 0, width, height))
    if holes:
        shape = shapely.difference(shape, shapely.union_all(outlines(holes)))
    shape = areal(shape)
    if shape.is_empty:
        return Runs.of(np.zeros((0, 0), bool), 0, 0, height, width).to_coco()
    left, top = (int(np.floor(low)) for low in shape.bounds[:2])
    right, bottom = (int(np.ceil(high)) for high in shape.bounds[2:])
    lines = shapely.get_rings(shapely.get_parts(shape))
    filled = centres_inside(
        [shapely.get_coordinates(line)[:-1] for line in lines], left, top, max(bottom - top, 1), max(right - left, 1)
    )
    return Runs.of(filled, top, left, height, width).to_coco()


def coco_polygons(polygons: Sequence[Ring], width: int, height: int) -> dict[str, Any] | None:
    """Fill COCO polygons as COCO's own tools do; attributes and result as those of `mask_of`."""
    if not all(np.isfinite(polygon).all() for polygon in polygons):
        return None
    if any((p < 0).any() or (p > (width, height)).any() for p in polygons):
        # COCO's code takes memory by the length of the outline, however far outside the image it runs.
        return mask_of(polygons, [], width, height)
    packed = coco.merge(coco.frPyObjects([polygon.ravel().tolist() for polygon in polygons], height, width))
    return {"size": [height, width], "counts": packed["counts"].decode("ascii")}


def checked_runs(segmentation: Mapping[str, Any], width: int, height: int, source: str) -> dict[str, Any]:
    """Return run lengths anew after a look at every one of them: code in C trusts them.

    Raises:
        DataError: They are malformed, or of another size than the image.
    """
    expected = f"size [{height}, {width}] and counts that fill it"
    with well_formed(f"{source}: run lengths that cannot be read", expected):
        if [int(side) for side in segmentation["size"]] != [height, width]:
            raise DataError(f"{source}: run lengths of size {segmentation['size']}", expected)
        counts = run_lengths(segmentation["counts"])
        # Of huge counts the sum overflows.
        if (counts < 0).any() or (counts > width * height).any() or counts.sum() != width * height:
            raise DataError(f"{source}: run lengths that do not fill the image", expected)
        return Runs.from_coco({"size": [height, width], "counts": counts.tolist()}).to_coco()


def resampled(segmentation: Mapping[str, Any], width: int, height: int) -> dict[str, Any]:
    """Return run lengths, checked before, for an image of another size: each pixel takes the one its centre lies in."""
    runs = Runs.from_coco(segmentation)
    filled = np.zeros(runs.height * runs.width + 1, np.int8)
    filled[runs.starts], filled[runs.ends] = 1, -1
    mask = np.cumsum(filled[:-1]).reshape(runs.width, runs.height).T.astype(bool)
    rows, cols = nearest(height, runs.height), nearest(width, runs.width)
    return Runs.of(mask[np.ix_(rows, cols)], 0, 0, height, width).to_coco()


def nearest(count: int, of: int) -> NDArray[np.int64]:
    """Return, for ``count`` pixels beside each other, in which ``of`` those of another size each centre lies."""
    return ((np.arange(count) + 0.5) * of / count).astype(np.int64)
