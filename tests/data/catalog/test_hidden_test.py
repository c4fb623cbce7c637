from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from factories import make_raster
from geodistill.cli import main
from geodistill.data.catalog.declarations import CATALOG
from geodistill.data.catalog.hidden_test import write_submission
from geodistill.errors import DataError, RecipeError
from official_sets import BUILDERS, SIDE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    BUILDERS["loveda"](tmp_path / "set")
    return tmp_path / "set"


def a_map(path: Path, seed: int, side: int = SIDE) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 7, (1, side, side)).astype(np.uint8)
    return make_raster(path, pixels=pixels, nodata=255)


def test_a_hidden_tests_maps_are_one_zip_of_class_indices(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted(root.rglob("Test/*/images_png/*.png"))
    for seed, image in enumerate(images):
        a_map(tmp_path / "maps" / f"{image.stem}.tif", seed)
    out = tmp_path / "test.zip"
    command = ["data", "submission", str(tmp_path / "maps"), "--dataset", "loveda", "--root", str(root)]
    assert main([*command, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 4 maps\n"
    first = out.read_bytes()
    with zipfile.ZipFile(out) as archive:
        assert sorted(archive.namelist()) == sorted(f"{image.stem}.png" for image in images)
        for seed, image in enumerate(images):
            with archive.open(f"{image.stem}.png") as file:
                pixels = np.asarray(Image.open(file))
            assert np.array_equal(pixels, np.random.default_rng(seed).integers(0, 7, (SIDE, SIDE)).astype(np.uint8))
    assert main([*command, "--out", str(out)]) == 0
    assert out.read_bytes() == first


def test_maps_that_would_be_scored_wrongly_are_refused(root: Path, tmp_path: Path) -> None:
    maps, loveda = tmp_path / "maps", CATALOG["loveda"]
    stems = [image.stem for image in sorted(root.rglob("Test/*/images_png/*.png"))]
    for seed, stem in enumerate(stems[1:]):
        a_map(maps / f"{stem}.tif", seed)
    with pytest.raises(DataError, match=rf"no {stems[0]}\.tif in .*; expected a map of each of 4 test images"):
        write_submission(loveda, root, maps, tmp_path / "a.zip")
    a_map(maps / f"{stems[0]}.tif", 0, SIDE // 2)
    with pytest.raises(DataError, match=f"{SIDE // 2} x {SIDE // 2}; expected {SIDE} x {SIDE}.*--gsd native"):
        write_submission(loveda, root, maps, tmp_path / "a.zip")
    make_raster(maps / f"{stems[0]}.tif", pixels=np.full((1, SIDE, SIDE), 7, np.uint8))
    with pytest.raises(DataError, match="class indices from 0 to 6 everywhere"):
        write_submission(loveda, root, maps, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()
    with pytest.raises(RecipeError, match="all of whose labels are public"):
        write_submission(CATALOG["potsdam"], root, maps, tmp_path / "a.zip")
    assert main(["data", "submission", str(maps), "--dataset", "nowhere", "--root", str(root), "--out", "a.zip"]) == 2
