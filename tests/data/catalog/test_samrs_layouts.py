"""SAMRS's sets in the folders of their authors, and as `label build` writes them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from detection_sets import make_detection_set, settings_of
from geodistill.data.catalog.declarations import CATALOG, SOTA
from geodistill.data.catalog.find import find_set, scan_set
from geodistill.errors import DataError
from geodistill.label.build_labels import build
from official_sets import image, legend_of, values

FOLDERS = {
    "sota": ("images", ".png", "hbox_segs_init"),
    "sior": ("JPEGImages-trainval", ".jpg", "hbox_segs_trainvaltest_init"),
    "fast": ("images", ".png", "rhbox_segs_init"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_authors_folders(name: str, tmp_path: Path) -> None:
    images, suffix, masks = FOLDERS[name]
    stems = ["P0001__0.5__0___0", "b", "c"]
    for at, stem in enumerate(stems):
        image(tmp_path / images / f"{stem}{suffix}", at)
        values(tmp_path / masks / "gray" / f"{stem}.png", at, legend_of(name))
        image(tmp_path / masks / "color" / f"{stem}.png", at)
    # DIOR's test images and their labels are there too.
    image(tmp_path / "JPEGImages-test" / "z.jpg", 9)
    values(tmp_path / masks / "gray" / "z.png", 9, legend_of(name))
    (tmp_path / "train.txt").write_text("P0001__0.5__0___0\nb\n")
    (tmp_path / "valid.txt").write_text("c\n")
    found = find_set(CATALOG[name], tmp_path)
    assert {key: split for key, _, _, split in found.pairs} == {stems[0]: "train", "b": "train", "c": "val"}
    assert all(mask is not None and mask.parts[-3:-1] == (masks, "gray") for _, _, mask, _ in found.pairs)
    report = scan_set(CATALOG[name], tmp_path, tmp_path / "m.parquet")
    assert report.manifest.problems == ()


def test_names_that_repeat_over_parts(tmp_path: Path) -> None:
    for at, part in enumerate(("part1", "part2")):
        image(tmp_path / "images" / part / "0.png", at)
        values(tmp_path / "rhbox_segs_init/gray" / part / "0.png", at, legend_of("fast"))
    image(tmp_path / "images" / "part1/1.png", 5)
    values(tmp_path / "rhbox_segs_init/gray" / "part1/1.png", 5, legend_of("fast"))
    (tmp_path / "train.txt").write_text("part1/0\npart2/0.png\n")
    (tmp_path / "valid.txt").write_text("1\n")
    found = find_set(CATALOG["fast"], tmp_path)
    assert {key: split for key, _, _, split in found.pairs} == {
        "part1/0": "train",
        "part2/0": "train",
        "part1/1": "val",
    }
    (tmp_path / "train.txt").write_text("0\n")
    with pytest.raises(DataError, match="names '0', which fits 2 images"):
        find_set(CATALOG["fast"], tmp_path)


def test_without_lists_a_random_division_is_asked_for_by_name(tmp_path: Path) -> None:
    for at in range(20):
        image(tmp_path / "images" / f"{at}.png", at)
        values(tmp_path / "hbox_segs_init/gray" / f"{at}.png", at, legend_of("sota"))
    with pytest.raises(DataError, match=r"--split drawn"):
        find_set(CATALOG["sota"], tmp_path)
    found = find_set(CATALOG["sota"], tmp_path, split="drawn")
    assert Counter(split for *_, split in found.pairs) == {"train": 19, "val": 1}


def test_what_label_build_writes_is_the_set(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 8)
    build(settings_of(source, classes=("dock", *SOTA)), tmp_path / "other")
    with pytest.raises(DataError, match=r"--preset sota"):
        scan_set(CATALOG["sota"], tmp_path / "other", tmp_path / "m.parquet")
    text = (source / "boxes.json").read_text().replace('"dock"', '"plane"')
    (source / "boxes.json").write_text(text)
    account = build(settings_of(source, classes=SOTA), tmp_path / "sota")
    manifest = scan_set(CATALOG["sota"], tmp_path / "sota", tmp_path / "m.parquet").manifest
    assert Counter(row.split for row in manifest.entries) == account["manifest"]["splits"]
    assert all(row.mask is not None and row.mask.is_file() and row.image.is_file() for row in manifest.entries)
    assert manifest.statistics is not None
