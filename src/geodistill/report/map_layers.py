"""The layers of a map page, cut into tiles: the scene it was made of, its classes, and their confidence."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geodistill.errors import DataError, GeodistillWarning
from geodistill.inference.geotiff import map_beside
from geodistill.inference.map_file import map_strips, read_map_grid, read_map_legend, read_map_run
from geodistill.inference.sliding import STEPS
from geodistill.raster import Grid, Raster, Window
from geodistill.raster.ground import Ground
from geodistill.raster.resampled import ResampledRaster
from geodistill.report.palette import safe_colours, starts_safe
from geodistill.report.pyramid import TILE, Picture, finest_level, halved_classes, halved_colours, write_tiles
from geodistill.spec import IGNORE_INDEX, Legend

_QUALITY = 78
_SAMPLES = 9
_DOUBT = (180, 20, 90)


@dataclass(frozen=True)
class MapLayer:
    """A layer of a map.

    Attributes:
        name: Of its folder and in the page.
        title: For people.
        suffix: Of its tiles.
        kind: ``colours``, or ``classes`` where the page may colour them anew.
        visible: Whether it is shown at the beginning.
    """

    name: str
    title: str
    suffix: str
    kind: str
    visible: bool


@dataclass(frozen=True)
class CutMap:
    """A map whose tiles are written.

    Attributes:
        grid: Where it lies.
        legend: Its classes.
        layers: Its layers, the lowest first.
        counts: Pixels of each class.
        areas: Square metres of each class on the ground; none where the map is not georeferenced.
        level: The finest level of tiles.
    """

    grid: Grid
    legend: Legend
    layers: tuple[MapLayer, ...]
    counts: list[int]
    areas: list[float]
    level: int


def cut_map(path: Path, scene: Path | str | None, folder: Path) -> CutMap:
    """Write the tiles of a map's layers into ``folder/LAYER/LEVEL/COLUMN/ROW.SUFFIX``.

    Args:
        path: The map that ``predict`` wrote; its confidence is found beside it.
        scene: What it was made of, of the same extent; not shown where not given.
        folder: An empty folder.

    Raises:
        DataError: A file cannot be read, is no map, or covers another extent.
    """
    grid, legend = read_map_grid(path), read_map_legend(path)
    ground = Ground(grid)
    counts, areas = np.zeros(256, np.int64), np.zeros(256)
    layers: list[MapLayer] = []
    with ExitStack() as files:
        level = finest_level(grid.height, grid.width)
        if scene is not None:
            layers.append(MapLayer("scene", "Scene", ".webp", "colours", True))
            pictures = _scene_strips(_on_grid(files.enter_context(Raster(scene)), grid, files))
            write_tiles(pictures, level, folder / "scene", _photo, halved_colours, ".webp")

        def strips() -> Iterator[Picture]:
            for index, strip in enumerate(map_strips(path, None, grid, TILE)):
                classes = strip.classes.astype(np.uint8, copy=False)
                counts[:] += np.bincount(classes.ravel(), minlength=256)
                sizes = np.broadcast_to(ground.pixel_areas(index * TILE, len(classes)), classes.shape)
                areas[:] += np.bincount(classes.ravel(), sizes.ravel(), minlength=256)
                yield classes

        layers.append(MapLayer("classes", "Classes", ".png", "classes", True))
        write_tiles(strips(), level, folder / "classes", _painter(legend), halved_classes, ".png")
        beside = map_beside(path, "confidence")
        if beside.is_file() and _is_of(path, beside):
            sure = read_map_grid(beside)
            if (sure.height, sure.width) == (grid.height, grid.width):
                layers.append(MapLayer("doubt", "Doubt", ".webp", "colours", False))
                doubts = (_doubt(strip.classes) for strip in map_strips(beside, None, grid, TILE))
                write_tiles(doubts, level, folder / "doubt", _photo, halved_colours, ".webp")
    known = [] if ground.crs is None else areas[: len(legend)].tolist()
    return CutMap(grid, legend, tuple(layers), counts[: len(legend)].tolist(), known, level)


def _is_of(path: Path, beside: Path) -> bool:
    """Whether a layer was made with a map; where it was not, a warning says that it is left out."""
    if read_map_run(beside) == read_map_run(path):
        return True
    what = f"{beside} is of another prediction than {path.name} and is left out; map the scene again with --confidence"
    warnings.warn(what, GeodistillWarning, stacklevel=3)
    return False


def _windows(grid: Grid) -> Iterator[Window]:
    for top in range(0, grid.height, TILE):
        yield Window(top, 0, min(TILE, grid.height - top), grid.width)


def _on_grid(raster: Raster, grid: Grid, files: ExitStack) -> Raster:
    """Return a scene in the pixels of the map that was made of it."""
    if (raster.grid.height, raster.grid.width) == (grid.height, grid.width):
        return raster
    if grid.gsd is not None and raster.grid.gsd is not None:
        resampled = files.enter_context(ResampledRaster(raster, grid.gsd))
        if (resampled.grid.height, resampled.grid.width) == (grid.height, grid.width):
            return resampled
    raise DataError(
        f"{raster.source} is {raster.grid.width} x {raster.grid.height} pixels, its map {grid.width} x {grid.height}",
        "the scene that the map was made of",
    )


def _scene_strips(raster: Raster) -> Iterator[Picture]:
    """Yield a scene as RGBA, stretched alike everywhere: from the 1st to the 99th percentile of some of its rows."""
    names = [name.lower() for name in raster.band_names]
    bands = [names.index(name) for name in ("red", "green", "blue") if name in names]
    if len(bands) < 3:
        bands = [0, 1, 2] if raster.channels >= 3 else [0, 0, 0]
    positions = sorted(set(bands))
    order = [positions.index(band) for band in bands]
    whole = raster.grid
    samples = []
    for row in np.linspace(0, whole.height - 1, _SAMPLES).astype(int):
        pixels, valid = raster.read(Window(int(row), 0, 1, whole.width), positions)
        samples.append(pixels[:, valid].astype(np.float32))
    known = np.concatenate(samples, 1)
    low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 1.0)
    for window in _windows(whole):
        pixels, valid = raster.read(window, positions)
        shown = (pixels[order].astype(np.float32) - low) / max(float(high - low), 1e-6) * 255
        alpha = np.where(valid, np.uint8(255), np.uint8(0))
        yield np.dstack([*shown.clip(0, 255).astype(np.uint8), alpha])


def _doubt(steps: NDArray[np.uint8]) -> Picture:
    """Turn confidence into a colour that covers the more, the less sure the class is."""
    sure = steps.astype(np.float32) / STEPS
    alpha = np.where(steps == IGNORE_INDEX, 0, (1 - sure.clip(0, 1)) * 255).astype(np.uint8)
    colour = np.broadcast_to(np.array(_DOUBT, np.uint8), (*steps.shape, 3))
    return np.dstack([colour, alpha])


def _photo(picture: Picture) -> bytes | None:
    if not picture[..., 3].any():
        return None
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=_QUALITY)
    return file.getvalue()


def _painter(legend: Legend) -> Callable[[Picture], bytes | None]:
    """Return what writes a tile of classes as PNG with a palette, in which each class has an opacity of its own.

    The colours are those that a page shows first: what lies beside it cannot be painted anew.
    """
    palette = np.zeros((256, 3), np.uint8)
    safe = safe_colours(len(legend)) if starts_safe(legend.colours) else None
    palette[: len(legend)] = safe or legend.colours
    opacity = bytes([255] * len(legend) + [0] * (256 - len(legend)))

    def paint(classes: Picture) -> bytes | None:
        if (classes == IGNORE_INDEX).all():
            return None
        picture, file = Image.fromarray(np.ascontiguousarray(classes)), io.BytesIO()
        picture.putpalette(palette.tobytes())
        picture.save(file, "PNG", transparency=opacity)
        return file.getvalue()

    return paint
