"""The README's picture from real imagery: a drone scene, boxes, masks made from them, the student's map, polygons.

Run ``python benchmarks/figures.py --out docs/kampala.jpg``; it needs the folders ``data/hot_kampala`` and
``weights/timm_mobilenetv2_100`` in ``$GEODISTILL_SHARED`` and about ten minutes on two cores. Boxes in the west of the
scene become masks (GrabCut), a MobileNetV2 U-Net learns from them, and maps the east, where it has seen nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.windows import Window

import geodistill as gd

BORDER = 1238454
"""Column of zoom 21's tiles at which the east begins."""

SIDE = 1024
"""Side of the shown parts in pixels."""

CREDIT = "Imagery: OpenAerialMap contributors, HOT (CC BY 4.0). Boxes: OpenStreetMap contributors (ODbL)."


def west(data: Path, folder: Path) -> Path:
    """Write the annotations of the western tiles alone; their images are linked beside them."""
    annotations = json.loads((data / "boxes" / "coco_boxes_polygons.json").read_text(encoding="utf-8"))
    images = []
    for image in annotations["images"]:
        _, x, _, zoom = image["file_name"].removesuffix(".png").split("-")
        if zoom == "21" and int(x) < BORDER:
            images.append(image)
            (folder / "images").mkdir(parents=True, exist_ok=True)
            shutil.copy(data / "images" / image["file_name"], folder / "images")
    kept = {image["id"] for image in images}
    annotations["images"] = images
    annotations["annotations"] = [box for box in annotations["annotations"] if box["image_id"] in kept]
    (folder / "boxes.json").write_text(json.dumps(annotations), encoding="utf-8")
    return folder / "boxes.json"


def train(shared: Path, work: Path, steps: int) -> gd.Labels:
    """Make masks from the boxes and train on them."""
    boxes = west(shared / "data" / "hot_kampala", work)
    labels = gd.label_boxes(work / "images", boxes, work / "labels", "coco", background="ground")
    settings = {
        "network.encoder": "mobilenetv2_100",
        "network.encoder_weights": str(shared / "weights" / "timm_mobilenetv2_100"),
        "network.decoder_channels": 64,
        "data.crop": 192,
        "data.batch_size": 8,
        "data.workers": 0,
        "optimizer.lr": 1e-3,
        "trainer.max_steps": steps,
        "trainer.val_every_steps": max(steps // 4, 1),
    }
    result = gd.fit("supervised-folder", work / "run", data=labels.manifest, settings=settings)
    print(f"validation mIoU {100 * (result.miou or 0):.1f} after {result.minutes:.1f} minutes")
    return labels


def painted(image: NDArray[np.uint8], mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return an image with a mask laid over it at half its strength."""
    mixed = image.copy()
    mixed[mask] = (0.5 * mixed[mask] + 0.5 * np.array(colour)).astype(np.uint8)
    return mixed


def western_panels(labels: gd.Labels, size: int) -> list[NDArray[np.uint8]]:
    """Return four neighbouring western tiles with their boxes, and with the masks made from these."""
    instances = json.loads((labels.folder / "instances.json").read_text(encoding="utf-8"))
    places = {}
    for image in instances["images"]:
        _, x, y, _ = Path(image["file_name"]).stem.split("-")
        places[int(x), int(y)] = image
    count = {
        key: sum(box["image_id"] == image["id"] for box in instances["annotations"]) for key, image in places.items()
    }
    corners = [(x, y) for x, y in places if all((x + i, y + j) in places for i in (0, 1) for j in (0, 1))]
    x, y = max(corners, key=lambda at: sum(count[at[0] + i, at[1] + j] for i in (0, 1) for j in (0, 1)))
    boxed, masked = np.zeros((512, 512, 3), np.uint8), np.zeros((512, 512, 3), np.uint8)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        image = places[x + i, y + j]
        pixels = cv2.cvtColor(
            cv2.imread(str(labels.folder.parent / "images" / Path(image["file_name"]).name)), cv2.COLOR_BGR2RGB
        )
        mask = np.array(Image.open(next((labels.folder / "gray").glob(f"{Path(image['file_name']).stem}*"))))
        part = (slice(256 * j, 256 * j + 256), slice(256 * i, 256 * i + 256))
        masked[part] = painted(pixels, mask == 1, (255, 90, 40))
        for box in instances["annotations"]:
            if box["image_id"] == image["id"]:
                left, top, width, height = (round(v) for v in box["bbox"])
                cv2.rectangle(pixels, (left, top), (left + width, top + height), (255, 220, 0), 2)
        boxed[part] = pixels
    return [cv2.resize(panel, (size, size), interpolation=cv2.INTER_AREA) for panel in (boxed, masked)]


def eastern_panels(shared: Path, work: Path, size: int) -> list[NDArray[np.uint8]]:
    """Return a part of the east, the student's map over it, and the outlines of its polygons."""
    source = shared / "data" / "hot_kampala" / "scene" / "hot_kampala_z21_block0.tif"
    with rasterio.open(source) as file:
        window = Window(1536, 256, SIDE, SIDE)
        pixels, transform, crs = file.read([1, 2, 3], window=window), file.window_transform(window), file.crs
    student = gd.Segmenter.load(work / "run")
    whole = student.predict(source).classes == 1
    with rasterio.open(source.with_name("hot_kampala_z21_block0_mask.tif")) as file:
        true = file.read(1) > 0
    for what, part in (("shown part", window.toslices()), ("whole east", (slice(None), slice(1536, None)))):
        hits, either = (whole[part] & true[part]).sum(), (whole[part] | true[part]).sum()
        print(f"IoU of building, {what}: {100 * hits / either:.1f}")
    prediction = student.predict(pixels, grid=gd.Grid(SIDE, SIDE, crs, transform))
    image: NDArray[np.uint8] = np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
    shown = painted(image, prediction.classes == 1, (255, 90, 40))
    outlined = image.copy()
    polygons = prediction.polygons(min_area=4, simplify=2)
    for shape in polygons[polygons["name"] == "building"].geometry:
        for ring in (shape.exterior, *shape.interiors):
            columns, rows = ~transform * np.array(ring.coords).T
            cv2.polylines(outlined, [np.stack([columns, rows], 1).round().astype(np.int32)], True, (0, 255, 255), 3)
    return [cv2.resize(panel, (size, size), interpolation=cv2.INTER_AREA) for panel in (image, shown, outlined)]


def main() -> None:
    """Train, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/kampala.jpg"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--work", type=Path, help="keep the labels and the run there")
    args = parser.parse_args()
    shared = Path(os.environ.get("GEODISTILL_SHARED", "../shared"))
    if not (shared / "data" / "hot_kampala").is_dir():
        sys.exit(f"no data/hot_kampala in {shared}: name its folder in GEODISTILL_SHARED")
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        labels = train(shared, work, args.steps)
        panels = western_panels(labels, args.size) + eastern_panels(shared, work, args.size)
    gap = np.full((args.size, 6, 3), 255, np.uint8)
    row = np.hstack([part for panel in panels for part in (panel, gap)][:-1])
    cv2.imwrite(str(args.out), cv2.cvtColor(row, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    print(f"{args.out}: boxes, masks from them, a scene without labels, the map, polygons. {CREDIT}")


if __name__ == "__main__":
    main()
