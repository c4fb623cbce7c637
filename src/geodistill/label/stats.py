"""``label stats``: pixels and instances per class, sizes of masks and boxes per image, of any labelled set.

These are the figures 5 and 6 of the SAMRS paper, and the columns of its table 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from geodistill.data.catalog.declarations import COLOURS
from geodistill.data.manifest import Manifest, Row
from geodistill.data.mask_files import decode_mask, label_counts, strips
from geodistill.data.statistics import Spread
from geodistill.engine import progress_bar
from geodistill.errors import DataError, RecipeError
from geodistill.label.annotated_masks import checked_runs, coco_polygons
from geodistill.label.formats.coco import id_text, is_crowd
from geodistill.label.formats.published import classes_of, find_instances, read_objects
from geodistill.label.formats.raw_boxes import points
from geodistill.label.label_set import read_instances
from geodistill.label.masks import Runs
from geodistill.label.output_folder import FOLDERS, INSTANCES, MANIFEST
from geodistill.legend_entries import Colour, parse_colour
from geodistill.raster import Raster
from geodistill.reading import well_formed
from geodistill.spec import IGNORE_INDEX, Legend, default_colours

SMALL = 100
"""Pixels below which the paper shows sizes of their own."""
SMALL_EDGES = tuple(range(0, SMALL + 1, 10))
LARGE_EDGES = (SMALL, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
EDGES = (*SMALL_EDGES, *LARGE_EDGES[1:])
"""Lower edges of the bins of mask sizes in pixels; the last bin has no upper edge. The first begins at 1."""


@dataclass
class SetStatistics:
    """What `stats` measures of one set.

    Attributes:
        name: Of the set.
        classes: Class names.
        colours: One a class.
        images: Number of images (tiles, where it was cut into them).
        channels: Bands of the images, or ``None`` where nobody wrote them down.
        gsd: Metres per pixel, or ``None`` where unknown.
        height: Of the images in pixels.
        width: Of the images in pixels.
        pixels: Labelled pixels of each class: as painted where there are class maps, else the sum over the masks.
        unlabelled: Pixels without a label, or ``None`` where there are no class maps.
        instances: Number of each class; masks without a pixel do not count. Empty where the set has no instances.
        mask_pixels: Pixels of all masks of each class, those that lie below others too.
        empty_masks: Instances without a pixel, of all classes.
        sizes: ``(K, len(EDGES))`` int64, instances of each class by the size of their mask.
        per_image: Number of images by their number of instances.
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    images: int = 0
    channels: int | None = None
    gsd: Spread | None = None
    height: Spread | None = None
    width: Spread | None = None
    pixels: tuple[int, ...] = ()
    unlabelled: int | None = None
    instances: tuple[int, ...] = ()
    mask_pixels: tuple[int, ...] = ()
    empty_masks: int = 0
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, len(EDGES)), np.int64))
    per_image: Mapping[int, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        spreads = {"gsd": self.gsd, "height": self.height, "width": self.width}
        return {
            "name": self.name,
            "classes": list(self.classes),
            "images": self.images,
            "channels": self.channels,
            **{key: None if spread is None else vars(spread) for key, spread in spreads.items()},
            "pixels": list(self.pixels),
            "unlabelled": self.unlabelled,
            "instances": list(self.instances),
            "mask_pixels": list(self.mask_pixels),
            "empty_masks": self.empty_masks,
            "size_edges": list(EDGES),
            "sizes": self.sizes.tolist(),
            "per_image": {str(count): self.per_image[count] for count in sorted(self.per_image)},
        }


class _Instances:
    """Counts instances one by one; a set has too many to hold them."""

    def __init__(self, classes: int) -> None:
        self.sizes = np.zeros((classes, len(EDGES)), np.int64)
        self.pixels = np.zeros(classes, np.int64)
        self.empty = 0
        self.images: Counter[Any] = Counter()

    def add(self, index: int, pixels: int, image: Any) -> None:
        if pixels < 1:
            self.empty += 1
            return
        self.sizes[index, np.searchsorted(EDGES, pixels, "right") - 1] += 1
        self.pixels[index] += pixels
        self.images[image] += 1

    def give_to(self, statistics: SetStatistics) -> None:
        statistics.sizes, statistics.empty_masks, statistics.mask_pixels = (
            self.sizes,
            self.empty,
            tuple(self.pixels.tolist()),
        )
        statistics.instances = tuple(self.sizes.sum(axis=1).tolist())
        per_image = Counter(self.images.values())
        per_image[0] += statistics.images - len(self.images)
        statistics.per_image = {count: images for count, images in sorted(per_image.items()) if images}


def stats(
    place: Path | str, *, name: str | None = None, regions: bool = False, progress: bool = False
) -> SetStatistics:
    """Measure a labelled set: a folder of ``label build``, a COCO json file with masks, or a manifest (Parquet).

    So too SAMRS's published sets, by the ``ins/*.pkl`` below their folder; no pickle is executed.

    With ``regions`` each connected region (8 neighbours) of a class counts as an instance of a manifest, which has
    none.

    Raises:
        DataError: The place holds none of these, or a file of it is malformed.
        RecipeError: Regions are asked for of a set that has instances.
    """
    place = Path(place)
    name = name or set_name(place)
    if regions and (place.suffix.lower() == ".json" or (place / INSTANCES).is_file() or find_instances(place)):
        raise RecipeError(
            f"regions of {place}, which has instances", "a manifest", "leave --regions out, or count manifests alone"
        )
    if place.is_dir() and (place / INSTANCES).is_file():
        return _coco(place / INSTANCES, name, place, progress)
    if place.is_dir() and (files := find_instances(place)):
        return _published(files, name, progress)
    if place.is_dir() and (place / MANIFEST).is_file():
        return _manifest(Manifest.load(place / MANIFEST), name, regions, progress)
    if place.suffix.lower() == ".json" and place.is_file():
        return _coco(place, name, None, progress)
    if place.suffix.lower() == ".parquet" and place.is_file():
        return _manifest(Manifest.load(place), name, regions, progress)
    raise DataError(
        f"no labelled set at {place}", "a folder of 'label build' or of SAMRS (ins/*.pkl), a COCO json file, a manifest"
    )


def set_name(place: Path | str) -> str:
    """Return what a set is called: its folder, or its file without suffix."""
    place = Path(place)
    return place.resolve().name if place.is_dir() else place.stem


def set_files(place: Path | str) -> list[Path]:
    """Return the files of a set, and the folders that hold nothing else."""
    place = Path(place)
    if not place.is_dir():
        return [place]
    return [place / name for name in (INSTANCES, MANIFEST, *FOLDERS)] + [f.parent for f in find_instances(place)[:1]]


def _coco(file: Path, name: str, folder: Path | None, progress: bool) -> SetStatistics:
    annotations, content = read_instances(file)
    categories, images = content.get("categories") or (), content.get("images") or ()
    with well_formed(f"{file}: images or categories", "COCO's, with sizes and names"):
        index = {id_text(category["id"]): at for at, category in enumerate(categories)}
        names = tuple(str(category["name"]) for category in categories)
        colours = [parse_colour(category["color"]) for category in categories if "color" in category]
        sizes = {id_text(image["id"]): (int(image["height"]), int(image["width"])) for image in images}
        values = [int(category.get("mask_value", at)) for at, category in enumerate(categories)]
        masks = [folder / image["mask"] for image in images if "mask" in image] if folder else []
    statistics = SetStatistics(
        name, names, tuple(colours) if len(colours) == len(names) else default_colours(len(names))
    )
    statistics.images = len(sizes)
    statistics.height = Spread.of([float(height) for height, _ in sizes.values()])
    statistics.width = Spread.of([float(width) for _, width in sizes.values()])
    counted = _Instances(len(names))
    for n, item in enumerate(progress_bar(annotations(), "counting instances", progress), 1):
        source = f"{file}:object {n}"
        with well_formed(source, "an annotation of a listed image and category"):
            if not is_crowd(item):
                image = id_text(item["image_id"])
                counted.add(index[id_text(item["category_id"])], _area(item, sizes[image], source), image)
    counted.give_to(statistics)
    statistics.pixels = statistics.mask_pixels
    if folder is not None:
        _add_maps(statistics, masks, values, folder, progress)
    return statistics


def _published(files: Sequence[Path], name: str, progress: bool) -> SetStatistics:
    """Count the objects of a published set; its pixels are the sums of the masks, and only labelled images count."""
    names: dict[int, str] = {}
    counted = _Instances(IGNORE_INDEX)
    heights, widths = list[float](), list[float]()
    for file in progress_bar(files, "counting instances", progress):
        runs = None
        for entry in read_objects(file):
            runs = entry.runs
            known = names.setdefault(entry.value, entry.category)
            if known.lower() != entry.category.lower():
                raise DataError(f"{file}: class {entry.category!r} of value {entry.value}", f"{known!r}, as before it")
            counted.add(entry.value, runs.area, file)
        if runs is not None:
            heights.append(float(runs.height))
            widths.append(float(runs.width))
    classes = classes_of(names)
    colours = COLOURS if len(classes) <= len(COLOURS) else default_colours(len(classes))
    statistics = SetStatistics(name, tuple(classes.values()), colours[: len(classes)], len(files))
    statistics.height, statistics.width = Spread.of(heights), Spread.of(widths)
    counted.sizes, counted.pixels = counted.sizes[list(classes)], counted.pixels[list(classes)]
    counted.give_to(statistics)
    statistics.pixels = statistics.mask_pixels
    return statistics


def _area(item: Mapping[str, Any], size: tuple[int, int], source: str) -> int:
    """Return the pixels of a mask, from its run lengths or outline; COCO's own ``area`` only where there is neither.

    A line or a point is no outline.
    """
    segmentation = item.get("segmentation")
    if isinstance(segmentation, dict):
        return Runs.from_coco(checked_runs(segmentation, size[1], size[0], source)).area
    try:
        outlines = [points(part) for part in segmentation or () if len(part) >= 6]
    except (TypeError, ValueError) as error:
        raise DataError(f"{source}: segmentation", "lists of x1, y1, x2, y2 ...") from error
    if outlines:
        mask = coco_polygons(outlines, size[1], size[0])
        return 0 if mask is None else Runs.from_coco(mask).area
    if not isinstance(item.get("area"), int | float):
        raise DataError(f"{source} has no mask", "a segmentation or an area", "label the boxes with 'label build'")
    return round(float(item["area"]))


def _add_maps(
    statistics: SetStatistics, masks: Sequence[Path], values: Sequence[int], folder: Path, progress: bool
) -> None:
    """Count pixels as painted, where later instances hide earlier ones; take bands and sampling from the manifest."""
    counts = np.zeros(256, np.int64)
    for mask in progress_bar(masks, "counting pixels", progress):
        with Raster(mask) as raster:
            if raster.label_dtype != np.uint8:
                raise DataError(f"mask {mask} holds {raster.label_dtype}", "8 bits, as 'label build' writes them")
            pixels, _, _ = raster.read_labels()
            counts += np.bincount(pixels[0].ravel(), minlength=256)
    if masks:
        statistics.pixels = tuple(int(counts[value]) if 0 <= value < len(counts) else 0 for value in values)
        statistics.unlabelled = int(counts.sum()) - sum(statistics.pixels)
    if (folder / MANIFEST).is_file():
        manifest = Manifest.load(folder / MANIFEST)
        statistics.channels, statistics.gsd = len(manifest.bands), _gsd(manifest)


def _gsd(manifest: Manifest) -> Spread | None:
    return Spread.of([row.gsd for row in manifest.entries if row.gsd is not None])


def _manifest(manifest: Manifest, name: str, regions: bool, progress: bool) -> SetStatistics:
    if manifest.legend is None:
        raise DataError(f"manifest {manifest.path or ''} has no legend", "labelled images", "scan with masks")
    legend, rows = manifest.legend, [row for row in manifest.entries if row.mask is not None and row.window.height]
    statistics = SetStatistics(name, legend.names, legend.colours, len(rows), len(manifest.bands), _gsd(manifest))
    statistics.height = Spread.of([float(row.window.height) for row in rows])
    statistics.width = Spread.of([float(row.window.width) for row in rows])
    pixels, ignored = np.zeros(len(legend), np.int64), 0
    counted = _Instances(len(legend))
    for row in progress_bar(rows, "counting pixels", progress):
        with Raster(row.mask or "") as raster:
            if regions:
                _count_regions(raster, row, legend, counted)
            for window in strips(row.window):
                counts, left = label_counts(decode_mask(raster, legend, window)[0], len(legend))
                pixels += counts
                ignored += left
    statistics.pixels, statistics.unlabelled = tuple(pixels.tolist()), ignored
    if regions:
        counted.give_to(statistics)
    return statistics


def _count_regions(raster: Raster, row: Row, legend: Legend, counted: _Instances) -> None:
    """Count the connected regions of each class; the mask is in memory whole, one class at a time."""
    indices, _ = decode_mask(raster, legend, row.window)
    for index in np.unique(indices).tolist():
        if index < len(legend):
            _, _, figures, _ = cv2.connectedComponentsWithStats((indices == index).astype(np.uint8), connectivity=8)
            for area in figures[1:, cv2.CC_STAT_AREA].tolist():
                counted.add(index, int(area), row.key)
