"""Draw whole scenes and write them as GeoTIFFs, masks and DOTA annotations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import from_origin

from geodistill.data.mask_files import legend_text
from geodistill.errors import DataError
from geodistill.files import atomic_path, write_text
from geodistill.raster import Grid
from geodistill.synthetic.canvas import Canvas, Points, shade
from geodistill.synthetic.city_blocks import Town
from geodistill.synthetic.objects import Sun
from geodistill.synthetic.region import BUILDING, CAR, IMPERVIOUS, LEGEND, LOW_VEGETATION, TREE, WATER, TownRegion
from geodistill.synthetic.town_plan import PAVEMENT, Street, TownPlan

SMALLEST = 16
"""Fewest rows and columns of a scene."""


@dataclass(frozen=True)
class OrientedBox:
    """An object's oriented box.

    Attributes:
        points: ``(4, 2)`` float x, y of the corners in order round the box, pixels with corners at integers. Boxes
            of objects that the edge cuts reach beyond the image.
        category: Name of the class in `LEGEND`.
        difficult: Whether less than half of the object can be seen.
    """

    points: Points
    category: str
    difficult: bool


@dataclass(frozen=True)
class TownScene:
    """A drawn scene.

    Attributes:
        image: ``(3, H, W)`` uint8 red, green, blue.
        mask: ``(H, W)`` uint8 class indices of `LEGEND`.
        boxes: Every building, car and tree of which anything can be seen.
        grid: Georeferencing in the region's UTM zone.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    boxes: tuple[OrientedBox, ...]
    grid: Grid


