"""What the commands make of a fixed small world, as digests: the same before and after the code is moved about.

    python tests/support/digests.py > before.json
    python tests/support/digests.py > after.json && diff before.json after.json

Everything goes through the command line, so that no name inside the package matters. Takes some minutes on a processor.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import rasterio
import yaml
from rasterio.transform import from_origin

SIDE, COUNT, STEPS = 96, 8, 20
TINY: dict[str, Any] = {
    "data.crop": 64,
    "data.batch_size": 4,
    "data.workers": 0,
    "optimizer.lr": 2e-3,
    "schedule.warmup_steps": 5,
    "trainer.max_steps": STEPS,
    "trainer.val_every_steps": STEPS,
    "trainer.save_every_steps": 1000,
    "trainer.accelerator": "cpu",
    "trainer.pictures": 0,
    "network.encoder": "test_resnet",
}
TEACHER = {"teacher.encoder": "test_vit", "teacher.weights": "null"}
DISCRIMINATOR = {"encoder": "test_vit", "weights": "null", "width": 16}
KDA = {f"losses.phase.discriminator.{key}": value for key, value in DISCRIMINATOR.items()}
METHODS: dict[str, dict[str, Any]] = {
    "supervised-folder": {"network.decoder_channels": 32},
    "ktda-folder": {"network.decoder_channels": 32, "losses.phase.steps": 5, **TEACHER},
    "kda-folder": {"network.decoder_channels": 32, "losses.phase.steps": 5, **TEACHER, **KDA},
    "mafl-teacher": {
        "network.encoder": "test_vit(adapters=block)",
        "network.encoder_weights": "null",
        "network.width": 32,
        "data.classes": 2,
    },
    "metasegnet-folder": {"network.width": 32, "network.heads": 4},
    "sep": {"network.decoder_channels": 64, "network.encoder_weights": "null", "data.batch_size": 8},
}
"""Recipes, and what makes each a run of seconds."""


def draw_world(folder: Path) -> Path:
    """Write two sets of georeferenced images, masks and boxes; bright squares are buildings."""
    for place in ("town", "village"):
        annotations: list[dict[str, Any]] = []
        images: list[dict[str, Any]] = []
        for index in range(COUNT):
            rng = np.random.default_rng(100 * index + len(place))
            mask = np.zeros((SIDE, SIDE), np.uint8)
            for row, col in ((4, 6), (10, 56), (54, 14), (58, 60)):
                height, width = (int(n) for n in rng.integers(14, 30, 2))
                mask[row : row + height, col : col + width] = 1
                box = [col, row, width, height]
                annotations.append({"id": len(annotations), "image_id": index, "category_id": 1, "bbox": box})
            pixels = (rng.normal(60, 12, (3, SIDE, SIDE)) + 110 * mask).clip(1, 255).astype(np.uint8)
            name = f"t{index}.tif"
            images.append({"id": index, "file_name": name, "height": SIDE, "width": SIDE})
            _write(folder / place / "images" / name, pixels, index)
            _write(folder / place / "masks" / name, mask[None], index)
        boxes = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "building"}]}
        (folder / place / "boxes.json").write_text(json.dumps(boxes), encoding="utf-8")
    legend = {"classes": {"ground": {"value": 0, "colour": "#5a783c"}, "building": {"value": 1, "colour": "#c83c32"}}}
    (folder / "legend.yaml").write_text(yaml.safe_dump(legend), encoding="utf-8")
    return folder


def _write(path: Path, pixels: Any, index: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = from_origin(500_000 + index * SIDE, 5_500_000, 0.5, 0.5)
    size = {"count": len(pixels), "height": SIDE, "width": SIDE, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32632", transform=transform, **size) as file:
        file.write(pixels)


def run(*arguments: object) -> None:
    """Run a command of geodistill, which must end well."""
    command = [sys.executable, "-m", "geodistill", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def digest(data: bytes) -> str:
    """Return the beginning of a SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def pixels_of(path: Path) -> str:
    """Return the digest of a raster's samples and place."""
    with rasterio.open(path) as file:
        return digest(file.read().tobytes() + str((file.crs, file.transform, file.nodata)).encode())


