"""Scenes on the network: each byte is fetched about once, and a source that goes away costs what it still owed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.env import Env

from factories import make_raster
from geodistill.errors import DataError
from geodistill.inference.checkpoint import work_folder
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.inference.windows import WindowPlan
from geodistill.segmenter import Segmenter
from served import Server, serve
from tiny import BandNetwork, tiny_segmenter

HEIGHT, WIDTH, TILE = 1500, 256, 128


@pytest.fixture(autouse=True)
def _networks(tiny_models: None) -> Iterator[None]:
    with Env(GDAL_HTTP_MAX_RETRY=0):
        yield


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Serves a COG of noise, which does not compress."""
    with serve(tmp_path / "served") as held:
        plain = make_raster(tmp_path / "plain.tif", height=HEIGHT, width=WIDTH)
        rasterio.shutil.copy(plain, held.folder / "scene.tif", driver="COG", compress="deflate", blocksize=128)
        yield held


def classes(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        found: np.ndarray = file.read(1)
    return found


def seen(segmenter: Segmenter) -> int:
    network = segmenter.network.network
    assert isinstance(network, BandNetwork)
    return network.windows


def test_a_cog_is_mapped_from_its_address_by_ranges(server: Server, tmp_path: Path) -> None:
    options, size = PredictOptions(device="cpu"), (server.folder / "scene.tif").stat().st_size
    predict(tiny_segmenter(tile=TILE), [server.folder / "scene.tif"], tmp_path / "near.tif", options)
    predict(tiny_segmenter(tile=TILE), [f"{server.address}/scene.tif"], tmp_path / "far.tif", options)
    np.testing.assert_array_equal(classes(tmp_path / "far.tif"), classes(tmp_path / "near.tif"))
    # Its overviews, a third more, stay where they are.
    with rasterio.open(server.folder / "scene.tif") as file:
        assert file.overviews(1)
    assert len(server.places) < 0.85 * size


def test_a_source_that_vanishes_in_the_middle_and_comes_back(server: Server, tmp_path: Path) -> None:
    source, path, options = f"{server.address}/scene.tif", tmp_path / "map.tif", PredictOptions(device="cpu")
    predict(tiny_segmenter(tile=TILE), [server.folder / "scene.tif"], tmp_path / "near.tif", options)
    server.limit = (server.folder / "scene.tif").stat().st_size // 3
    with pytest.raises(DataError, match=r"scene.tif is truncated or corrupt at row \d+.* with --resume goes on"):
        predict(tiny_segmenter(tile=TILE), [source], path, options)
    assert not path.exists()
    finished = sum(file.read_bytes().count(b"\n") for file in work_folder(path).glob("*.jsonl"))
    server.limit = float("inf")
    segmenter, plan = tiny_segmenter(tile=TILE), WindowPlan.of(HEIGHT, WIDTH, TILE, 0.25)
    assert 0 < finished < len(plan.tops)
    predict(segmenter, [source], path, PredictOptions(device="cpu", resume=True))
    np.testing.assert_array_equal(classes(path), classes(tmp_path / "near.tif"))
    assert seen(segmenter) <= (len(plan.tops) - finished + 1) * len(plan.lefts)


def test_a_source_that_vanishes_leaves_recorded_holes_where_asked_for(server: Server, tmp_path: Path) -> None:
    predict(
        tiny_segmenter(tile=TILE), [server.folder / "scene.tif"], tmp_path / "near.tif", PredictOptions(device="cpu")
    )
    server.limit = (server.folder / "scene.tif").stat().st_size // 3
    going = PredictOptions(keep_going=True, device="cpu")
    (made,) = predict(tiny_segmenter(tile=TILE), [f"{server.address}/scene.tif"], tmp_path / "map.tif", going)
    unread = np.zeros((HEIGHT, WIDTH), bool)
    for hole in made.holes:
        unread[hole.window.slices] = True
    assert 0.2 < unread.mean() < 0.9
    found = classes(tmp_path / "map.tif")
    assert (found[unread] == 255).all()
    np.testing.assert_array_equal(found[~unread], classes(tmp_path / "near.tif")[~unread])
    with rasterio.open(tmp_path / "map.tif") as file:
        assert len(json.loads(file.tags()["HOLES"])) == len(made.holes)
