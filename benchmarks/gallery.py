"""Pictures of real results for the gallery and the guides: the worst beside the best, always by the same rule.

Run ``python benchmarks/gallery.py --work WORK``; it needs ``data/`` and ``weights/timm_mobilenetv2_100`` in
``$GEODISTILL_SHARED`` and about an hour on two cores. What it trained stays in WORK, and is taken from there when
it is called again. Leaves ``docs/gallery/*.jpg`` and prints the figures that the captions have.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import rasterio
import rasterio.windows
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import figures
import geodistill as gd
from geodistill.assess.drawn_sample import SampleOptions, draw_sample
from geodistill.change.compare_maps import ChangeOptions, compare_maps

Picture = NDArray[np.uint8]

DUBAI = {
    "classes": {
        "land": "#8429F6",
        "water": "#E2A929",
        "building": "#3C1098",
        "vegetation": "#FEDD3A",
        "road": "#6EC1E4",
    },
    "ignore": ["#9B9B9B", "#000000"],
}
ROOFS = {"classes": {"background": {"value": 0, "colour": "#808080"}, "building": {"value": 255, "colour": "#c03020"}}}
ORANGE, RED, YELLOW, BLUE = (255, 90, 40), (213, 60, 0), (255, 220, 0), (40, 160, 255)
GAP, LINE, SIDE = 4, 20, 1024


def sheet(path: Path, titles: Sequence[str], rows: Sequence[tuple[str, Sequence[Picture]]], side: int = 200) -> None:
    """Write rows of pictures as JPEG: titles above the columns, a line of text above each row."""
    width = len(titles) * (side + GAP) - GAP
    page = Image.new("RGB", (width, LINE + len(rows) * (side + LINE)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for column, title in enumerate(titles):
        draw.text((column * (side + GAP) + 2, 2), title, "black", font)
    for number, (text, pictures) in enumerate(rows):
        top = LINE + number * (side + LINE)
        draw.text((2, top + 2), text, (90, 90, 90), font)
        for column, picture in enumerate(pictures):
            small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
            page.paste(Image.fromarray(small), (column * (side + GAP), top + LINE))
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, quality=80)
    print(f"{path}: {path.stat().st_size // 1024} KB")


def middle(picture: Picture) -> Picture:
    """Return the square in the middle of a picture."""
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + side, left : left + side])


def evaluated(results: Path, path: Path, kept: int = 2) -> None:
    """Write the worst and the best images of an evaluation: image, truth, prediction, what is wrong."""
    rows = []
    images = json.loads((results / "shown" / "shown.json").read_text(encoding="utf-8"))["images"]
    for image in [*images[:kept], *images[-kept:]]:
        stem = results / "shown" / image["stem"]
        photo = np.array(Image.open(f"{stem}-image.webp").convert("RGB"))
        layers = [np.array(Image.open(f"{stem}-{name}.png").convert("RGB")) for name in ("truth", "prediction")]
        wrong = np.array(Image.open(f"{stem}-errors.png")) > 0
        marked = np.where(wrong[..., None], np.array(RED, np.uint8), (photo // 2 + 110).astype(np.uint8))
        choice = "worst" if image in images[:kept] else "best"
        text = f"{choice}: mIoU {100 * image['miou']:.0f}, {100 * image['oa']:.0f} % of the pixels right"
        rows.append((text, [middle(part) for part in (photo, *layers, marked)]))
    sheet(path, ("image", "labels", "map", "wrong (red)"), rows)


def trained(shared: Path, work: Path, name: str, data: gd.Manifest, more: Mapping[str, object] | None = None) -> Path:
    """Return a run of the recipe ``student`` on a data set, trained where WORK does not hold it yet."""
    run = work / name
    settings = {
        "network.encoder_weights": str(shared / "weights" / "timm_mobilenetv2_100"),
        "data.crop": 192,
        "data.batch_size": 8,
        "data.workers": 0,
        "trainer.max_steps": 780,
        "trainer.seed": 0,
        **(more or {}),
    }
    if not (run / "segmenter").exists():
        gd.fit("student", run, data=data, settings=settings)
    return run


def dubai(shared: Path, work: Path, out: Path) -> None:
    """Train on tiles 1, 2, 4 and 6 of Dubai, and show the worst and best parts of tiles 3 and 7."""
    root = shared / "data" / "dubai72"
    sets = {}
    for split, tiles in (("train", (1, 2, 4, 6)), ("test", (3, 7))):
        images, masks = ([root / f"Tile_{tile}" / kind for tile in tiles] for kind in ("images", "masks"))
        sets[split] = scanned(work, f"dubai_{split}", images, masks, DUBAI, split)
    scores = gd.evaluate(trained(shared, work, "dubai", sets["train"]), sets["test"], out=work / "dubai_test")
    print(f"Dubai, tiles 3 and 7: mIoU {100 * scores.miou:.1f}")
    evaluated(work / "dubai_test", out / "dubai.jpg")


def scanned(
    work: Path, name: str, images: Sequence[Path], masks: Sequence[Path], legend: Mapping[str, object], split: str
) -> gd.Manifest:
    """Scan images of one split."""
    shares = (1.0, 0.0, 0.0) if split == "train" else (0.0, 0.0, 1.0)
    file = work / f"{name}.parquet"
    return gd.scan(images, masks, file, legend=legend, split={"fractions": shares}, progress=False)


def place(shared: Path, work: Path, name: str) -> gd.Manifest:
    """Scan all tiles of a place, to learn from."""
    root = shared / "data" / f"hot_{name}"
    return scanned(work, name, [root / "images"], [root / "masks"], ROOFS, "train")


def kampala(shared: Path, work: Path) -> Path:
    """Return the run on all tiles of Kampala."""
    return trained(shared, work, "kampala_run", place(shared, work, "kampala"))


def colours(shared: Path, work: Path, out: Path) -> None:
    """Show maps of Kampala by two students of Zanzibar: of its objects as they are, and in other colours too."""
    data = place(shared, work, "zanzibar")
    runs = [
        trained(shared, work, "zanzibar_plain", data, {"data.recolour": 0, "data.hollow": 0}),
        trained(shared, work, "zanzibar_run", data),
    ]
    students = [gd.Segmenter.load(run) for run in runs]
    root = shared / "data" / "hot_kampala"
    rows = []
    for path in sorted((root / "masks").glob("*.png")):
        if built(path) > 0.1:
            true = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0
            roofs = [student.predict(root / "images" / path.name).classes == 1 for student in students]
            rows.append(([float((r & true).sum() / (r | true).sum()) for r in roofs], path.name, true, roofs))
    rows.sort(key=lambda row: row[0][1] - row[0][0])
    median = [100 * float(np.median([row[0][number] for row in rows])) for number in (0, 1)]
    print(
        f"Kampala, {len(rows)} tiles with buildings: median IoU {median[0]:.0f}, in other colours too {median[1]:.0f}"
    )
    shown = []
    for iou, name, true, roofs in [*rows[:2], *rows[-2:]]:
        photo = np.array(Image.open(root / "images" / name).convert("RGB"))
        panels = [photo, *(figures.painted(photo, roof, YELLOW) for roof in roofs), figures.painted(photo, true, BLUE)]
        shown.append((f"IoU {100 * iou[0]:.0f}, in other colours too {100 * iou[1]:.0f}", panels))
    titles = ("image", "roofs learnt as they are", "in other colours too", "outlines drawn by people")
    sheet(out / "colours.jpg", titles, shown)


def buildings(shared: Path, work: Path, out: Path) -> None:
    """Show the worst and best tiles of Zanzibar, of which the model has seen nothing, among those with buildings."""
    root = shared / "data" / "hot_zanzibar"
    masks = [path for path in sorted((root / "masks").glob("*-21.png")) if built(path) > 0.1]
    test = scanned(work, "zanzibar", [root / "images" / path.name for path in masks], masks, ROOFS, "test")
    scores = gd.evaluate(kampala(shared, work), test, out=work / "zanzibar_test")
    print(f"Zanzibar, {len(masks)} tiles with buildings: IoU of building {100 * scores.iou[1]:.1f}")
    evaluated(work / "zanzibar_test", out / "buildings.jpg")


def built(mask: Path) -> float:
    """Return the share of a mask that is not 0."""
    return float((cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) > 0).mean())


def masks_from_boxes(shared: Path, work: Path, out: Path) -> None:
    """Show the worst and best masks that western boxes became, by IoU with the drawn outlines."""
    if not (work / "labels").exists():
        boxes_file = figures.west(shared / "data" / "hot_kampala", work)
        gd.label_boxes(work / "images", boxes_file, work / "labels", "coco", background="ground", progress=False)
    rows = []
    for path in sorted((work / "labels" / "gray").glob("*.png")):
        true = cv2.imread(str(shared / "data" / "hot_kampala" / "masks" / path.name), cv2.IMREAD_GRAYSCALE) > 0
        labelled = np.array(Image.open(path)) == 1
        if true.mean() > 0.1:
            rows.append(((labelled & true).sum() / (labelled | true).sum(), path.name, labelled, true))
    rows.sort(key=lambda row: row[0])
    print(f"masks from boxes, {len(rows)} tiles: median IoU {100 * float(np.median([row[0] for row in rows])):.0f}")
    boxes = json.loads((work / "boxes.json").read_text(encoding="utf-8"))
    numbers = {image["file_name"]: image["id"] for image in boxes["images"]}
    shown = []
    for choice, iou, name, labelled, true in [("worst", *row) for row in rows[:2]] + [
        ("best", *row) for row in rows[-2:]
    ]:
        photo = np.array(Image.open(work / "images" / name).convert("RGB"))
        boxed = photo.copy()
        for box in boxes["annotations"]:
            if box["image_id"] == numbers[name]:
                left, top, width, height = (round(v) for v in box["bbox"])
                cv2.rectangle(boxed, (left, top), (left + width, top + height), YELLOW, 2)
        panels = [boxed, figures.painted(photo, labelled, ORANGE), figures.painted(photo, true, BLUE)]
        shown.append((f"{choice}: IoU {100 * iou:.0f}", panels))
    sheet(out / "boxes.jpg", ("boxes", "masks by GrabCut", "outlines drawn by people"), shown)


def trees(shared: Path, work: Path, out: Path) -> None:
    """Show tree crowns: boxes, and the masks of GrabCut; nobody drew true masks there."""
    root, folder = shared / "data" / "neon_trees", work / "trees"
    if not folder.exists():
        gd.label_boxes(root / "images", root / "boxes", folder, "voc", background="ground", progress=False)
    instances = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
    count = {i["id"]: sum(a["image_id"] == i["id"] for a in instances["annotations"]) for i in instances["images"]}
    rows = []
    for image in sorted(instances["images"], key=lambda image: -count[image["id"]])[:3]:
        with rasterio.open(root / "images" / image["file_name"]) as file:
            photo = np.ascontiguousarray(np.moveaxis(file.read([1, 2, 3]), 0, -1))
        with rasterio.open(next((folder / "gray").glob(f"{Path(image['file_name']).stem}*.tif"))) as file:
            masked = figures.painted(photo, file.read(1) == 1, ORANGE)
        boxed = photo.copy()
        for box in instances["annotations"]:
            if box["image_id"] == image["id"]:
                left, top, width, height = (round(v) for v in box["annotated_bbox"])
                cv2.rectangle(boxed, (left, top), (left + width, top + height), YELLOW, 2)
        rows.append((f"{Path(image['file_name']).stem}: {count[image['id']]} crowns", [photo, boxed, masked]))
    sheet(out / "trees.jpg", ("image, 40 m", "boxes", "masks by GrabCut"), rows)


def square(shared: Path, work: Path, block: int) -> tuple[Path, Picture, NDArray[np.bool_]]:
    """Return the most built square of a scene of Zanzibar: its file, its pixels, where buildings are."""
    scene = shared / "data" / "hot_zanzibar" / "scene" / f"hot_zanzibar_z21_block{block}.tif"
    with rasterio.open(scene.with_name(f"{scene.stem}_mask.tif")) as file:
        true = file.read(1) > 0
    row, col = densest(true, SIDE)
    with rasterio.open(scene) as file:
        part = rasterio.windows.Window(col, row, SIDE, SIDE)
        pixels = file.read([1, 2, 3], window=part)
        profile = {"driver": "GTiff", "count": 3, "height": SIDE, "width": SIDE, "dtype": "uint8", "crs": file.crs}
        with rasterio.open(work / f"square{block}.tif", "w", transform=file.window_transform(part), **profile) as copy:
            copy.write(pixels)
    photo = np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
    return work / f"square{block}.tif", photo, true[row : row + SIDE, col : col + SIDE]


def maps(shared: Path, work: Path, out: Path) -> None:
    """Show two parts of Zanzibar mapped, with confidence."""
    rows = []
    student = gd.Segmenter.load(kampala(shared, work))
    for block in (0, 1):
        file, photo, true = square(shared, work, block)
        prediction = student.predict(file)
        prediction.plot().figure.savefig(out / "plot.jpg", dpi=80, pil_kwargs={"quality": 80})
        roofs = prediction.classes == 1
        confidence = np.repeat((255 * prediction.confidence).astype(np.uint8)[..., None], 3, 2)
        iou = (roofs & true).sum() / (roofs | true).sum()
        panels = [photo, figures.painted(photo, roofs, ORANGE), confidence, figures.painted(photo, true, BLUE)]
        rows.append((f"IoU of building {100 * iou:.0f}", panels))
    sheet(out / "maps.jpg", ("scene, 76 m", "map", "confidence (dark: unsure)", "outlines drawn by people"), rows)


def densest(mask: NDArray[np.bool_], side: int) -> tuple[int, int]:
    """Return row and column of the square of most pixels, on a raster of 256."""
    places = [(r, c) for r in range(0, mask.shape[0] - side + 1, 256) for c in range(0, mask.shape[1] - side + 1, 256)]
    return max(places, key=lambda place: int(mask[place[0] : place[0] + side, place[1] : place[1] + side].sum()))


def exported(shared: Path, work: Path, out: Path) -> None:
    """Show what torch and the graph in 8-bit integers make of one scene, and where they differ."""
    graph, (file, photo, _) = work / "student.onnx", square(shared, work, 0)
    if not graph.exists():
        data = gd.Manifest.load(work / "kampala.parquet")
        print(gd.export(kampala(shared, work), "onnx", graph, size=256, calibration=data, split="train"))
    smaller = graph.with_name("student_int8.onnx")
    roofs_by = {}
    for name, model in (("torch", kampala(shared, work)), ("int8", smaller)):
        scene_maps = gd.predict(str(model), file, work / f"map_{name}.tif", device="cpu")
        with rasterio.open(scene_maps[0].path) as opened:
            roofs_by[name] = opened.read(1) == 1
    other = roofs_by["torch"] != roofs_by["int8"]
    panels = [photo, *(figures.painted(photo, roofs, ORANGE) for roofs in roofs_by.values())]
    panels.append(figures.painted(photo, other, RED))
    sizes = [path.stat().st_size / 1e6 for path in (graph, smaller)]
    text = f"{100 * other.mean():.1f} % of the pixels differ; files of {sizes[0]:.1f} and {sizes[1]:.1f} MB"
    sheet(out / "export.jpg", ("scene", "torch", "ONNX in 8-bit integers", "other class (red)"), [(text, panels)])


def wetlands(shared: Path, work: Path, out: Path) -> None:
    """Show water of two summers, what changed, and points to look at; water is where NDWI is above 0."""
    pictures = []
    legend = gd.Legend(("land", "water"), ((225, 220, 205), (28, 108, 200)))
    for year, name in (("2019", "20190904"), ("2020", "20200831")):
        with rasterio.open(shared / "data" / "naip_landsat" / "naip" / f"m_4709963_se_14_1_{name}.tif") as file:
            pixels, grid = file.read(), gd.Grid(file.height, file.width, file.crs, file.transform)
        green, infrared = pixels[1].astype(np.float32), pixels[3].astype(np.float32)
        water = (green > infrared).astype(np.uint8)
        valid = pixels.any(0)
        classes = np.where(valid, water, 255).astype(np.uint8)
        gd.Prediction(classes, valid, grid, legend).save(work / f"water_{year}.tif")
        pictures.append(np.ascontiguousarray(np.moveaxis(pixels[:3], 0, -1)))
    options = ChangeOptions(tolerance=1, min_area=500)
    change = compare_maps(work / "water_2019.tif", work / "water_2020.tif", work / "change.tif", options)
    print(change.matrix)
    with rasterio.open(change.path) as file:
        classes = file.read(1)
    panels = [middle(pictures[0]), middle(pictures[1])]
    shown = pictures[1] // 2 + 110
    for index, colour in ((1, BLUE), (2, RED)):
        shown[classes == index] = colour
    drawn = draw_sample(work / "change.tif", work / "points.gpkg", SampleOptions(points=120, least=30))
    print(drawn)
    points = pictures[1].copy()
    import geopandas

    for place in geopandas.read_file(drawn.path, layer="points").to_crs(grid.crs).geometry:
        x, y = (round(v) for v in ~grid.transform * (place.x, place.y))
        cv2.circle(points, (x, y), 5, YELLOW, 2)
    sheet(
        out / "change.jpg",
        ("September 2019", "August 2020", "water come (blue), gone (red)", "120 points to look at"),
        [("", [*panels, middle(shown.astype(np.uint8)), middle(points)])],
        side=260,
    )


def main() -> None:
    """Make what is missing, and draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="labels, runs and maps are kept there")
    parser.add_argument("--out", type=Path, default=Path("docs/gallery"))
    parser.add_argument("--only", nargs="+", help="only these pictures")
    args = parser.parse_args()
    shared = Path(os.environ.get("GEODISTILL_SHARED", "../shared"))
    if not (shared / "data" / "hot_kampala").is_dir():
        sys.exit(f"no data/hot_kampala in {shared}: name its folder in GEODISTILL_SHARED")
    args.work.mkdir(parents=True, exist_ok=True)
    for draw in (masks_from_boxes, trees, wetlands, buildings, maps, exported, dubai, colours):
        if not args.only or draw.__name__ in args.only:
            draw(shared, args.work, args.out)


if __name__ == "__main__":
    main()