def features_of(path: Path) -> str:
    """Return the digest of a vector file's features in GeoJSON."""
    import geopandas

    return digest(geopandas.read_file(path).to_json().encode())


def losses_of(run_folder: Path) -> list[str]:
    """Return every loss that the run logged, to its last digit, phases before it included."""
    lines = []
    for path in sorted(run_folder.rglob("metrics.csv")):
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                kept = {k: v for k, v in sorted(row.items()) if v and ("loss" in k or k.startswith("train/"))}
                if kept:
                    lines.append(json.dumps(kept))
    return lines


def digests(folder: Path) -> dict[str, Any]:
    """Run everything below a folder and return what came out."""
    world, found = draw_world(folder / "world"), {}
    for place in ("town", "village"):
        run("data", "scan", "--images", world / place / "images", "--masks", world / place / "masks",
            "--legend", world / "legend.yaml", "--out", folder / f"{place}.parquet")  # fmt: skip
    for segmenter in ("box", "grabcut"):
        labels = folder / f"labels-{segmenter}"
        town = ("--images", world / "town" / "images", "--boxes", world / "town" / "boxes.json", "--format", "coco")
        how = ("--segmenter", segmenter, "--tile", 64, "--background", "ground")
        run("label", "build", *town, *how, "--out", labels)
        masks = sorted(path for path in labels.rglob("*.tif") if "gray" in path.parts)
        found[f"labels {segmenter}"] = [len(masks), digest("".join(map(pixels_of, masks)).encode())]
        instances = json.loads((labels / "instances.json").read_text(encoding="utf-8"))
        kept = [[a["bbox"], a.get("segmentation"), a["area"]] for a in instances["annotations"]]
        found[f"instances {segmenter}"] = [len(kept), digest(json.dumps(kept).encode())]
    for recipe, changes in METHODS.items():
        flags = [part for key, value in (TINY | changes).items() for part in (f"--{key}", str(value))]
        manifests = [folder / "town.parquet"]
        if recipe == "sep":
            manifests.append(folder / "village.parquet")
        given = ["--data.manifests" if recipe == "sep" else "--data.manifest", *manifests]
        run("fit", "--config", recipe, *given, *flags, "--out", folder / recipe)
        losses = losses_of(folder / recipe)
        found[f"losses {recipe}"] = [len(losses), digest("\n".join(losses).encode()), losses[-1]]
    found |= products(folder, world)
    return found


def products(folder: Path, world: Path) -> dict[str, Any]:
    """Return digests of a map with all its layers, its polygons, an evaluation and an exported graph."""
    model, scene = folder / "ktda-folder", world / "village" / "images" / "t3.tif"
    found: dict[str, Any] = {}
    run("predict", "--model", model, "--input", scene, "--out", folder / "map.tif", "--confidence", "--probabilities",
        "float32", "--vector", "gpkg", "--backend", "torch", "--precision", "fp32", "--batch", 2)  # fmt: skip
    for path in sorted(folder.glob("map*.tif")):
        found[path.name] = pixels_of(path)
    found["map.gpkg"] = features_of(folder / "map.gpkg")
    run("evaluate", "--model", model, "--manifest", folder / "town.parquet", "--split", "val", "--out", folder / "val")
    found["metrics.csv"] = digest((folder / "val" / "metrics.csv").read_bytes())
    run("export", "--model", model, "--to", "onnx", "--out", folder / "student.onnx")
    session = onnxruntime.InferenceSession(folder / "student.onnx", providers=["CPUExecutionProvider"])
    with rasterio.open(scene) as file:
        image = file.read()[None, :, :64, :64].astype(np.float32)
    (logits,) = session.run(None, {session.get_inputs()[0].name: image})
    found["onnx"] = digest(np.round(logits, 4).tobytes())
    return found


def main() -> None:
    """Print the digests as JSON, one line per result."""
    with tempfile.TemporaryDirectory() as folder:
        json.dump(digests(Path(folder)), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
