"""Scenes that are maps on the web: tiles that are slow, missing, busy or broken, at a polite rate, and resumed."""

from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from geodistill.errors import DataError, RecipeError
from geodistill.inference.inputs import find_scenes
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.raster import web_map
from geodistill.raster.web_map import at_zoom, description, is_web_map
from tiny import tiny_segmenter
from web_tiles import EDGE, TileServer, pixels_at, serve_tiles

COL, ROW, SIDE = 500 * 256 + 100, 300 * 256 + 60, 600
PIXEL = 2 * EDGE / (256 << 10)


@pytest.fixture(autouse=True)
def _quick(tiny_models: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_map, "PAUSE", 0.01)
    monkeypatch.setattr(web_map, "RATE", 1000.0)


@pytest.fixture
def server() -> Iterator[TileServer]:
    with serve_tiles() as held:
        yield held


@pytest.fixture
def aoi(tmp_path: Path) -> str:
    """A square of 600 x 600 pixels of level 10, in degrees."""
    left, top = COL * PIXEL - EDGE, EDGE - ROW * PIXEL
    square = shapely.box(left, top - SIDE * PIXEL, left + SIDE * PIXEL, top)
    table = geopandas.GeoDataFrame(geometry=[square], crs="EPSG:3857").to_crs("EPSG:4326")
    table.to_file(tmp_path / "area.geojson")
    return str(tmp_path / "area.geojson")


def options(aoi: str, **more: object) -> PredictOptions:
    return PredictOptions(backend="torch", zoom=10, aoi=aoi, overlap=0, **more)  # type: ignore[arg-type]


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The map, and the colours that belong there."""
    with rasterio.open(path) as file:
        col, row = round((file.transform.c + EDGE) / PIXEL), round((EDGE - file.transform.f) / PIXEL)
        grid = np.meshgrid(np.arange(col, col + file.width), np.arange(row, row + file.height))
        return file.read(1), pixels_at(*grid)


SERVICES = {
    "xyz": "{}/{{z}}/{{x}}/{{y}}.png",
    "wms": "{}/wms?service=WMS&layers=aerial&key=7",
    "wmts": "{}/wmts/WMTSCapabilities.xml?layer=aerial&tilematrixset=web",
}


@pytest.mark.slow
@pytest.mark.parametrize("service", list(SERVICES))
def test_a_web_map_is_mapped_inside_the_area(service: str, server: TileServer, aoi: str, tmp_path: Path) -> None:
    server.fault = lambda col, row, tried: "missing" if (col, row) == (501, 301) else "ok"
    (made,) = predict(
        tiny_segmenter(tile=64), [SERVICES[service].format(server.address)], tmp_path / "m.tif", options(aoi)
    )
    found, colours = read(made.path)
    inside = found != 255
    np.testing.assert_array_equal(found[inside], colours.argmax(-1)[inside])
    missing = 256 * 256
    assert abs(int(inside.sum()) - (SIDE * SIDE - missing)) < 4 * SIDE
    # No tile beyond a window around the area, and each but once.
    assert set(server.asked) <= {f"{x}/{y}" for x in range(500, 503) for y in range(300, 303)}
    assert max(server.asked.values()) == 1


@pytest.mark.slow
def test_busy_slow_and_broken_tiles_come_at_last(
    server: TileServer, aoi: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_map, "SECONDS", 1)
    kinds = {(500, 300): "busy", (501, 300): "broken", (502, 301): "slow"}
    server.fault = lambda col, row, tried: kinds.get((col, row), "ok") if tried < 3 else "ok"
    address = f"{server.address}/{{z}}/{{x}}/{{y}}.png"
    (made,) = predict(tiny_segmenter(tile=64), [address], tmp_path / "m.tif", options(aoi))
    found, colours = read(made.path)
    np.testing.assert_array_equal(found[found != 255], colours.argmax(-1)[found != 255])
    assert not made.holes


@pytest.mark.slow
def test_a_tile_that_never_comes_ends_the_run_which_resume_continues(
    server: TileServer, aoi: str, tmp_path: Path
) -> None:
    address, model = f"{server.address}/{{z}}/{{x}}/{{y}}.png", tiny_segmenter(tile=64)
    (whole,) = predict(model, [address], tmp_path / "whole.tif", options(aoi))
    server.fault = lambda col, row, tried: "broken" if row == 302 else "ok"
    with pytest.raises(DataError, match=r"row 302 .* do not come in 4 tries"):
        predict(model, [address], tmp_path / "m.tif", options(aoi))
    (holed,) = predict(model, [address], tmp_path / "holes.tif", options(aoi, keep_going=True))
    assert holed.holes
    assert (read(holed.path)[0] != read(whole.path)[0]).any()
    server.fault, before = (lambda *_: "ok"), sum(server.asked.values())
    (made,) = predict(model, [address], tmp_path / "m.tif", options(aoi, resume=True))
    assert made.path.read_bytes() == whole.path.read_bytes()
    assert sum(server.asked.values()) - before < 9  # not all tiles again


@pytest.mark.slow
def test_tiles_are_asked_for_at_a_polite_rate(
    server: TileServer, aoi: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_map, "RATE", 6.0)
    predict(tiny_segmenter(tile=64), [f"{server.address}/{{z}}/{{x}}/{{y}}.png"], tmp_path / "m.tif", options(aoi))
    spread = max(server.times) - min(server.times)
    assert len(server.times) >= 9
    assert spread >= (9 - 8) / 6.0


def test_what_is_a_web_map_and_how_gdal_opens_it() -> None:
    xyz = "https://{s}.tiles.example/{z}/{x}/{y}.png?key=a&b"
    wmts = "https://maps.example/wmts/1.0.0/WMTSCapabilities.xml?layer=ortho&tilematrixset=google"
    wms = "https://maps.example/ows?SERVICE=WMS&LAYERS=dop,dop2&FORMAT=image/jpeg"
    assert all(map(is_web_map, (xyz, wmts, wms)))
    assert not any(map(is_web_map, ("https://example.org/scene.tif", "scene.tif", "https://example.org/x?y={x}")))
    assert "https://a.tiles.example/${z}/${x}/${y}.png?key=a&amp;b" in str(description(at_zoom(xyz, 18)))
    assert "<TileLevel>18</TileLevel>" in str(description(at_zoom(xyz, 18)))
    assert "<YOrigin>bottom" in str(description(at_zoom("http://t/{z}/{x}/{-y}.png", 3)))
    plain = "WMTS:https://maps.example/wmts/1.0.0/WMTSCapabilities.xml"
    assert description(at_zoom(wmts, 17)) == f"{plain},layer=ortho,tilematrixset=google,zoom_level=17"
    text = str(description(at_zoom(wms, 19)))
    assert "<Layers>dop,dop2</Layers>" in text
    assert "<SizeX>134217728</SizeX>" in text
    with pytest.raises(DataError, match="names no layers"):
        description(at_zoom("https://maps.example/ows?SERVICE=WMS", 19))
    with pytest.raises(DataError, match="zoom level 23"):
        at_zoom(xyz, 23)
    with pytest.raises(DataError, match="--zoom and --aoi"):
        find_scenes([xyz])
    assert find_scenes([wms], zoom=19)[0].name == "maps.example_dop_dop2_z19"
    with pytest.raises(RecipeError, match="without an area"):
        predict(tiny_segmenter(), [xyz], "m.tif", PredictOptions(zoom=3))
    with pytest.raises(DataError, match="on the network"):
        find_scenes([xyz], zoom=3, local_only=True)
