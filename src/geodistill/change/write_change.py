"""The map of changes written, and its areas counted, strip by strip."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geodistill.change.grids import require_common
from geodistill.change.legends import change_legend
from geodistill.change.map_pair import MapPair
from geodistill.change.matrix import ChangeMatrix
from geodistill.inference.beside import remove_earlier
from geodistill.inference.geotiff import MapInfo, map_beside, write_map
from geodistill.inference.layers import Layer
from geodistill.raster import Window
from geodistill.raster.ground import Ground
from geodistill.raster.patch_labels import NONE, PatchSizes, label_components
from geodistill.spec import IGNORE_INDEX, Legend
from geodistill.version import __version__

CLASSES, CONFIDENCE = Layer("classes", 1, "uint8"), Layer("confidence", 3, "uint8")


@dataclass(frozen=True)
class RawRows:
    """A whole map, stored as bytes in the folder of the work on it."""

    folder: Path
    pixels: Window

    def path(self, layer: Layer) -> Path:
        """Return the file of a layer's bytes."""
        return self.folder / f"rows-all.{layer.name}.bin"


def write_change(
    pair: MapPair, min_area: float, out: Path, folder: Path, outputs: Sequence[Path]
) -> tuple[Legend, ChangeMatrix]:
    """Write the map of changes, and that of confidence where the pair has some.

    A change under ``min_area`` (a patch of one kind, by its sides) counts as none. What an earlier map left beside it
    goes, but for the ``outputs``, which are made now.

    Raises:
        DataError: A map is truncated or corrupt, no pixel has data in both maps, or there are more kinds of change than
            a map can hold.
        OutputError: A map cannot be written.
    """
    count, ground = len(pair.classes.legend), Ground(pair.grid)
    min_area = ground.least(min_area)
    sizes, codes = _survey(pair, ground, min_area)
    legend = change_legend(pair.classes.legend, [divmod(int(code), count) for code in codes])
    table = np.zeros(count * count + 1, np.uint8)  # the last, at -1, is no change
    table[codes] = np.arange(1, len(codes) + 1)
    rows = RawRows(folder, pair.grid.whole)
    layers = [CLASSES, *([CONFIDENCE] if pair.confidence else [])]
    areas, dismissed = np.zeros(count * count), 0.0
    with ExitStack() as opened:
        files = [opened.enter_context(rows.path(layer).open("wb")) for layer in layers]
        for position, strip in enumerate(pair.strips()):
            kept = strip.codes if sizes is None else _without_small(strip.codes, sizes, position, min_area)
            weights = np.broadcast_to(ground.pixel_areas(strip.top, len(kept)), kept.shape)
            known, changed = strip.before != IGNORE_INDEX, kept != NONE
            final = np.where(changed, kept, strip.before.astype(np.int64) * (count + 1))
            areas += np.bincount(final[known], weights[known], areas.size)
            dismissed += float(weights[known & ~changed & (strip.before != strip.after)].sum())
            files[0].write(np.where(known, table[kept], np.uint8(IGNORE_INDEX)).tobytes())
        if pair.confidence:
            for bands in pair.confidences():
                files[1].write(bands.tobytes())
    tags = {"BEFORE": pair.names[0], "AFTER": pair.names[1], "MODEL": f"geodistill {__version__}"}
    remove_earlier(out, outputs)
    for layer in reversed(layers):
        write_map(map_beside(out, layer.name), layer, [rows], MapInfo(pair.grid, legend, tags), folder)
    unit = "pixels" if ground.crs is None else "m2"
    return legend, ChangeMatrix(pair.classes.legend.names, areas.reshape(count, count), unit, dismissed)


def _survey(pair: MapPair, ground: Ground, min_area: float) -> tuple[PatchSizes | None, NDArray[np.int64]]:
    """Return the sizes of all patches, where they matter, and which changes occur.

    Raises:
        DataError: No pixel has data in both maps.
    """
    sizes, occurring = PatchSizes(), np.zeros(len(pair.classes.legend) ** 2, bool)
    mapped = compared = 0
    for strip in pair.strips():
        mapped += strip.mapped
        compared += int(np.count_nonzero(strip.before != IGNORE_INDEX))
        if min_area:
            sizes.add(strip.codes, ground.pixel_areas(strip.top, len(strip.codes)))
        else:
            occurring[strip.codes[strip.codes != NONE]] = True
    require_common(pair.names, pair.places, mapped, compared)
    if min_area:
        return sizes, np.flatnonzero(np.bincount(sizes.join(min_area)))
    return None, np.flatnonzero(occurring)


def _without_small(codes: NDArray[np.int32], sizes: PatchSizes, position: int, min_area: float) -> NDArray[np.int32]:
    labels, count = label_components(codes)
    return np.where(sizes.sizes(position, labels, count) >= min_area, codes, NONE).astype(np.int32)
