"""A made-up world, small enough that a trial takes about a second: sets, scenes, annotations, and tiny models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from rasterio.transform import from_origin

from detection_sets import make_detection_set
from factories import make_dataset, make_picture, make_raster, noise
from torture.forks import run

RECIPE = """\
method: supervised
network: {architecture: unet, encoder: test_efficientnet, encoder_weights: null, decoder_channels: 16}
data: {crop: 32, batch_size: 2, workers: 0}
optimizer: {lr: 2.0e-3}
schedule: {kind: cosine, warmup_steps: 1}
trainer: {max_steps: 6, val_every_steps: 2, save_every_steps: 2, accelerator: cpu, pictures: 1}
"""

BEST_EARLY = RECIPE.replace("lr: 2.0e-3", "lr: 8.0e-2").replace("max_steps: 6", "max_steps: 10, patience: 4")
"""So large a rate that a validation before the last is the best."""

CACHED = (
    RECIPE
    + "teacher: {encoder: test_resnet, weights: null, cache: out/cache, views: 2}\nlosses: {weights: {feature: 1.0}}\n"
)

PHASE = """\
method: METHOD
network: {encoder: test_efficientnet, encoder_weights: null, WIDTH}
teacher: {encoder: test_vit, weights: null}
losses: {phase: {steps: 4, lr: 1.0e-2, OWN}}
data: {crop: 32, batch_size: 2, workers: 0}
schedule: {kind: cosine, warmup_steps: 1}
trainer: {max_steps: 4, val_every_steps: 2, save_every_steps: 1, accelerator: cpu, pictures: 0}
"""

RECIPES = {
    "recipe": RECIPE,
    "early": BEST_EARLY,
    "cached": CACHED,
    "ktda": PHASE.replace("METHOD", "ktda")
    .replace("WIDTH", "decode_from: encoder, decoder: unet")
    .replace(", OWN", ""),
    "kda": PHASE.replace("METHOD", "kda")
    .replace(", WIDTH", "")
    .replace("OWN", "discriminator: {form: patch, encoder: test_vit, weights: null, width: 16}"),
}


def make_world(folder: Path) -> Path:
    """Make the world in ``folder/in`` by the commands themselves, and give that folder."""
    world = folder / "in"
    make_dataset(world / "set", count=6, height=48, width=48)
    make_detection_set(world / "det", count=4, height=60, width=80)
    make_detection_set(world / "geo", count=2, height=60, width=80, empty=0, georeferenced=True)
    _scenes(world)
    _annotations(world)
    for name, text in RECIPES.items():
        (world / f"{name}.yaml").write_text(text, encoding="utf-8")
    (world / "legend.yaml").write_text("classes: {low: 0, middle: 1, high: 2}\n", encoding="utf-8")
    scan = ("data", "scan", "--images", "in/set/images", "--masks", "in/set/masks", "--legend", "in/legend.yaml")
    _do(folder, *scan, "--fractions", "0.5", "0.5", "0", "--out", "in/m.parquet")
    _do(folder, "fit", "--config", "in/recipe.yaml", "--data.manifest", "in/m.parquet", "--out", "run")
    (folder / "run" / "segmenter").rename(world / "model")
    _do(folder, "fit", "--config", "in/recipe.yaml", "--data.manifest", "in/m.parquet", "--out", "run2",
        "--trainer.seed", "7")  # fmt: skip
    (folder / "run2" / "segmenter").rename(world / "model2")
    shutil.rmtree(folder / "run")
    shutil.rmtree(folder / "run2")
    return world


def _do(folder: Path, *argv: str) -> None:
    done = run(argv, folder)
    if done.status != 0:
        raise RuntimeError(f"the world cannot be made: {argv}: {done.status} {done.err[-2000:]}")


def _scenes(world: Path) -> None:
    """Scenes of 100 x 90 pixels, one cut in blocks; what refers to them: VRT, STAC item, tile index."""
    import pyarrow
    import pyarrow.parquet

    for i in range(3):
        place = from_origin(500_000 + 100 * i, 40_000, 0.5, 0.5)
        pixels = noise((3, 100, 90), "uint8", i)
        make_raster(world / "scenes" / f"s{i}.tif", pixels=pixels, transform=place, tiled=i == 0)
    (world / "scenes" / "v.vrt").write_text(VRT, encoding="utf-8")
    asset = {"href": "s1.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "s1", "geometry": None, "properties": {"datetime": None},
            "links": [], "assets": {"data": asset}}  # fmt: skip
    (world / "scenes" / "item.json").write_text(json.dumps(item), encoding="utf-8")
    table = pyarrow.table({"location": ["s0.tif", "s1.tif"]})
    pyarrow.parquet.write_table(table, world / "scenes" / "tiles.parquet")
    make_picture(world / "scenes" / "p.png", np.moveaxis(noise((3, 70, 60), "uint8", 9), 0, -1))


_BAND = """<VRTRasterBand dataType="Byte" band="{0}"><SimpleSource><SourceFilename relativeToVRT="1">s1.tif\
</SourceFilename><SourceBand>{0}</SourceBand></SimpleSource></VRTRasterBand>"""
VRT = (
    '<VRTDataset rasterXSize="90" rasterYSize="100"><SRS>EPSG:32636</SRS>'
    "<GeoTransform>500100, 0.5, 0, 40000, 0, -0.5</GeoTransform>"
    + "".join(map(_BAND.format, (1, 2, 3)))
    + "</VRTDataset>"
)


def _annotations(world: Path) -> None:
    """The boxes of ``det`` as DOTA, YOLO and VOC beside the COCO file, those of ``geo`` as GeoJSON."""
    data = json.loads((world / "det" / "boxes.json").read_text(encoding="utf-8"))
    for image in data["images"]:
        stem, size = Path(image["file_name"]).stem, (image["width"], image["height"])
        found = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        names = ["ship", "dock"]
        texts: dict[str, list[str]] = {"dota": [], "yolo": [], "voc": []}
        for a in found:
            x, y, w, h = a["bbox"]
            name = names[a["category_id"]]
            texts["dota"].append(f"{x} {y} {x + w} {y} {x + w} {y + h} {x} {y + h} {name} 0")
            shares = ((x + w / 2) / size[0], (y + h / 2) / size[1], w / size[0], h / size[1])
            texts["yolo"].append(" ".join([str(a["category_id"]), *map(repr, shares)]))
            box = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>"
            texts["voc"].append(f"<object><name>{name}</name><bndbox>{box}</bndbox></object>")
        texts["voc"] = ["<annotation>", f"<filename>{image['file_name']}</filename>", *texts["voc"], "</annotation>"]
        for kind, lines in texts.items():
            file = world / "det" / kind / f"{stem}.{'xml' if kind == 'voc' else 'txt'}"
            file.parent.mkdir(exist_ok=True)
            file.write_text("\n".join([*lines, ""]), encoding="utf-8")
    (world / "det" / "yolo" / "classes.txt").write_text("ship\ndock\n", encoding="utf-8")
    _geojson(world / "geo")


def _geojson(folder: Path) -> None:
    import rasterio

    data = json.loads((folder / "boxes.json").read_text(encoding="utf-8"))
    features = []
    for a in data["annotations"]:
        with rasterio.open(folder / "images" / f"scene_{a['image_id']}.tif") as raster:
            place = raster.transform
        x, y, w, h = a["bbox"]
        ring = [list(place @ corner) for corner in ((x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y))]
        properties = {"category": ["ship", "dock"][a["category_id"]]}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32636"}}
    text = json.dumps({"type": "FeatureCollection", "crs": crs, "features": features})
    (folder / "boxes.geojson").write_text(text, encoding="utf-8")
