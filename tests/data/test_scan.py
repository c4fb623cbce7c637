from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin

from factories import make_dataset, make_picture, make_raster, noise, truncate
from geodistill.cli import main
from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.data.manifest import Manifest, make_spec
from geodistill.data.scan import ScanReport, format_scan, scan
from geodistill.data.splits import SplitPlan
from geodistill.errors import DataError, OutputError
from geodistill.spec import Legend

COLOURS = {"land": (132, 41, 246), "water": (226, 169, 41)}


def colour_dataset(folder: Path, count: int = 4) -> Path:
    """JPEG images with RGB PNG masks, in nests as Tile_1/images, Tile_1/masks."""
    for i in range(count):
        nest = folder / f"Tile_{i}"
        make_picture(nest / "images" / "p.jpg", np.moveaxis(noise((3, 20, 30), seed=i), 0, -1))
        labels = np.zeros((20, 30, 3), np.uint8)
        labels[:10], labels[10:] = COLOURS["land"], COLOURS["water"]
        make_picture(nest / "masks" / "p.png", labels)
    text = "classes: {land: '#8429F6', water: '#E2A929'}"
    (folder / "legend.yaml").write_text(text)
    return folder


def test_a_plain_folder(tmp_path: Path) -> None:
    report = scan(make_dataset(tmp_path, 8), None, tmp_path / "m.parquet")
    manifest = Manifest.load(tmp_path / "m.parquet")
    assert manifest == report.manifest
    assert Counter(row.split for row in manifest.entries) == {"train": 6, "val": 1, "test": 1}
    assert not manifest.problems
    row = manifest.entries[0]
    assert row.gsd == pytest.approx(0.5, rel=1e-3)
    assert row.lon == pytest.approx(33, abs=0.01)
    assert (row.window.height, row.window.width) == (40, 50)
    assert report.legend_inferred
    assert make_spec(manifest).classes == 3


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("mask_suffix", [".tif", ".png", ".bmp"])
def test_every_format(tmp_path: Path, suffix: str, mask_suffix: str) -> None:
    for i in range(3):
        make_picture(tmp_path / "images" / f"{i}{suffix}", np.moveaxis(noise((3, 20, 30), seed=i), 0, -1))
        make_picture(tmp_path / "masks" / f"{i}{mask_suffix}", np.arange(600).reshape(20, 30) // 300)
    manifest = scan(tmp_path, None, tmp_path / "m.parquet").manifest
    assert not manifest.problems
    assert manifest.legend is not None
    assert manifest.legend.values == (0, 1)


def test_colour_masks_through_a_legend_split_by_named_groups(tmp_path: Path) -> None:
    folder = colour_dataset(tmp_path)
    report = scan(
        folder,
        None,
        tmp_path / "out",
        legend=folder / "legend.yaml",
        split=SplitPlan("group", group_regex=r"Tile_\d", groups={"val": ["Tile_2"], "test": ["Tile_3"]}),
    )
    assert report.manifest.path == tmp_path / "out" / "manifest.parquet"
    assert report.groups["train"] == ("Tile_0", "Tile_1")
    assert [row.split for row in report.manifest.entries] == ["train", "train", "val", "test"]
    statistics = report.manifest.statistics
    assert statistics is not None
    assert statistics.class_pixels["test"] == (300, 300)


def test_colour_masks_without_a_legend_get_a_proposal_that_is_written_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "scan", str(colour_dataset(tmp_path / "town")), "--out", str(tmp_path / "out" / "m.parquet")]
    assert main(command) == 0
    file = tmp_path / "out" / "legend.yaml"
    assert str(file) in capsys.readouterr().out
    legend = Legend.load(file)
    assert "#8429f6" in legend.names
    assert legend.colours == Manifest.load(tmp_path / "out" / "m.parquet").legend.colours  # type: ignore[union-attr]
    file.write_text("edited")
    assert main(command) == 0
    assert file.read_text() == "edited"
    assert "left as it is" in capsys.readouterr().out


def test_masks_beside_the_folder_that_is_named(tmp_path: Path) -> None:
    make_dataset(tmp_path / "town", 3)
    whole = scan(tmp_path / "town", None, tmp_path / "m.parquet").manifest
    named = scan(tmp_path / "town" / "images", None, tmp_path / "n.parquet").manifest
    assert [(row.image, row.mask) for row in named.entries] == [(row.image, row.mask) for row in whole.entries]
    alone = scan(tmp_path / "town" / "images", None, tmp_path / "u.parquet", unlabelled=True).manifest
    assert {row.mask for row in alone.entries} == {None}
    assert Manifest.load(named.path.parent / "n.parquet") == named  # type: ignore[union-attr]


