"""A finished folder of ``label build``, or a COCO file, read back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from geodistill.data.manifest import Manifest
from geodistill.errors import DataError
from geodistill.label.annotated_masks import checked_runs
from geodistill.label.masks import Runs
from geodistill.label.output_folder import ACCOUNT, INSTANCES, LEGEND, MANIFEST
from geodistill.label.tiles import flat_names
from geodistill.reading import ANNOTATION_BYTES, parse_json, parse_object, read_json, read_object, well_formed
from geodistill.spec import Legend

_SUFFIX = 5
"""Bytes of the longest suffix: ``.tiff``."""


@dataclass(frozen=True)
class Labelled:
    """An image of a set, of so many pixels: its file, that of its class indices, its split.

    Its name is one of a kind in the set, without folders and suffix.
    """

    name: str
    image: Path
    mask: Path
    split: str
    width: int
    height: int


@dataclass(frozen=True)
class LabelSet:
    """What ``label build`` made.

    Attributes:
        folder: Where it is.
        legend: Its classes.
        background: Class for what no box touches, or ``None``.
        bands: Positions, from 1, of the bands that the segmenter saw; ``None`` for the first three.
        images: Those of its manifest, by their COCO ids.
        left_out: Number of images that the manifest has not (another number of bands, or on none of its lists).
        annotations: Yields the COCO annotations.
    """

    folder: Path
    legend: Legend
    background: str | None
    bands: tuple[int, ...] | None
    images: dict[int, Labelled]
    left_out: int
    annotations: Callable[[], Iterator[Any]]

    def objects(self) -> Iterator[tuple[Labelled, int, Runs]]:
        """Yield each object of the images: its image, the value of its class in the masks, its pixels.

        Raises:
            DataError: An annotation is not as ``label build`` wrote it.
        """
        for number, entry in enumerate(self.annotations(), 1):
            source = f"{self.folder / INSTANCES}:object {number}"
            with well_formed(source, "an annotation that 'label build' wrote"):
                image, value = self.images.get(entry["image_id"]), int(entry["mask_value"])
                runs = entry["segmentation"]
                if not 0 <= value < len(self.legend):
                    raise ValueError(f"mask value {value}")
            if image is not None:
                yield image, value, Runs.from_coco(checked_runs(runs, image.width, image.height, source))


def load_label_set(folder: Path | str) -> LabelSet:
    """Read a label set.

    Raises:
        DataError: The folder holds none, or a file of it is malformed.
    """
    folder = Path(folder)
    if not all((folder / name).is_file() for name in (ACCOUNT, INSTANCES, MANIFEST, LEGEND)):
        raise DataError(f"no label set at {folder}", "the folder of a finished 'label build'")
    manifest, legend = Manifest.load(folder / MANIFEST), Legend.load(folder / LEGEND)
    settings = read_object(folder / ACCOUNT).get("settings")
    rows = {_whole(row.mask): row for row in manifest.entries if row.mask is not None}
    annotations, content = read_instances(folder / INSTANCES)
    images = {}
    with well_formed(folder, "a folder as 'label build' wrote it"):
        background, numbers = settings["background"], settings.get("bands")  # type: ignore[index, union-attr]  # or anything
        bands = None if numbers is None else tuple(map(int, numbers))
        masks = {entry["id"]: Path(entry["mask"]) for entry in content["images"]}
        names = flat_names({_key(mask) for mask in masks.values()}, _SUFFIX)
        for entry in content["images"]:
            mask = masks[entry["id"]]
            row = rows.get(_whole(folder / mask))
            if row is not None:
                size = int(entry["width"]), int(entry["height"])
                images[entry["id"]] = Labelled(names[_key(mask)], row.image, folder / mask, row.split, *size)
    return LabelSet(folder, legend, background, bands, images, len(masks) - len(images), annotations)


def _key(mask: Path) -> str:
    """Return the name of a mask below its folder, without suffix."""
    return mask.with_suffix("").as_posix().partition("/")[2]


def _whole(path: Path) -> str:
    return os.path.realpath(path)


_STREAMED = b'{"annotations": ['
"""First line of a file that has one annotation per line, as ``label build`` writes them."""


def read_instances(file: Path) -> tuple[Callable[[], Iterator[Any]], dict[str, Any]]:
    """Return a function that yields the annotations, to be gone through once, and the rest of the file.

    Raises:
        DataError: The file is no COCO file, or is malformed; the function raises it too.
    """
    with _opened(file) as lines:
        if lines.readline(len(_STREAMED) + 2).strip() == _STREAMED:
            for line in lines:
                if line.startswith(b"]"):
                    break
            return lambda: _streamed(file), parse_object(b"{" + b"".join(lines), file)
    content = read_json(file, ANNOTATION_BYTES)
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise DataError(f"{file} is no COCO file", "a mapping with the lists 'images' and 'annotations'")
    return lambda: iter(content["annotations"]), content


def _streamed(file: Path) -> Iterator[Any]:
    """Read one annotation per line, so that a set of millions needs no memory."""
    with _opened(file) as lines:
        next(lines)
        for number, line in enumerate(lines, 2):
            if line.startswith(b"]"):
                return
            yield parse_json(line.strip().removesuffix(b","), f"{file}:{number}")


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})", "a readable file") from error
