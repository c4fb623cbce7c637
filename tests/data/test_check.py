from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin

from factories import make_dataset, make_picture, make_raster, noise, truncate
from geodistill.data.check import check
from geodistill.data.findings import Finding, format_findings
from geodistill.data.manifest import Manifest
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.spec import Legend


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_dataset(tmp_path, 6)


def scanned(folder: Path) -> Manifest:
    legend = Legend(("class0", "class1", "class2"))
    return scan(folder, None, folder / "m.parquet", legend=legend, statistics=False).manifest


def found(folder: Path) -> list[tuple[str, str, str]]:
    return [(f.kind, Path(f.file).name, f.severity) for f in check(scanned(folder))]


def test_a_good_set_has_no_finding(folder: Path) -> None:
    assert check(scanned(folder)) == []
    assert format_findings([]) == "nothing wrong found"


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_truncated(folder: Path, kind: str) -> None:
    if kind == "masks":
        make_picture(folder / kind / "scene_3.png", noise((40, 50)) // 70)
        (folder / kind / "scene_3.tif").unlink()
        truncate(folder / kind / "scene_3.png")
        assert found(folder) == [("unreadable", "scene_3.png", "error")]
    else:
        truncate(folder / kind / "scene_3.tif")
        assert ("unreadable", "scene_3.tif", "error") in found(folder)


def test_the_mask_of_an_image_that_cannot_be_opened_is_not_blamed(folder: Path) -> None:
    (folder / "images" / "scene_3.tif").unlink()
    make_picture(folder / "images" / "scene_3.png", noise((40, 50)))
    truncate(folder / "images" / "scene_3.png")
    assert {kind for kind, _, _ in found(folder)} == {"unreadable"}


def test_missing_since_the_scan(folder: Path) -> None:
    manifest = scanned(folder)
    (folder / "images" / "scene_3.tif").unlink()
    findings = check(manifest)
    assert [f.kind for f in findings] == ["unreadable"]
    assert "no file" in findings[0].message


def test_size_mismatch(folder: Path) -> None:
    make_raster(folder / "masks" / "scene_2.tif", pixels=np.zeros((1, 41, 50), np.uint8))
    assert found(folder) == [("size_mismatch", "scene_2.tif", "error")]
    assert "is 50 x 41 and its image scene_2.tif is 50 x 40" in check(scanned(folder))[0].message


def test_labels_of_a_mask_of_another_size_are_no_second_error(folder: Path) -> None:
    make_raster(folder / "masks" / "scene_2.tif", pixels=np.full((1, 41, 50), 7, np.uint8))
    assert found(folder) == [("size_mismatch", "scene_2.tif", "error")]
    assert len(scanned(folder).problems) == 1


def test_image_of_another_size_than_at_the_scan(folder: Path) -> None:
    manifest = scanned(folder)
    make_raster(folder / "images" / "scene_2.tif", height=30)
    kinds = {f.kind for f in check(manifest)}
    assert "size_mismatch" in kinds


def test_labels_outside_the_legend_with_their_counts(folder: Path) -> None:
    labels = np.zeros((1, 40, 50), np.uint8)
    labels[0, 0, :3], labels[0, 1, 0] = 7, 9
    make_raster(folder / "masks" / "scene_0.tif", pixels=labels)
    findings = [f for f in check(scanned(folder)) if f.kind != "lone_class"]  # there is one class only
    assert [f.kind for f in findings] == ["unknown_label"]
    assert findings[0].message.endswith("7 (3 pixels), 9 (1 pixels)")


def test_colours_in_no_legend_entry_with_their_counts(tmp_path: Path) -> None:
    legend = Legend(("a",), ((10, 20, 30),))
    labels = np.full((20, 20, 3), (10, 20, 30), np.uint8)
    labels[0, :5] = (1, 2, 3)
    make_picture(tmp_path / "images" / "a.jpg", np.moveaxis(noise((3, 20, 20)), 0, -1))
    make_picture(tmp_path / "masks" / "a.png", labels)
    manifest = scan(
        tmp_path, None, tmp_path / "m.parquet", legend=legend, split=SplitPlan(fractions=(1, 0, 0))
    ).manifest
    findings = [f for f in check(manifest) if f.kind != "lone_class"]  # there is one class only
    assert [f.kind for f in findings] == ["unknown_colour"]
    assert findings[0].message.endswith("#010203 (5 pixels)")


def test_constant_empty_and_unlabelled(folder: Path) -> None:
    make_raster(folder / "images" / "scene_0.tif", pixels=np.full((3, 40, 50), 9, np.uint8))
    make_raster(folder / "images" / "scene_1.tif", pixels=np.zeros((3, 40, 50), np.uint8), nodata=0)
    make_raster(folder / "masks" / "scene_2.tif", pixels=np.full((1, 40, 50), 255, np.uint8))
    kinds = {(kind, name) for kind, name, _ in found(folder) if kind != "grid_mismatch"}
    assert kinds == {
        ("ignored_labels", "m.parquet"),
        ("constant_image", "scene_0.tif"),
        ("no_valid_pixel", "scene_1.tif"),
        ("unlabelled_mask", "scene_2.tif"),
    }


def test_missing_crs_where_the_others_have_one(folder: Path) -> None:
    make_raster(folder / "images" / "scene_4.tif", crs=None)
    assert found(folder) == [("missing_crs", "scene_4.tif", "error")]
    assert check(scanned(folder), expect_crs=False) == []


def test_crs_is_not_expected_of_plain_pictures_unless_asked(tmp_path: Path) -> None:
    manifest = scanned(make_dataset(tmp_path, 4, crs=None))
    assert check(manifest) == []
    assert [f.kind for f in check(manifest, expect_crs=True)] == ["missing_crs"] * 4


def test_mask_that_lies_elsewhere(folder: Path) -> None:
    away = from_origin(500_000 + 4 * 25 + 3, 40_000, 0.5, 0.5)
    make_raster(folder / "masks" / "scene_4.tif", pixels=np.zeros((1, 40, 50), np.uint8), transform=away)
    findings = check(scanned(folder))
    assert [(f.kind, f.severity) for f in findings] == [("grid_mismatch", "error")]
    assert "3 m away" in findings[0].message


def test_another_sample_type(folder: Path) -> None:
    make_raster(folder / "images" / "scene_5.tif", dtype="uint16", transform=from_origin(500_125, 40_000, 0.5, 0.5))
    assert ("dtype", "scene_5.tif", "error") in found(folder)


def test_duplicates_within_and_across_splits(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, 4)
    for target in (1, 2):
        shutil.copy(folder / "images" / "scene_0.tif", folder / "images" / f"scene_{target}.tif")
    (folder / "train.txt").write_text("scene_0\nscene_1\nscene_3\n")
    (folder / "test.txt").write_text("scene_2\n")
    manifest = scan(
        folder, None, folder / "m.parquet", split=SplitPlan("lists", lists=folder), statistics=False
    ).manifest
    findings = [f for f in check(manifest) if f.kind != "grid_mismatch"]
    assert [(f.kind, Path(f.file).stem, f.severity) for f in findings] == [
        ("duplicate", "scene_1", "warning"),
        ("duplicate_across_splits", "scene_2", "error"),
    ]
    assert "scene_0.tif (train), and is in test" in findings[1].message


def test_the_same_pixels_in_another_format_are_a_duplicate(tmp_path: Path) -> None:
    pixels = noise((3, 40, 50))
    for i, name in enumerate(("a.tif", "b.png", "c.tif")):
        if name == "b.png":
            make_picture(tmp_path / "images" / name, np.moveaxis(pixels, 0, -1))
        else:
            make_raster(tmp_path / "images" / name, pixels=pixels + i, crs=None)
        make_picture(tmp_path / "masks" / f"{name[0]}.png", np.zeros((40, 50)))
    assert {f.kind for f in check(scanned(tmp_path))} == {"duplicate_across_splits", "vanished_labels", "lone_class"}


def test_text_and_json() -> None:
    findings = [Finding(f"{i}.tif", "unreadable", "is broken") for i in range(7)]
    findings.append(Finding("a.tif", "duplicate", "is twice", "warning"))
    text = format_findings(findings)
    assert "unreadable: 7 errors" in text
    assert "... and 2 more" in text
    assert text.endswith("7 errors, 1 warning")
    assert json.loads(json.dumps(findings[0].to_dict()))["kind"] == "unreadable"
