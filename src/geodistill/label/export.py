"""``label export``: a label set as other programs train on it. Images are copied, never linked."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geodistill.data.mask_files import read_mask
from geodistill.engine import progress_bar
from geodistill.errors import DataError, RecipeError, check_name
from geodistill.files import atomic_path, check_folder
from geodistill.label.formats.published import write_pickles
from geodistill.label.label_set import Labelled, LabelSet, load_label_set
from geodistill.label.masks import Runs
from geodistill.label.pixels import read_tiles, write_mask, write_picture
from geodistill.raster import Raster, Window

KIND = "label export"


YOLO_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
"""Images that ultralytics reads, of those that a set may have."""


SAMRS_LISTS = {"train": "train.txt", "val": "valid.txt", "test": "test.txt"}
"""List of names of each split, as SAMRS's code calls them."""


@dataclass(frozen=True)
class ExportedLabels:
    """What was written: images by split, objects, and the number of images that the manifest has not."""

    images: dict[str, int]
    objects: int
    left_out: int


def export_labels(
    labels: Path | str, to: str, out: Path | str, *, pickles: bool = False, progress: bool = False
) -> ExportedLabels:
    """Write a finished folder of ``label build`` in one of `FORMS`; the new folder appears whole or not at all.

    With ``pickles`` the form ``samrs`` gets the authors' ``ins/NAME.pkl`` too.

    Raises:
        UnknownNameError: No form has that name.
        DataError: There is no such set, or a file of it is malformed or missing.
        OutputError: The folder cannot be written, or holds what is not ours.
    """
    check_name("form of labels", to, FORMS)
    if pickles and to != "samrs":
        raise RecipeError(f"pickles of the form {to}", "the form samrs")
    label_set = load_label_set(labels)
    one_a_folder = {image.image.parent: image.image for image in label_set.images.values()}
    check_folder(out, (label_set.folder, *one_a_folder.values()))
    with atomic_path(out, KIND) as part:
        part.mkdir()
        objects = FORMS[to](label_set, part, progress)
        if pickles:
            names = {number: image.name for number, image in label_set.images.items()}
            write_pickles(part, label_set.annotations(), names, label_set.legend.names)
    splits = Counter(image.split for image in label_set.images.values())
    return ExportedLabels(dict(sorted(splits.items())), objects, label_set.left_out)


