"""The paper's three sets from made-up folders in each official layout, up to one pre-training batch of all three."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from factories import make_picture
from geodistill.cli import main
from geodistill.data.catalog.declarations import CATALOG
from geodistill.data.catalog.find import scan_set
from geodistill.data.data_config import SetsConfig
from geodistill.data.datamodule import DataModule
from geodistill.data.manifest import Manifest

BOXES = {"sota": ("plane", "ship"), "sior": ("airplane", "ship"), "fast": ("Boeing737", "Van")}


def picture(path: Path, seed: int) -> None:
    make_picture(path, np.random.default_rng(seed).integers(0, 255, (64, 64, 3)).astype(np.uint8))


def dota(root: Path) -> list[str]:
    for at, split in enumerate(("train", "train", "train", "val")):
        picture(root / split / "images" / f"P{at:04d}.png", at)
        (root / split / "labelTxt").mkdir(parents=True, exist_ok=True)
        lines = "imagesource:GoogleEarth\ngsd:0.25\n5 5 25 5 25 20 5 20 plane 0\n30 30 50 30 50 60 30 60 ship 1\n"
        (root / split / "labelTxt" / f"P{at:04d}.txt").write_text(lines)
    return ["--images", str(root), "--boxes", str(root)]


def dior(root: Path) -> list[str]:
    place = root / "Annotations/Horizontal Bounding Boxes"
    place.mkdir(parents=True)
    for at in range(1, 9):
        folder = "JPEGImages-trainval" if at <= 5 else "JPEGImages-test"
        picture(root / folder / f"{at:05d}.jpg", 100 + at)
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{low}</xmin><ymin>{low}</ymin><xmax>{low + 20}</xmax>"
            f"<ymax>{low + 15}</ymax></bndbox></object>"
            for name, low in (("airplane", 5), ("ship", 35))
        )
        (place / f"{at:05d}.xml").write_text(
            f"<annotation><filename>{at:05d}.jpg</filename><size><width>64</width><height>64</height><depth>3</depth>"
            f"</size>{objects}</annotation>"
        )
    return ["--images", str(root), "--boxes", str(place)]


def fair1m(root: Path) -> list[str]:
    for at, part in enumerate(("train/part1", "train/part2", "validation")):
        for name in ("0", "1"):
            picture(root / part / "images" / f"{name}.tif.png", 200 + at)
            (root / part / "labelXml").mkdir(parents=True, exist_ok=True)
            objects = "".join(
                f"<object><possibleresult><name>{kind}</name></possibleresult><points>"
                + "".join(f"<point>{x},{y}</point>" for x, y in ((low, 5), (low + 20, 5), (low + 20, 30), (low, 30)))
                + f"<point>{low},5</point></points></object>"
                for kind, low in (("Boeing737", 5), ("Van", 35))
            )
            (root / part / "labelXml" / f"{name}.tif.xml").write_text(
                f"<annotation><source><filename>{name}.tif.png</filename></source><size><width>64</width>"
                f"<height>64</height></size><objects>{objects}</objects></annotation>"
            )
    return ["--images", str(root), "--boxes", str(root)]


SPLITS = {
    "sota": {"train": 3, "val": 1},
    "sior": {"train": 4, "val": 1, "test": 3},
    "fast": {"train": 4, "val": 2},
}


def test_from_raw_boxes_to_a_batch_of_all_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, write in (("sota", dota), ("sior", dior), ("fast", fair1m)):
        given = write(tmp_path / f"raw-{name}")
        out = tmp_path / name
        built = main(["label", "build", "--preset", name, *given, "--segmenter", "box", "--out", str(out)])
        assert built == 0, capsys.readouterr().err
        # As `data scan --dataset` and `reproduce` take it.
        scanned = scan_set(CATALOG[name], out, tmp_path / f"{name}.parquet").manifest
        assert Counter(row.split for row in scanned.entries) == SPLITS[name]
        assert scanned.legend == Manifest.load(out / "manifest.parquet").legend
        if name == "sota":
            assert {row.gsd for row in scanned.entries} == {0.25}
    tests = {row.image for row in Manifest.load(tmp_path / "sior/manifest.parquet").rows("test")}
    assert {path.parent.name for path in tests} == {"JPEGImages-test"}
    data = DataModule(
        SetsConfig(
            manifests=tuple(str(tmp_path / name / "manifest.parquet") for name in BOXES),
            crop=32,
            batch_size=11,
            workers=0,
        )
    )
    assert data.parts == {"sota": 3, "sior": 4, "fast": 4}
    batch = next(iter(data.train_dataloader()))
    for position, (name, classes) in enumerate(BOXES.items()):
        values = set(np.unique(batch["mask"][batch["set"] == position])) - {255}
        legend = data.sets[name].legend.names
        assert values <= {legend.index(one) for one in classes}
    assert not any(str(path) in key for path in tests for key in batch["key"])
