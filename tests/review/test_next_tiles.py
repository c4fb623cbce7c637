"""Which tiles to label next: unsure ones that are unlike each other and what is labelled, as list and GeoPackage."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import torch
from PIL import Image
from rasterio.transform import from_origin

from detection_sets import make_detection_set, settings_of
from factories import make_picture, make_raster
from geodistill.cli import main
from geodistill.data.manifest import Manifest, Row
from geodistill.errors import DataError
from geodistill.inference.geopackage import add_layer_style
from geodistill.label.build_labels import build
from geodistill.methods.supervised.network import SupervisedNetwork
from geodistill.raster import Grid, Window
from geodistill.review.next_tiles import NextOptions, NextTile, choose_next, spread
from geodistill.segmenter import Segmenter
from text_models import zoned_segmenter
from tiny import tiny_spec


def tile_of(angle: float, uncertainty: float, weak: float = 0.0) -> NextTile:
    features = np.array((np.cos(angle), np.sin(angle)), np.float32)
    return NextTile(Path(f"{angle}"), Window(0, 0, 8, 8), Grid(8, 8), uncertainty, weak, features)


def test_tiles_are_unsure_and_unlike_each_other() -> None:
    tiles = [tile_of(0, 0.9), tile_of(0.01, 0.8), tile_of(1.5, 0.3), tile_of(3.1, 0.2), tile_of(1.4, 0.2, weak=0.2)]
    chosen = spread(tiles, [], 3)
    # 0.9 is the most unsure; 0.2 x (1 - cos 3.1) = 0.4 is the most that is left; then 0.4 x (1 - cos 1.4) = 0.33
    # against 0.3 x (1 - cos 1.5) = 0.28 and 0.8 x (1 - cos 0.01) = 0.
    assert [tiles.index(next(t for t in tiles if t.image == one.image)) for one in chosen] == [0, 3, 4]
    assert chosen[0].distance is None
    assert chosen[1].distance == pytest.approx(1 - np.cos(3.1), abs=1e-5)
    labelled = [tile_of(0, 0).features]
    assert spread(tiles, labelled, 1)[0].image == tiles[3].image, "what is like labelled tiles comes last"
    assert len(spread(tiles, [], 99)) == 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    arguments = {"architecture": "unet", "encoder": "test_resnet"}
    network = SupervisedNetwork(3, 3, **arguments)
    folder = tmp_path_factory.mktemp("model") / "segmenter"
    Segmenter.from_network("supervised", arguments, tiny_spec(std=60.0), network.state_dict(), 64, {}).save(folder)
    return folder


def test_the_command_writes_list_and_squares(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (3, 128, 130)).astype(np.uint8)
    images = tmp_path / "images"
    make_raster(images / "a.tif", pixels=pixels, transform=from_origin(500_000, 40_000, 0.5, 0.5))
    make_picture(images / "b.png", np.moveaxis(pixels[:, :64, :64], 0, -1))
    out = tmp_path / "next.csv"
    command = ["label", "next", str(images), "--model", str(model), "--out", str(out), "--count", "7"]
    assert main([*command, "--weak", "c1", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["tiles"], summary["candidates"], summary["georeferenced"]) == (7, 7, 6)
    rows = list(csv.DictReader(out.open()))
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 8)]
    assert {(row["row"], row["col"]) for row in rows if row["image"].endswith("a.tif")} == {
        (row, col) for row in ("0", "64") for col in ("0", "64", "66")
    }
    assert all(0 < float(row["uncertainty"]) <= 1 for row in rows)
    squares = geopandas.read_file(tmp_path / "next.gpkg")
    assert squares.crs == "EPSG:4326"
    for row, square in zip([row for row in rows if row["lon"]], squares.geometry, strict=True):
        assert square.centroid.x == pytest.approx(float(row["lon"]), abs=1e-6)
    metres = squares.to_crs("EPSG:32636").area
    assert metres.to_numpy() == pytest.approx(np.full(6, 32.0**2), rel=2e-3)
    add_layer_style(tmp_path / "next.gpkg", "next", "<qgis/>")  # as QGIS saves one
    assert main([*command, "--count", "3"]) == 0
    assert geopandas.read_file(tmp_path / "next.gpkg", layer="layer_styles")["styleQML"].tolist() == ["<qgis/>"]
    assert len(geopandas.read_file(tmp_path / "next.gpkg", layer="next")) < len(squares)

    assert (
        main(["data", "scan", "--images", str(images / "a.tif"), "--unlabelled", "--out", str(tmp_path / "m.parquet")])
        == 0
    )
    capsys.readouterr()
    assert main([*command, "--labelled", str(tmp_path / "m.parquet")]) == 0
    assert "1 of them are not georeferenced, and in the list alone" in capsys.readouterr().out
    assert not out.with_suffix(".gpkg").exists(), "that of the first list"
    assert [Path(row["image"]).name for row in csv.DictReader(out.open())] == ["b.png"]

    squares.to_file(out.with_suffix(".gpkg"), layer="mine")
    assert main(command) == 2
    assert "next.gpkg is no file that 'label next' wrote" in capsys.readouterr().err
    assert geopandas.read_file(out.with_suffix(".gpkg"), layer="mine").equals(squares)


@pytest.mark.slow
def test_of_a_labelled_image_only_the_rows_own_part_counts(model: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (3, 64, 128)).astype(np.uint8)
    pixels[:, :, :64] //= 8
    make_raster(tmp_path / "a.tif", pixels=pixels)
    make_picture(tmp_path / "images/right.png", np.moveaxis(pixels[:, :, 64:], 0, -1))
    distances = []
    for col in (0, 64):
        row = Row(tmp_path / "a.tif", None, "train", Window(0, col, 64, 64))
        Manifest((row,), ("red", "green", "blue")).save(tmp_path / f"{col}.parquet")
        options = NextOptions(count=1, labelled=tmp_path / f"{col}.parquet")
        (tile,) = choose_next([tmp_path / "images"], Segmenter.load(model), options).tiles
        distances.append(tile.distance)
    assert distances[1] == pytest.approx(0, abs=1e-5)
    assert distances[0] is not None
    assert distances[0] > 1e-4


def test_what_has_no_data_is_seen_as_zero_whatever_marks_it(model: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).uniform(1, 255, (3, 64, 128)).astype(np.float32)
    pixels[:, :, :20], pixels[:, :, 64:] = np.nan, np.nan
    images = [
        make_raster(tmp_path / f"{name}.tif", pixels=np.nan_to_num(pixels, nan=nodata), nodata=nodata)
        for name, nodata in (("zero", 0), ("far", -9999))
    ]
    dark = make_raster(tmp_path / "dark.tif", pixels=np.zeros((3, 64, 64), np.float32))
    rows = (Row(images[1], None, "train", Window(0, 0, 64, 128)),)
    Manifest(rows, ("red", "green", "blue")).save(tmp_path / "m.parquet")
    zero, far = (choose_next([image], Segmenter.load(model), NextOptions()) for image in images)
    assert zero.too_empty == far.too_empty == 1
    assert zero.tiles[0].uncertainty == far.tiles[0].uncertainty
    options = NextOptions(labelled=tmp_path / "m.parquet")
    first, last = choose_next([images[0], dark], Segmenter.load(model), options).tiles
    assert (first.image, last.image) == (dark, images[0]), "a part without data is nothing that is labelled"
    assert last.distance == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("changes", "grey"), [({"tile": 40}, False), ({}, True), ({}, False)])
def test_images_that_a_label_folder_was_made_of_are_labelled(
    model: Path, tmp_path: Path, changes: dict[str, int], grey: bool
) -> None:
    source = make_detection_set(tmp_path / "set", 3, empty=0)
    if grey:
        for path in (source / "images").iterdir():
            Image.open(path).convert("L").save(path)
    build(settings_of(source, background="sea", **changes), tmp_path / "labels")
    make_picture(source / "images/new.png", np.zeros((64, 64, 3), np.uint8))
    for labelled in (tmp_path / "labels", tmp_path / "labels/manifest.parquet"):
        options = NextOptions(labelled=labelled)
        result = choose_next([source / "images"], Segmenter.load(model), options)
        assert {tile.image.name for tile in result.tiles} == {"new.png"}
        assert result.tiles[0].distance is not None


def test_a_model_of_climate_zones_sees_each_image_under_its_own(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (3, 32, 32)).astype(np.uint8)
    place = from_origin(8.5, 52, 1e-5, 1e-5)
    images = [
        make_raster(tmp_path / "south.tif", pixels=pixels),
        make_raster(tmp_path / "north.tif", pixels=pixels, crs="EPSG:4326", transform=place),
    ]
    model = zoned_segmenter()
    rows = tuple(Row(image, None, "train", Window(0, 0, 32, 32)) for image in images)
    Manifest(rows, ("red", "green", "blue")).save(tmp_path / "m.parquet")
    zones = {"south.tif": "Af", "north.tif": "Cfb"}
    result = choose_next(images, model, NextOptions())
    for tile in result.tiles:
        alone = model.for_prompt(model.prompts.index(zones[tile.image.name])).eval()
        (same,) = choose_next([tile.image], alone, NextOptions()).tiles
        assert tile.uncertainty == same.uncertainty
    assert result.tiles[0].uncertainty != result.tiles[1].uncertainty
    copy = make_raster(tmp_path / "copy.tif", pixels=pixels)
    (tile,) = choose_next([copy], model, NextOptions(labelled=tmp_path / "m.parquet")).tiles
    assert tile.distance == pytest.approx(0, abs=1e-5)


def test_bands_are_known_by_their_names(model: Path, tmp_path: Path) -> None:
    pixels, named = np.random.default_rng(4).integers(0, 255, (3, 64, 64)).astype(np.uint8), Segmenter.load(model)
    image = make_raster(tmp_path / "a.tif", pixels=pixels)
    turned = make_raster(tmp_path / "b.tif", pixels=pixels[::-1], bands=named.spec.bands[::-1])
    Manifest((Row(turned, None, "train", Window(0, 0, 64, 64)),), named.spec.bands[::-1]).save(tmp_path / "m.parquet")
    (tile,) = choose_next([image], named, NextOptions(labelled=tmp_path / "m.parquet")).tiles
    assert tile.distance == pytest.approx(0, abs=1e-5)
    (other,) = choose_next([turned], named, NextOptions()).tiles
    assert other.uncertainty == tile.uncertainty


def test_an_image_of_other_bands_is_named(model: Path, tmp_path: Path) -> None:
    make_picture(tmp_path / "a.png", np.zeros((64, 64, 3), np.uint8))
    make_picture(tmp_path / "grey.png", np.zeros((64, 64), np.uint8))
    with pytest.raises(DataError, match=r"grey\.png has 1 bands"):
        choose_next([tmp_path], Segmenter.load(model), NextOptions())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weak", "boat"], "unknown class 'boat'"),
        (["--count", "0"], "0 tiles"),
        (["--encoder-weights", "x.pt"], "without --encoder"),
        (["--out", "next.txt"], "a name that ends in .csv"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    make_picture(tmp_path / "images/b.png", np.zeros((64, 64, 3), np.uint8))
    command = ["label", "next", str(tmp_path / "images"), "--model", str(model), "--out", str(tmp_path / "n.csv")]
    assert main([*command, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