def test_what_has_no_partner_is_counted_and_named(tmp_path: Path) -> None:
    make_dataset(tmp_path, 4)
    (tmp_path / "masks" / "scene_0.tif").rename(tmp_path / "masks" / "other.tif")
    report = scan(tmp_path, None, tmp_path / "m.parquet")
    text = format_scan(report)
    assert "1 image without a mask, left out:" in text
    assert "scene_0.tif" in text
    assert "1 mask without an image, left out:" in text
    assert report.to_dict()["images_without_mask"][0].endswith("scene_0.tif")
    json.dumps(report.to_dict())


def test_images_without_mask_can_be_taken_for_transfer(tmp_path: Path) -> None:
    make_dataset(tmp_path, 4)
    (tmp_path / "masks" / "scene_0.tif").unlink()
    manifest = scan(tmp_path, None, tmp_path / "m.parquet", unlabelled=True).manifest
    assert [row.image.name for row in manifest.rows("unlabelled")] == ["scene_0.tif"]
    only = scan(tmp_path / "images", None, tmp_path / "u.parquet", unlabelled=True).manifest
    assert Counter(row.split for row in only.entries) == {"unlabelled": 4}
    assert only.legend is None
    assert only.statistics is not None
    assert len(only.statistics.mean) == 3


def test_no_pair_names_what_was_tried(tmp_path: Path) -> None:
    make_raster(tmp_path / "images" / "a.tif")
    with pytest.raises(DataError, match=r"no pair found: 1 image such as .*_mask") as caught:
        scan(tmp_path, None, tmp_path / "m.parquet")
    assert "\n" not in str(caught.value)


def test_bands_and_dates_come_from_the_files(tmp_path: Path) -> None:
    for i, name in enumerate(("s_20200831", "s_2021-02-28", "s_99999999")):
        make_raster(tmp_path / "images" / f"{name}.tif", channels=2, bands=["red", "nir"], seed=i)
        make_raster(tmp_path / "masks" / f"{name}.tif", pixels=np.zeros((1, 40, 50), np.uint8))
    manifest = scan(tmp_path, None, tmp_path / "m.parquet").manifest
    assert manifest.bands == ("red", "nir")
    assert {row.image.stem: row.date for row in manifest.entries} == {
        "s_20200831": "2020-08-31", "s_2021-02-28": "2021-02-28", "s_99999999": None
    }  # fmt: skip


def test_images_of_different_kinds_are_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path, 3)
    make_raster(tmp_path / "images" / "scene_0.tif", channels=4)
    with pytest.raises(DataError, match=r"2 with 3 bands .* 1 with 4 bands such as .*scene_0\.tif"):
        scan(tmp_path, None, tmp_path / "m.parquet")


def test_one_scene_cut_into_areas(tmp_path: Path) -> None:
    image = make_raster(tmp_path / "scene.tif", height=120, width=120)
    mask = make_raster(tmp_path / "truth.tif", pixels=np.zeros((1, 120, 120), np.uint8))
    manifest = scan(
        image, mask, tmp_path / "m.parquet", split=SplitPlan("window", block_size=40, block_unit="pixels")
    ).manifest
    assert len(manifest.entries) == 9
    assert {row.split for row in manifest.entries} == {"train", "val", "test"}
    assert sum(row.window.height * row.window.width for row in manifest.entries) == 120 * 120