def draw_scene(size: int | tuple[int, int], region: TownRegion, seed: int) -> TownScene:
    """Draw a town from above; equal arguments give equal scenes. The seed also shifts it on the ground.

    Raises:
        DataError: The size is below `SMALLEST`.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < SMALLEST:
        raise DataError(f"scene of {height} x {width} pixels", f"at least {SMALLEST} rows and columns")
    rng = np.random.default_rng(seed)
    east, north = (float(v) for v in np.round(rng.uniform(-50_000, 50_000, 2) / region.gsd) * region.gsd)
    canvas = Canvas(height, width, region.grass, LOW_VEGETATION)
    plan = TownPlan(height, width, region, rng)
    town = Town(canvas, plan, region, rng)
    town.build()
    _draw_river(canvas, plan, region)
    _draw_streets(town, canvas, plan, region, rng)
    _draw_objects(town, canvas, Sun.over(region), rng)
    mask = canvas.mask()
    transform = from_origin(region.origin[0] + east, region.origin[1] + north, region.gsd, region.gsd)
    grid = Grid(height, width, CRS.from_epsg(region.epsg), transform)
    return TownScene(canvas.render(region, rng), mask, tuple(_boxes(town, mask)), grid)


def _draw_river(canvas: Canvas, plan: TownPlan, region: TownRegion) -> None:
    if plan.river is None:
        return
    u = np.arange(-plan.reach - 40, plan.reach + 40, 6.0)
    v = plan.river.v(u)
    for extra, colour, label in (
        (9.0, region.grass, LOW_VEGETATION),
        (1.6, shade(region.grass, 0.7), LOW_VEGETATION),
        (0.0, region.water, WATER),
        (-5.0, shade(region.water, 0.94), WATER),
    ):
        half = plan.river.width / 2 + extra
        sides = np.concatenate([np.stack([u, v - half], 1), np.stack([u, v + half], 1)[::-1]])
        canvas.fill(plan.pixels(sides), colour, label)


def _draw_streets(town: Town, canvas: Canvas, plan: TownPlan, region: TownRegion, rng: np.random.Generator) -> None:
    visible = [s for s in plan.streets if canvas.sees(plan.strip(s, 0, s.width + 2 * PAVEMENT))]
    for street in visible:
        canvas.fill(plan.strip(street, 0, street.width + 2 * PAVEMENT), region.paving, IMPERVIOUS)
    for street in visible:
        canvas.fill(plan.strip(street, 0, street.width), region.asphalt, IMPERVIOUS)
    for street in visible:
        for _ in range(int(rng.poisson(street.length / 60))):
            at, long = float(rng.uniform(0, street.length)), float(rng.uniform(3, 14))
            patch = plan.strip(street, street.width * 0.24, street.width * 0.4, at, min(at + long, street.length))
            canvas.fill(patch, shade(region.asphalt, float(rng.choice([0.88, 1.08]))))
        main = street.width > 8
        if main:
            for across in (-1, 1):
                canvas.fill(plan.strip(street, across * (street.width / 2 - 0.4), 0.22), (190, 190, 186))
        for at in np.arange(9.0, street.length - 9, 6.0 if main else 9.0):
            canvas.fill(plan.strip(street, 0, 0.25, float(at), float(at) + 3), (208, 208, 202))
        _drive(town, street, rng)


def _drive(town: Town, street: Street, rng: np.random.Generator) -> None:
    """Put moving and parked cars and, along wide streets, trees on a street."""
    half, main = street.width / 2, street.width > 8
    for side in (-1, 1):
        heading = street.turn + (math.pi if side < 0 else 0.0)
        at = float(rng.exponential(22 if main else 60))
        while at < street.length:
            town.add_car(*street.at(at, side * half * 0.45), heading)
            at += 9 + float(rng.exponential(22 if main else 60))
        parked = rng.random() < 0.5
        for at in np.arange(12.0, street.length - 12, 6.2):
            if not main and parked and rng.random() < 0.3:
                town.add_car(*street.at(float(at), side * (half + 0.6)), heading + float(rng.normal(0, 0.02)))
            elif main and rng.random() < 0.28:
                town.add_tree(*street.at(float(at), side * (half + 1.4)), 1.5, 2.8)


def _draw_objects(town: Town, canvas: Canvas, sun: Sun, rng: np.random.Generator) -> None:
    """Draw what stands, from the ground up, so that trees hang over cars and roofs hide shadows."""
    for building in town.buildings:
        building.cast(canvas, sun)
    for building in town.buildings:
        if canvas.sees(building.oriented_box()):
            building.draw(canvas, sun, rng)
    for car in town.cars:
        car.draw(canvas, sun)
    for tree in town.trees:
        if canvas.sees(tree.oriented_box(), tree.height * sun.reach):
            tree.cast(canvas, sun)
    for tree in sorted(town.trees, key=lambda tree: tree.height):
        if canvas.sees(tree.oriented_box()):
            tree.draw(canvas, sun, rng)


def _boxes(town: Town, mask: NDArray[np.uint8]) -> Iterator[OrientedBox]:
    kinds = ((town.buildings, BUILDING), (town.cars, CAR), (town.trees, TREE))
    for objects, label in kinds:
        for thing in objects:
            points = thing.oriented_box()
            share = _visible(points, mask, label)
            if share > 0.05:
                # Even in full view a crown or a building of two wings leaves the corners of its box empty.
                yield OrientedBox(points, LEGEND.names[label], share < (0.5 if label == CAR else 0.35))


def _visible(points: Points, mask: NDArray[np.uint8], label: int) -> float:
    """Return the share of a box, in and outside the image, where the mask has the class."""
    left, top = np.floor(points.min(0)).astype(int)
    right, bottom = np.ceil(points.max(0)).astype(int)
    window = mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if window.size == 0:
        return 0.0
    inside = np.zeros(window.shape, np.uint8)
    corner = np.array([max(left, 0), max(top, 0)])
    cv2.fillPoly(inside, [np.round((points - corner - 0.5) * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    area = float(cv2.contourArea(points.astype(np.float32)))
    return float(np.count_nonzero(window[inside == 1] == label)) / max(area, 1.0)


def write_scene(scene: TownScene, directory: Path | str, name: str) -> Path:
    """Write a scene as ``images/NAME.tif``, ``masks/NAME.tif`` (palette of `LEGEND`) and ``labelTxt/NAME.txt`` (DOTA).

    Returns:
        The image's path.

    Raises:
        OutputError: A file cannot be written.
    """
    root = Path(directory)
    image, mask, labels = root / "images" / f"{name}.tif", root / "masks" / f"{name}.tif", root / "labelTxt" / name
    profile = {**scene.grid.profile(), "driver": "GTiff", "dtype": "uint8", "compress": "deflate"}
    if min(scene.mask.shape) >= 512:
        profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with atomic_path(image) as part, rasterio.open(part, "w", count=3, photometric="RGB", **profile) as file:
        file.write(scene.image)
        for band, word in enumerate(("red", "green", "blue"), 1):
            file.set_band_description(band, word)
    with atomic_path(mask) as part, rasterio.open(part, "w", count=1, **profile) as file:
        file.write(scene.mask, 1)
        file.write_colormap(1, {index: (*colour, 255) for index, colour in enumerate(LEGEND.colours)})
    write_text(labels.with_suffix(".txt"), _dota(scene))
    return image


def _dota(scene: TownScene) -> str:
    lines = ["imagesource:made up", f"gsd:{scene.grid.transform.a:g}"]
    for box in scene.boxes:
        corners = " ".join(f"{value:.1f}" for value in box.points.ravel())
        lines.append(f"{corners} {box.category.replace(' ', '-')} {int(box.difficult)}")
    return "\n".join(lines) + "\n"


def write_dataset(directory: Path | str, region: TownRegion, count: int, size: int, seed: int = 0) -> list[Path]:
    """Write ``count`` scenes named ``REGION_SEED`` with seeds from ``seed`` on, and ``legend.yaml`` beside them.

    Called again with another region or seed, it adds to the folder.

    Returns:
        The images' paths.

    Raises:
        DataError: The size is below `SMALLEST`.
        OutputError: A file cannot be written.
    """
    root = Path(directory)
    paths = [
        write_scene(draw_scene(size, region, number), root, f"{region.name}_{number:04d}")
        for number in range(seed, seed + count)
    ]
    write_text(root / "legend.yaml", legend_text(LEGEND))
    return paths
