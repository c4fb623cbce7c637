"""What is wrong with a set's files stands in its manifest, is told by check, and stops training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform

import geodistill as gd
from factories import make_dataset, make_picture, make_raster, noise
from geodistill.data.check import check
from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.data.findings import label_notes
from geodistill.data.scan import format_scan, scan
from geodistill.data.splits import SplitPlan
from geodistill.data.statistics import lone_classes, misread_labels, vanished_labels
from geodistill.errors import DataError, GeodistillWarning
from geodistill.spec import Legend

LEGEND = Legend(("class0", "class1", "class2"))
OWN = from_origin(500_050, 40_000, 0.5, 0.5)
"""Where `make_dataset` puts its third image."""


def refused(folder: Path, says: str, kind: str) -> None:
    """Scan, check and fit agree that something is wrong, in one line."""
    for statistics in (True, False):
        report = scan(folder, None, folder / "m.parquet", legend=LEGEND, statistics=statistics)
        assert len([problem for problem in report.manifest.problems if says in problem]) == 1
        assert says in format_scan(report)
        with pytest.raises(DataError, match="see 'geodistill data check'") as caught:
            DataModule(DataConfig(manifest=str(report.manifest.path)))
        assert "\n" not in str(caught.value)
    errors = {(f.kind, says in f.message) for f in check(report.manifest) if f.severity == "error"}
    assert errors == {(kind, True)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("placed", "says"),
    [
        (OWN @ Affine.translation(0, 40) @ Affine.scale(1, -1), "upside down"),
        (OWN @ Affine.translation(50, 0) @ Affine.scale(-1, 1), "mirrored"),
        (OWN @ Affine.translation(50, 40) @ Affine.scale(-1, -1), "turned by 180 degrees"),
        (OWN @ Affine.translation(80, 0), "lies 40 m away from its image scene_2.tif (80 pixels)"),
        (OWN @ Affine.translation(0, -0.7), "(0.7 pixels)"),
        (OWN @ Affine.translation(12.5, 10) @ Affine.scale(0.5), "pixels of another size or direction"),
        (OWN @ Affine.rotation(5, (25, 20)), "pixels of another size or direction"),
    ],
)
def test_a_mask_that_lies_otherwise_than_its_image(tmp_path: Path, placed: Affine, says: str) -> None:
    folder = make_dataset(tmp_path, 6)
    path = make_raster(folder / "masks" / "scene_2.tif", pixels=noise((1, 40, 50)) % 3)
    with rasterio.open(path, "r+") as file:
        file.transform = placed
    refused(folder, says, "grid_mismatch")


@pytest.mark.parametrize(
    ("placed", "crs"),
    [
        (OWN, "EPSG:32636"),
        (OWN @ Affine.translation(0.3, 0.3), "EPSG:32636"),
        (None, None),
        (OWN, 'LOCAL_CS["site",UNIT["metre",1]]'),
    ],
)
def test_a_mask_in_its_place(tmp_path: Path, placed: Affine | None, crs: str | None) -> None:
    folder = make_dataset(tmp_path, 6)
    make_raster(folder / "masks" / "scene_2.tif", pixels=noise((1, 40, 50)) % 3, transform=placed, crs=crs)
    report = scan(folder, None, folder / "m.parquet", legend=LEGEND)
    assert report.manifest.problems == ()
    assert check(report.manifest) == []


def test_a_mask_in_another_coordinate_system_is_compared_on_the_ground(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, 6)
    path, labels = folder / "masks" / "scene_2.tif", noise((1, 40, 50)) % 3
    x, y = transform("EPSG:32636", "EPSG:32635", [500_050, 500_075, 500_050], [40_000, 40_000, 39_980])
    away = Affine((x[1] - x[0]) / 50, (x[2] - x[0]) / 40, x[0], (y[1] - y[0]) / 50, (y[2] - y[0]) / 40, y[0])
    make_raster(path, pixels=labels, transform=away, crs="EPSG:32635")
    report = scan(folder, None, folder / "m.parquet", legend=LEGEND)
    assert [f.kind for f in check(report.manifest) if f.severity == "error"] == []
    make_raster(path, pixels=labels, transform=away @ Affine.translation(9, 0), crs="EPSG:32635")
    refused(folder, "away from its image scene_2.tif", "grid_mismatch")


def test_another_sample_type_and_a_missing_crs_are_problems(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, 6)
    make_raster(folder / "images" / "scene_2.tif", dtype="uint16", transform=OWN)
    refused(folder, "has samples of uint16, most of its companions uint8", "dtype")
    make_raster(folder / "images" / "scene_2.tif", crs=None)
    refused(folder, "has no CRS or no transform", "missing_crs")


def test_equal_images_across_splits_are_a_problem(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, 4)
    with rasterio.open(folder / "images" / "scene_0.tif") as first:
        pixels = first.read()
    make_raster(folder / "images" / "scene_2.tif", pixels=pixels, transform=OWN)
    (folder / "train.txt").write_text("scene_0\nscene_1\n")
    (folder / "val.txt").write_text("scene_2\nscene_3\n")
    report = scan(folder, None, folder / "m.parquet", legend=LEGEND, split=SplitPlan("lists", lists=folder))
    assert len(report.manifest.problems) == 1
    assert "scene_0.tif (train), and is in val" in report.manifest.problems[0]
    errors = [f.line for f in check(report.manifest) if f.severity == "error"]
    assert errors == list(report.manifest.problems)


def test_values_that_no_mask_can_hold(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, 4)
    for values in ((0, 1, 300), (-1, 0, 1)):
        with pytest.raises(DataError, match=r"legend value (300|-1) of .* for masks of uint8; expected values from 0"):
            scan(folder, None, folder / "m.parquet", legend=Legend(LEGEND.names, values=values))


def test_labels_that_are_mostly_not_there_are_told_with_shares(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, 4)
    for i in range(4):
        labels = np.full((1, 40, 50), 255, np.uint8)
        labels[0, :10] = 1
        labels[0, :5] = 0
        make_raster(
            folder / "masks" / f"scene_{i}.tif",
            pixels=labels,
            transform=from_origin(500_000 + i * 25, 40_000, 0.5, 0.5),
        )
    report = scan(folder, None, folder / "m.parquet", legend=LEGEND, split=SplitPlan(fractions=(0.5, 0.5, 0)))
    asked = "no pixel is class2 (2), and 75.0% are 255: is 'class2: {value: 255}' meant?"
    lines = ["75.0% of the pixels carry no class (train 75.0%, val 75.0%)", asked]
    for line in lines:
        assert line in format_scan(report)
        assert any(line in note for note in report.to_dict()["notes"])
        assert any(line in f.message and f.severity == "warning" for f in check(report.manifest))
    notes = DataModule(DataConfig(manifest=str(report.manifest.path))).notes
    assert any(lines[0] in note for note in notes)
    assert {"no training pixel of class2, which cannot be learnt", asked} <= set(notes)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_any_label_is_not_trained_on(tmp_path: Path, split: str) -> None:
    folder = make_dataset(tmp_path, 4)
    names = {"train": (0, 1), "val": (2, 3)}
    for name, numbers in names.items():
        (folder / f"{name}.txt").write_text("".join(f"scene_{i}\n" for i in numbers))
    for i in names[split]:
        place = from_origin(500_000 + i * 25, 40_000, 0.5, 0.5)
        make_raster(folder / "masks" / f"scene_{i}.tif", pixels=np.full((1, 40, 50), 255, np.uint8), transform=place)
    report = scan(folder, None, folder / "m.parquet", legend=LEGEND, split=SplitPlan("lists", lists=folder))
    with pytest.raises(DataError, match=rf"no '{split}' pixel of .* carries a class: 100.0 % of 4,000"):
        DataModule(DataConfig(manifest=str(report.manifest.path)))


def test_one_class_alone_is_told() -> None:
    told = vanished_labels(Legend(("roof",)), {"train": (5,)}, {"train": 95})
    assert told[0].startswith("95.0% of the pixels carry no class (train 95.0%)")
    assert lone_classes(Legend(("roof",)), {"train": (5,), "val": (0,)}) == {"train": "roof"}
    assert lone_classes(LEGEND, {"train": (5, 0, 5), "val": (0, 0, 3), "test": (0, 0, 0)}) == {"val": LEGEND.names[2]}
    assert vanished_labels(LEGEND, {"train": (5, 5, 5), "val": (1, 0, 1)}, {"train": 15}) == []


def masks_of(folder: Path, value: int, count: int = 6) -> None:
    for i in range(count):
        labels = np.zeros((40, 50), np.uint8)
        labels[:10, : 10 + i] = value
        make_picture(folder / "images" / f"s{i}.png", np.arange(40 * 50, dtype=np.uint8).reshape(40, 50) + i)
        make_picture(folder / "masks" / f"s{i}.png", labels)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_masks_of_0_and_255_under_a_legend_of_0_and_1(tmp_path: Path) -> None:
    masks_of(tmp_path, 255)
    asked = r"no pixel is building \(1\), and 6\.\d% are 255: is 'building: {value: 255}' meant"
    with pytest.warns(GeodistillWarning, match=asked):
        manifest = gd.scan(tmp_path, out=tmp_path / "m.parquet", legend=["ground", "building"], progress=False)
    notes = label_notes(manifest)
    assert notes[0].endswith("is 'building: {value: 255}' meant?")
    assert "the set has no label in train but 'ground'" in "".join(notes[1:3])
    assert notes[-1].startswith("mask values that are ignored, being no class of the legend: 255 (")
    assert not any(note.startswith(("no pixel of", "has no label")) for note in notes)
    assert notes[0] in [finding.message for finding in check(manifest)]
    with pytest.raises(DataError, match=r"no 'train' label but 'ground'.*{value: 255}' meant\? If so, mend the legend"):
        DataModule(DataConfig(manifest=str(manifest.path)))
    right = Legend(("ground", "building"), values=(0, 255))
    assert label_notes(gd.scan(tmp_path, out=tmp_path / "m.parquet", legend=right, progress=False)) == []


def test_what_a_legend_of_other_values_is_asked() -> None:
    legend = Legend(("ground", "road", "roof"), ((0, 0, 0), (9, 9, 9), (255, 0, 0)))
    counts = {"train": (50, 0, 0), "val": (10, 0, 0)}
    several = misread_labels(legend, counts, {"128": 30, "255": 10}, 100)
    assert several.startswith(
        "no pixel is road (1), roof (2), and 30.0% are 128, 10.0% are 255: are the legend's values"
    )
    painted = misread_labels(legend, {"train": (50, 20, 0)}, {"#fe0000": 30}, 100)
    assert painted == "no pixel is roof (#ff0000), and 30.0% are #fe0000: is 'roof: {colour: \"#fe0000\"}' meant?"
    assert not misread_labels(legend, {"train": (50, 20, 5)}, {"255": 25}, 100), "every class is there"
    ignored = replace(legend, ignore_values=(9, 255))
    assert not misread_labels(ignored, {"train": (50, 20, 0)}, {"9": 30}, 100), "the legend says so"
    assert not misread_labels(legend, {"train": (900, 95, 0)}, {"255": 5}, 1000), "a thin edge is ignored"