class TestProblems:
    """A scan goes through; what is wrong is written down, shown, and stops training in one line."""

    def refused(self, report: ScanReport, says: str) -> None:
        assert len(report.manifest.problems) == 1
        assert says in report.manifest.problems[0]
        assert f"problem: {report.manifest.problems[0]}" in format_scan(report)
        with pytest.raises(DataError, match="data check") as caught:
            DataModule(DataConfig(manifest=str(report.manifest.path)))
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_truncated_image(self, tmp_path: Path) -> None:
        make_dataset(tmp_path, 5)
        truncate(tmp_path / "images" / "scene_2.tif")
        self.refused(scan(tmp_path, None, tmp_path / "m.parquet"), "scene_2.tif is truncated")

    def test_image_that_cannot_be_opened(self, tmp_path: Path) -> None:
        make_dataset(tmp_path, 5)
        (tmp_path / "images" / "scene_2.tif").write_bytes(b"no")
        report = scan(tmp_path, None, tmp_path / "m.parquet")
        assert "scene_2.tif cannot be opened" in report.manifest.problems[0]
        assert len(report.manifest.entries) == 5

    def test_mask_larger_than_image(self, tmp_path: Path) -> None:
        make_dataset(tmp_path, 5)
        make_raster(tmp_path / "masks" / "scene_1.tif", pixels=np.zeros((1, 44, 55), np.uint8))
        self.refused(scan(tmp_path, None, tmp_path / "m.parquet"), "is 55 x 44 and its image scene_1.tif is 50 x 40")

    def test_label_outside_the_legend(self, tmp_path: Path) -> None:
        make_dataset(tmp_path, 5)
        odd, place = np.full((1, 40, 50), 7, np.uint8), from_origin(500_025, 40_000, 0.5, 0.5)
        make_raster(tmp_path / "masks" / "scene_1.tif", pixels=odd, transform=place)
        legend = Legend(tuple("abcdef"))
        report = scan(tmp_path, None, tmp_path / "m.parquet", legend=legend)
        self.refused(report, "scene_1.tif has label 7 (2000 pixels) outside the legend")
        ignoring = scan(tmp_path, None, tmp_path / "m.parquet", legend=legend, ignore_unknown=True)
        assert not ignoring.manifest.problems
        assert "2000 pixels with labels in no legend entry are ignored: 7" in format_scan(ignoring)

    def test_nothing_can_be_opened(self, tmp_path: Path) -> None:
        (tmp_path / "a.tif").write_bytes(b"no")
        with pytest.raises(DataError, match="none of 1 image can be opened"):
            scan(tmp_path, None, tmp_path / "m.parquet", unlabelled=True)

    def test_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        make_dataset(tmp_path / "data", 3)
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError):
            scan(tmp_path / "data", None, tmp_path / "file" / "m.parquet")


@pytest.mark.slow
def test_real_georeferenced_chips(tmp_path: Path, shared: Path) -> None:
    report = scan(
        shared / "data" / "hot_kampala" / "chips_tif",
        None,
        tmp_path / "m.parquet",
        split=SplitPlan("group", group_regex="train|val"),
    )
    assert Counter(row.split for row in report.manifest.entries) == {"train": 118, "val": 29}
    assert not report.manifest.problems
    assert all(row.lat == pytest.approx(0.35, abs=0.1) for row in report.manifest.entries)


def test_real_four_bands_with_nodata(tmp_path: Path, shared: Path) -> None:
    folder = shared / "data" / "naip_landsat" / "naip"
    manifest = scan(folder, None, tmp_path / "m.parquet", unlabelled=True).manifest
    assert len(manifest.bands) == 4
    assert {row.date for row in manifest.entries} == {"2019-09-04", "2020-08-31"}
    assert manifest.statistics is not None
    assert manifest.statistics.gsd is not None
    assert manifest.statistics.gsd.median == pytest.approx(5, rel=0.01)


class TestOutput:
    """A manifest never takes the place of what is read, and says by its name what it is."""

    @pytest.mark.parametrize("name", ["masks/scene_0.tif", "legend.yaml", "new.csv", "images/scene_1.tif"])
    def test_names_of_other_files_are_refused(self, tmp_path: Path, name: str) -> None:
        make_dataset(tmp_path, 4)
        (tmp_path / "legend.yaml").write_text("classes: [a, b, c]")
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(OutputError, match=r"a name that ends in \.parquet"):
            scan(tmp_path, None, tmp_path / name, legend=tmp_path / "legend.yaml")
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    def test_a_link_to_what_is_read_is_refused(self, tmp_path: Path) -> None:
        make_dataset(tmp_path, 4)
        out = tmp_path / "m.parquet"
        out.hardlink_to(tmp_path / "masks" / "scene_2.tif")
        with pytest.raises(OutputError, match=r"would be overwritten, and is read"):
            scan(tmp_path, None, out)

    @pytest.mark.parametrize("name", ["sets", "sets.v2"])
    def test_a_folder_gets_the_manifest(self, tmp_path: Path, name: str) -> None:
        make_dataset(tmp_path, 4)
        (tmp_path / "sets.v2").mkdir()
        assert scan(tmp_path, None, tmp_path / name).manifest.path == tmp_path / name / "manifest.parquet"

    def test_lists_that_are_not_utf8(self, tmp_path: Path) -> None:
        make_dataset(tmp_path, 4)
        (tmp_path / "train.txt").write_bytes(b"sc\xe8ne_0")
        with pytest.raises(DataError, match=r"train\.txt is not UTF-8"):
            scan(tmp_path, None, tmp_path / "m.parquet", split=SplitPlan("lists", lists=tmp_path))