def write_yolo(label_set: LabelSet, folder: Path, progress: bool = False) -> int:
    """Write ``images/SPLIT``, ``labels/SPLIT`` and ``data.yaml``, as ultralytics reads them.

    A line of a label file is the number of a class and the outline of an object in shares of the image's width and
    height. The background is no class.

    Returns:
        Number of objects.
    """
    kept = [value for value, name in enumerate(label_set.legend.names) if name != label_set.background]
    numbers = {value: number for number, value in enumerate(kept)}
    splits = sorted({image.split for image in label_set.images.values()})
    for kind in ("images", "labels"):
        for split in splits:
            (folder / kind / split).mkdir(parents=True)
    for image in progress_bar(label_set.images.values(), "copying images", progress):
        if image.image.suffix.lower() not in YOLO_SUFFIXES:
            raise DataError(f"image {image.image}", f"a file {', '.join(YOLO_SUFFIXES)}", "label it with --tile")
        with Raster(image.image) as raster:
            _check_size(image, raster)
        _copy(image.image, folder / "images" / image.split / f"{image.name}{image.image.suffix}")
        (folder / "labels" / image.split / f"{image.name}.txt").touch()
    count = 0
    with ExitStack() as stack:
        last, file = None, None
        for image, value, runs in progress_bar(label_set.objects(), "writing outlines", progress):
            if not runs.area:
                continue
            if image is not last or file is None:
                stack.close()
                path = folder / "labels" / image.split / f"{image.name}.txt"
                last, file = image, stack.enter_context(path.open("a", encoding="utf-8"))
            shares = outline(runs) / (image.width, image.height)
            file.write(" ".join([str(numbers[value]), *(f"{share:.6f}" for share in shares.ravel().tolist())]) + "\n")
            count += 1
    about = {split: f"images/{split}" for split in splits}
    # YOLO's code asks for both.
    about |= {split: about.get(split, f"images/{splits[-1]}") for split in ("train", "val")}
    about["names"] = {number: label_set.legend.names[value] for number, value in enumerate(kept)}  # type: ignore[assignment]
    text = yaml.safe_dump(about, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8", errors="backslashreplace")
    return count


def write_samrs(label_set: LabelSet, folder: Path, progress: bool = False) -> int:
    """Write ``images``, ``gray``, ``color`` (all PNG) and a list of names for each split, as SAMRS's code reads them.

    Images are written as 8-bit RGB, as the segmenter saw them, since that code takes one suffix and three bands.

    Returns:
        Number of objects.
    """
    for image in progress_bar(label_set.images.values(), "copying images", progress):
        name = f"{image.name}.png"
        with Raster(image.image) as raster:
            _check_size(image, raster)
            (tile,) = read_tiles(raster, [Window(0, 0, image.height, image.width)], label_set.bands)
        write_picture(folder / "images" / name, tile.rgb)
        indices = read_mask(image.mask, label_set.legend)
        for kind, colour in (("gray", False), ("color", True)):
            write_mask(folder / kind / name, indices, None, label_set.legend, colour=colour)
    for split, name in SAMRS_LISTS.items():
        names = sorted(image.name for image in label_set.images.values() if image.split == split)
        if names or split != "test":
            (folder / name).write_text("".join(f"{line}\n" for line in names), encoding="utf-8")
    return sum(1 for _ in label_set.objects())


FORMS: dict[str, Callable[[LabelSet, Path, bool], int]] = {"samrs": write_samrs, "yolo-seg": write_yolo}
"""Writer of each form by its name; each returns the number of objects."""


def _check_size(image: Labelled, raster: Raster) -> None:
    if (raster.grid.width, raster.grid.height) != (image.width, image.height):
        raise DataError(
            f"{image.image} is {raster.grid.width} x {raster.grid.height} pixels",
            f"{image.width} x {image.height}, as when it was labelled",
            "label the set anew",
        )


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise DataError(f"no image {source}", "the images of the set, where they were when it was labelled")
    shutil.copyfile(source, target)


def outline(runs: Runs) -> NDArray[np.float64]:
    """Return one ring around all pixels of an object, which has at least one.

    The ring runs through the centres of the outermost pixels, so that filling it with its border (``cv2.fillPoly``)
    gives the mask back. Pieces and holes are joined to it by a way there and back, where they lie nearest; between
    pieces that way is all that filling adds. Of an object too thin for three corners it is the border of its pixels.

    Returns:
        ``(V, 2)`` float64, V >= 3, x and y in pixels of the frame; pixel (0, 0) covers [0, 1) x [0, 1).
    """
    crop = runs.crop()
    origin = np.array((crop.left, crop.top), np.float64)
    rings, _ = cv2.findContours(crop.pixels.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parts = [ring[:, 0].astype(np.int64) for ring in rings]
    parts.sort(key=len, reverse=True)
    ring = parts[0]
    for part in parts[1:]:
        ring = _bridged(ring, part)
    if len(ring) == 2 and (ring[0] != ring[1]).all():
        ring = np.concatenate([ring, ring[:1]])  # a diagonal, there and back
    if len(ring) < 3:
        low, high = ring.min(axis=0), ring.max(axis=0) + 1
        corners = np.array(((low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])), np.float64)
        return corners + origin
    placed: NDArray[np.float64] = ring + 0.5 + origin
    return placed


def _bridged(ring: NDArray[np.int64], part: NDArray[np.int64]) -> NDArray[np.int64]:
    """Walk along ``ring`` to its corner nearest to ``part``, all around that, back, and on."""
    distances, nearest = cKDTree(part).query(ring)
    at = int(distances.argmin())
    start = int(nearest[at])
    around = np.concatenate([part[start:], part[: start + 1]])
    return np.concatenate([ring[: at + 1], around, ring[at:]])
