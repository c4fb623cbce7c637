"""Made-up detection sets: bright ellipses on a dark ground, with boxes and true outlines as COCO."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rasterio.transform import from_origin

from factories import make_picture, make_raster
from geodistill.folders import hold_folder
from geodistill.label.config import LabelSettings

CLASSES = ("ship", "dock")


def make_detection_set(
    folder: Path,
    count: int = 4,
    *,
    height: int = 60,
    width: int = 80,
    objects: int = 4,
    empty: int = 1,
    georeferenced: bool = False,
    seed: int = 0,
) -> Path:
    """Write ``images/scene_<i>.png`` (or ``.tif``) and ``boxes.json``, and give the folder.

    The last ``empty`` images have no object. Ellipses of both classes lie on a grid, so that they never touch.
    """
    rng = np.random.default_rng(seed)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(count):
        pixels = rng.integers(20, 60, (height, width, 3)).astype(np.uint8)
        places = rng.permutation([(x, y) for y in range(12, height - 11, 22) for x in range(14, width - 13, 26)])
        for n, (x, y) in enumerate(places[: objects if i < count - empty else 0].tolist()):
            axes = (int(rng.integers(5, 11)), int(rng.integers(4, 9)))
            outline = cv2.ellipse2Poly((x, y), axes, 0, 0, 360, 15).astype(float)
            cv2.ellipse(pixels, (x, y), axes, 0, 0, 360, (230, 200 if n % 2 else 90, 60), cv2.FILLED)
            low, high = outline.min(axis=0), outline.max(axis=0) + 1
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": n % 2,
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "segmentation": [(outline + 0.5).ravel().tolist()],
                    "iscrowd": 0,
                }
            )
        name = f"scene_{i}.{'tif' if georeferenced else 'png'}"
        entries.append({"id": i, "file_name": name, "height": height, "width": width})
        if georeferenced:
            place = from_origin(500_000 + i * width * 0.5, 40_000, 0.5, 0.5)
            make_raster(folder / "images" / name, pixels=np.moveaxis(pixels, -1, 0), transform=place)
        else:
            make_picture(folder / "images" / name, pixels)
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    write_boxes(folder, {"images": entries, "annotations": annotations, "categories": categories})
    return folder


def read_coco(folder: Path) -> dict[str, Any]:
    """Read a set's annotations."""
    data: dict[str, Any] = json.loads((folder / "boxes.json").read_text(encoding="utf-8"))
    return data


def write_boxes(folder: Path, data: dict[str, Any]) -> None:
    """Write a set's annotations."""
    (folder / "boxes.json").write_text(json.dumps(data), encoding="utf-8")


def settings_of(folder: Path, **changes: Any) -> LabelSettings:
    """Return settings for a made-up set; filled boxes unless another segmenter is asked for."""
    given: dict[str, Any] = {"segmenter": "box", "format": "coco"} | changes
    return LabelSettings(images=folder / "images", boxes=folder / "boxes.json", **given)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def hold(out: Path, told: Path) -> None:
    """Be at work in a folder, as `label build` is, until this process is killed; a file says that it is."""
    with hold_folder(out, "label build"):
        told.touch()
        time.sleep(60)
