"""The file that the server of a benchmark's hidden test takes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from geodistill.data.catalog.benchmark import Benchmark
from geodistill.data.catalog.find import SHOWN, find_set
from geodistill.errors import DataError, RecipeError
from geodistill.files import atomic_path, check_outputs
from geodistill.raster import Raster

FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""Of every entry, so that equal maps give equal bytes."""


def write_submission(benchmark: Benchmark, root: Path | str, maps: Path | str, out: Path | str) -> int:
    """Write a zip with a PNG of class indices, from 0, for each image whose labels are withheld.

    Args:
        benchmark: A set with a hidden test.
        root: Folder of the set, whose test images must all have a map.
        maps: Folder of ``predict``'s maps, ``ID.tif`` by the images' names.
        out: The zip.

    Returns:
        How many maps it holds.

    Raises:
        RecipeError: The set has no hidden test.
        DataError: A map is missing, of another size than its image, or has pixels that are none of the set's classes.
        OutputError: The zip cannot be written.
    """
    if not benchmark.unlabelled or benchmark.legend is None:
        raise RecipeError(f"{benchmark.name}, all of whose labels are public", "a set with a hidden test")
    asked = [image for _, image, mask, split in find_set(benchmark, Path(root)).pairs
              if mask is None and split in benchmark.unlabelled]  # fmt: skip
    map_of = {image: Path(maps) / f"{image.stem}.tif" for image in asked}
    if not asked:
        raise DataError(f"no image without labels below {root}", f"those of {benchmark.name}'s hidden test")
    if missing := [path.name for path in map_of.values() if not path.is_file()]:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise DataError(
            f"no {', '.join(missing[:SHOWN])}{more} in {maps}",
            f"a map of each of {len(asked)} test images",
            "predict them all with --out a directory",
        )
    check_outputs([Path(out)], [*map_of, *map_of.values()])
    with atomic_path(Path(out)) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for image, path in map_of.items():
            entry = zipfile.ZipInfo(f"{image.stem}.png", FIRST_DAY)
            archive.writestr(entry, _picture(image, path, len(benchmark.legend)))
    return len(map_of)


def _picture(image: Path, path: Path, classes: int) -> bytes:
    with Raster(path) as raster, Raster(image) as source:
        size, expected = ((grid.height, grid.width) for grid in (raster.grid, source.grid))
        if size != expected:
            raise DataError(
                f"{path} is {size[1]} x {size[0]}",
                f"{expected[1]} x {expected[0]}, as {image}",
                "map with --gsd native",
            )
        pixels, valid = raster.read()
    if raster.channels != 1 or not valid.all() or pixels.min() < 0 or pixels.max() >= classes:
        raise DataError(f"{path} with pixels of no class", f"class indices from 0 to {classes - 1} everywhere")
    buffer = io.BytesIO()
    Image.fromarray(pixels[0].astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
