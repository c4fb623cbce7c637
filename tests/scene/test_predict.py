"""`predict` as a user calls it: where maps go, what they hold, and how it ends when something is wrong."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

from factories import CRSS, DTYPES, make_picture, make_raster, noise, truncate
from geodistill.cli import main
from geodistill.errors import DataError, OutputError, RecipeError
from geodistill.methods.supervised import SupervisedNetwork
from geodistill.raster import Raster
from geodistill.scene.predict import as_classes, map_paths, predict
from geodistill.scene.stream import SceneRows
from geodistill.segmenter import WEIGHTS, Segmenter
from geodistill.spec import IGNORE_INDEX
from tiny import brightest, sparse_raster, tiny_networks, tiny_segmenter, tiny_spec


@pytest.fixture(autouse=True)
def _networks() -> Iterator[None]:
    with tiny_networks():
        yield


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny_segmenter().save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("crs", CRSS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_map_lies_on_its_scene(tmp_path: Path, model: Path, crs: str | None, dtype: str) -> None:
    pixels = noise((3, 70, 90), dtype)
    pixels[:, :20, :30] = 0
    source = make_raster(tmp_path / "scene.tif", pixels=pixels, crs=crs, nodata=0)
    (path,) = predict(model, [source], tmp_path / "map.tif", device="cpu")
    with Raster(source) as scene, Raster(path) as made:
        assert made.grid == scene.grid
        classes, valid = made.read()
    inside = (pixels > 0).all(0)
    np.testing.assert_array_equal(valid, inside)
    np.testing.assert_array_equal(classes[0][inside], brightest(pixels)[inside])
    assert (classes[0][~inside] == IGNORE_INDEX).all()


def test_alpha_and_mask_bands_become_nodata(tmp_path: Path, model: Path) -> None:
    seen = np.zeros((40, 50), bool)
    seen[5:30, 10:45] = True
    for name, extra in {"alpha": {"alpha": seen}, "mask": {"mask_band": seen}}.items():
        source = make_raster(tmp_path / f"{name}.tif", **extra)  # type: ignore[arg-type]
        (path,) = predict(model, [source], tmp_path / f"{name}_map.tif", device="cpu")
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(1) != IGNORE_INDEX, seen)


def test_plain_pictures_have_maps_too(tmp_path: Path, model: Path) -> None:
    pixels = noise((3, 33, 44))
    source = make_picture(tmp_path / "photo.png", pixels.transpose(1, 2, 0))
    (path,) = predict(model, [source], tmp_path / "map.tif", device="cpu")
    with Raster(path) as made:
        np.testing.assert_array_equal(made.read()[0][0], brightest(pixels))
        assert not made.grid.georeferenced


def test_probabilities_are_the_softmax_of_the_model(tmp_path: Path, model: Path) -> None:
    pixels = noise((3, 50, 40))
    pixels[:, 10:20] = 0
    source = make_raster(tmp_path / "scene.tif", pixels=pixels, nodata=0)
    (path,) = predict(model, [source], tmp_path / "p.tif", probabilities=True, device="cpu")
    with torch.no_grad():
        expected = Segmenter.load(model)(torch.from_numpy(pixels[None]).float()).softmax(1)[0].numpy()
    expected[:, 10:20] = np.nan
    with rasterio.open(path) as file:
        np.testing.assert_allclose(file.read(), expected, rtol=1e-5, atol=1e-6)
        assert file.descriptions == ("c0", "c1", "c2")


def test_several_rasters_go_into_a_directory(tmp_path: Path, model: Path) -> None:
    sources = [make_raster(tmp_path / f"s{i}.tif", height=20 + i, seed=i) for i in range(3)]
    paths = predict(model, sources, tmp_path / "maps", device="cpu")
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == ["maps/s0.tif", "maps/s1.tif", "maps/s2.tif"]
    for i, path in enumerate(paths):
        with rasterio.open(path) as file:
            assert file.height == 20 + i


def test_where_maps_go(tmp_path: Path) -> None:
    assert map_paths(["a/x.png"], tmp_path / "m.tif") == [tmp_path / "m.tif"]
    assert map_paths(["a/x.png"], tmp_path / "m") == [tmp_path / "m" / "x.tif"]
    assert map_paths(["a/x.png"], tmp_path) == [tmp_path / "x.tif"]
    assert map_paths(["a/x.png", "a/y.jpg"], tmp_path / "m") == [tmp_path / "m" / "x.tif", tmp_path / "m" / "y.tif"]
    assert map_paths(["a/x.png"], tmp_path / "run.v2") == [tmp_path / "run.v2" / "x.tif"]
    with pytest.raises(OutputError, match="a directory for several maps"):
        map_paths(["a/x.png", "a/y.png"], tmp_path / "m.tif")
    with pytest.raises(OutputError, match=r"m\.png; expected a name that ends in \.tif"):
        map_paths(["a/x.png"], tmp_path / "m.png")
    with pytest.raises(DataError, match="of one name"):
        map_paths(["a/x.png", "b/x.png"], tmp_path)
    with pytest.raises(DataError, match="no input"):
        map_paths([], tmp_path)


def test_a_map_never_overwrites_a_raster_it_is_made_from(tmp_path: Path, model: Path) -> None:
    source = make_raster(tmp_path / "scene.tif")
    before = source.read_bytes()
    for out in (source, tmp_path):
        with pytest.raises(OutputError, match="would overwrite its raster"):
            predict(model, [source], out, device="cpu")
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "says"),
    [({"overlap": 0.9}, "overlap"), ({"batch_size": 0}, "batch size"), ({"device": "warp"}, "device 'warp'")],
)
def test_wrong_settings_write_nothing(tmp_path: Path, model: Path, options: dict[str, Any], says: str) -> None:
    source = make_raster(tmp_path / "scene.tif")
    with pytest.raises(RecipeError, match=says):
        predict(model, [source], tmp_path / "new" / "map.tif", **options)
    assert not (tmp_path / "new").exists()


def cli(model: Path, source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the verb, which must end with status 2 and one line; give the line."""
    assert main(["predict", "--model", str(model), "--input", str(source), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    good = make_raster(tmp_path / "good.tif")
    four = make_raster(tmp_path / "four.tif", channels=4)
    assert "four.tif has 4 bands; expected 3 (b0, b1, b2)" in cli(model, four, out / "map.tif", capsys)
    cut = truncate(make_raster(tmp_path / "cut.tif", height=500, width=300, tiled=True))
    assert "cut.tif is truncated" in cli(model, cut, out / "map.tif", capsys)
    assert "no file" in cli(model, tmp_path / "missing.tif", out / "map.tif", capsys)
    assert "cannot be written" in cli(model, good, good / "below" / "map.tif", capsys)
    assert "no Segmenter" in cli(tmp_path / "nothing", good, out / "map.tif", capsys)
    data = bytearray((model / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (model / WEIGHTS).write_bytes(data)
    assert "SHA-256" in cli(model, good, out / "map.tif", capsys)
    (model / WEIGHTS).unlink()
    assert "has no model.safetensors" in cli(model, good, out / "map.tif", capsys)
    assert list(out.iterdir()) == []


def test_a_raster_that_ends_early_stops_before_the_first_map_where_bands_are_wrong(tmp_path: Path, model: Path) -> None:
    sources = [make_raster(tmp_path / "a.tif"), make_raster(tmp_path / "b.tif", channels=1)]
    with pytest.raises(DataError, match=r"b\.tif has 1 bands"):
        predict(model, sources, tmp_path / "maps", device="cpu")
    assert not (tmp_path / "maps").exists()


def test_ctrl_c_leaves_no_part_of_a_map(tmp_path: Path) -> None:
    arguments = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}
    network = SupervisedNetwork(3, 3, **arguments)  # type: ignore[arg-type]
    Segmenter.from_network("supervised", arguments, tiny_spec(), network.state_dict(), 64, {}).save(tmp_path / "real")
    source = sparse_raster(tmp_path / "scene.tif", 40_000, 500)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "geodistill", "predict", "--model", str(tmp_path / "real")]
    command += ["--input", str(source), "--out", str(out / "map.tif"), "--device", "cpu"]
    process = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("*/rows.tif")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert (printed, errors) == ("", "geodistill: stopped\n")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("classes", [1, 2, 7, 255])
def test_the_most_probable_class_is_the_first_of_the_highest(classes: int) -> None:
    # Coarse values, so that there are ties.
    probabilities = torch.randint(0, 5, (classes, 40, 30), generator=torch.Generator().manual_seed(0)).float()
    part = SceneRows(0, probabilities[:, 3:, :20], np.ones((37, 20), bool))
    np.testing.assert_array_equal(as_classes(part)[0], probabilities[:, 3:, :20].numpy().argmax(0))
