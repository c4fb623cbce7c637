"""A map in a page: its legend, areas and tiles are those of the map; what does not fit goes into a folder beside it."""

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

import browser
from browser import Browser
from class_maps import write_map
from factories import make_raster
from geodistill.cli import main
from geodistill.errors import DataError, GeodistillWarning, OutputError
from geodistill.prediction import Prediction
from geodistill.report.report_options import ReportOptions
from geodistill.report.write import write_report
from geodistill.spec import Legend
from reported import figures_of
from tiny import tiny_segmenter

SIZE = (600, 900)
FEW_TILES = ReportOptions(map_mb=0.001)
PLACE = {"crs": "EPSG:32633", "transform": from_origin(368000, 5807000, 0.5, 0.5)}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    band = rng.integers(0, 3, (SIZE[0] // 50, SIZE[1] // 50)).repeat(50, 0).repeat(50, 1)
    pixels = rng.integers(1, 100, (3, *SIZE)) + 100 * (np.arange(3)[:, None, None] == band)
    pixels[:, :40, :40] = 0
    return make_raster(
        tmp_path_factory.mktemp("scene") / "scene.tif", pixels=pixels.astype(np.uint8), nodata=0, **PLACE
    )


@pytest.fixture(scope="module")
def mapped(scene: Path) -> Path:
    prediction: Prediction = tiny_segmenter(tile=64).predict(scene)
    return prediction.save(scene.with_name("map.tif"), confidence=True)


def block(page: Path, name: str) -> Any:
    found = re.search(rf'id="{name}">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(found[1])


@pytest.mark.slow
def test_tiles_and_areas_are_those_of_the_map(mapped: Path, scene: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(mapped), "--scene", str(scene), "--out", str(page)]) == 0
    with rasterio.open(mapped) as file:
        classes = file.read(1)
    assert figures_of(page)["map"]["pixels"] == {f"c{k}": int((classes == k).sum()) for k in range(3)}
    about, tiles = block(page, "map-about"), block(page, "map-tiles")
    assert (about["level"], about["folder"], about["gsd"]) == (2, None, pytest.approx(0.5, rel=1e-3))
    assert set(tiles) == {"scene", "classes", "doubt"}
    drawn = np.full(SIZE, 255, np.uint8)
    for place, text in tiles["classes"].items():
        level, column, row = map(int, place.split("/"))
        if level == 2:
            tile = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
            drawn[row * 256 : row * 256 + len(tile), column * 256 : column * 256 + tile.shape[1]] = tile
    np.testing.assert_array_equal(drawn, classes)
    assert "BSD 2-Clause" in page.read_text()
    assert not (tmp_path / "page_tiles").exists()


def test_areas_are_those_on_the_ground(tmp_path: Path) -> None:
    """Two classes of as many pixels, one by the equator and one at 60 degrees north, where meridians are nearer."""
    classes = np.repeat(np.array([[1], [0]], np.uint8), 300, 0).repeat(20, 1)
    path = write_map(tmp_path / "map.tif", classes, "EPSG:4326", from_origin(5, 60, 0.1, 0.1))
    areas = figures_of(write_report(path, tmp_path / "page.html"))["map"]["areas"]
    for name, south in (("field", 0), ("road", 30)):
        # The ellipsoid's: between two parallels the area of a zone has a closed form.
        expected = 2 / 360 * (zone(south + 30) - zone(south))
        assert areas[name] == pytest.approx(expected, rel=1e-4)
    assert areas["house"] == 0
    nowhere = write_map(tmp_path / "nowhere.tif", classes)
    assert figures_of(write_report(nowhere, tmp_path / "page.html"))["map"]["areas"] is None


def zone(latitude: float) -> float:
    """Return the square metres of WGS84 between the equator and a parallel (Snyder 1987, equation 3-12)."""
    a, e = 6378137.0, 0.0818191908426
    s = np.sin(np.radians(latitude))
    q = s / (1 - (e * s) ** 2) - np.log((1 - e * s) / (1 + e * s)) / (2 * e)
    return float(np.pi * a**2 * (1 - e**2) * q)


@pytest.mark.slow
def test_what_does_not_fit_lies_beside(mapped: Path, tmp_path: Path) -> None:
    page = write_report(mapped, tmp_path / "page.html", FEW_TILES)
    about = block(page, "map-about")
    assert (about["embedded"], about["level"], about["folder"]) == (1, 2, "page_tiles")
    assert {key.split("/")[0] for key in block(page, "map-tiles")["classes"]} == {"0"}
    assert (tmp_path / "page_tiles" / "classes" / "2" / "3" / "2.png").is_file()
    write_report(mapped, page, FEW_TILES)
    (tmp_path / "page_tiles" / "mine.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        write_report(mapped, page, FEW_TILES)


def test_a_map_in_the_page_of_its_run(run: Path, mapped: Path, tmp_path: Path) -> None:
    options = ReportOptions(speed=False, map=mapped)
    figures = figures_of(write_report(run, tmp_path / "page.html", options))
    assert {"map", "scores"} <= set(figures)


def test_what_is_no_map_or_not_its_scene_is_refused(mapped: Path, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no legend"):
        write_report(scene, tmp_path / "page.html")
    other = make_raster(tmp_path / "other.tif", height=10, width=20)
    with pytest.raises(DataError, match="the scene that the map was made of"):
        write_report(mapped, tmp_path / "page.html", ReportOptions(scene=other))
    with pytest.raises(OutputError, match="overwritten"):
        write_report(mapped, tmp_path / "page.html", ReportOptions(scene=_named(scene, tmp_path / "page.html")))
    assert main(["report", str(tmp_path), "--scene", str(scene), "--out", str(tmp_path / "page.html")]) == 2


def test_a_map_that_was_cut_off_is_one_line(mapped: Path, tmp_path: Path) -> None:
    data = mapped.read_bytes()
    (tmp_path / "map.tif").write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(DataError, match=r"map\.tif cannot be read"):
        write_report(tmp_path / "map.tif", tmp_path / "page.html")


def _named(scene: Path, page: Path) -> Path:
    page.write_bytes(scene.read_bytes())
    return page


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if browser.CHROMIUM is None:
        pytest.skip("no Chromium here: apt install chromium")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


TILES = "[...document.querySelectorAll('.map-tile')]"
LOADED = (
    f"{TILES}.length > 2 && {TILES}.every((tile) =>"
    " [...tile.children].some((image) => image.style.visibility === 'visible'))"
)


BESIDE = f"{TILES}.some((tile) => [...tile.children].some((image) => image.src.includes('page_tiles/classes')))"
LINE = "document.querySelector('#map-coarser')"


@pytest.mark.slow
def test_the_map_is_drawn_switched_zoomed_and_swiped(
    chromium: Browser, mapped: Path, scene: Path, tmp_path: Path
) -> None:
    page = write_report(mapped, tmp_path / "page.html", ReportOptions(scene=scene))
    chromium.complaints.clear()
    chromium.requests.clear()
    chromium.open(page)
    chromium.wait_for(LOADED)
    assert chromium.complaints == []
    assert {url for url in chromium.requests if not url.startswith("data:")} == {page.as_uri()}
    assert chromium.value("document.querySelector('#map-frame .map-layer, #map-frame .legend')") is None
    assert chromium.value("document.querySelectorAll('.leaflet-container').length") == 1
    assert chromium.value("document.querySelector('.leaflet-container').id") == "map-frame"
    doubles = (
        "[...document.querySelectorAll('[id]')].map((each) => each.id).filter((id, k, all) => all.indexOf(id) !== k)"
    )
    assert chromium.value(doubles) == []
    layers = "[...document.querySelectorAll('.leaflet-layer')].length"
    assert chromium.value(layers) == 2
    chromium.value("document.querySelector('.map-layer[value=doubt]').click()")
    assert chromium.value(layers) == 3
    zoom = chromium.value("geodistillMap.getZoom()")
    chromium.value("document.querySelector('#map-frame').focus()")
    chromium.press("+")
    chromium.wait_for(f"geodistillMap.getZoom() > {zoom}")
    swipe = "document.querySelector('#swipe')"
    chromium.value(f"{swipe}.value = 50; {swipe}.dispatchEvent(new Event('input'))")
    clip = "document.querySelector('.leaflet-layer-classes-pane, .leaflet-pane[class*=classes]').style.clipPath"
    assert chromium.value(clip).startswith("polygon(")
    chromium.value("document.querySelector('.map-class').click()")
    chromium.wait_for(LOADED)
    assert chromium.complaints == []


@pytest.mark.slow
def test_tiles_come_from_the_folder_and_are_not_needed(chromium: Browser, mapped: Path, tmp_path: Path) -> None:
    page = write_report(mapped, tmp_path / "page.html", FEW_TILES)
    chromium.complaints.clear()
    chromium.requests.clear()
    chromium.open(page)
    chromium.wait_for(LOADED)
    folder = (tmp_path / "page_tiles").as_uri()
    assert any(url.startswith(folder) for url in chromium.requests)
    assert not [url for url in chromium.requests if not url.startswith(("data:", page.as_uri(), folder))]
    assert not [text for text in chromium.complaints if "Content Security" in text]
    (tmp_path / "page_tiles").rename(tmp_path / "away")
    chromium.open(page)
    chromium.wait_for(LOADED)


@pytest.mark.slow
def test_classes_are_painted_anew_at_every_level(chromium: Browser, mapped: Path, tmp_path: Path) -> None:
    page = write_report(mapped, tmp_path / "page.html", FEW_TILES)
    chromium.complaints.clear()
    chromium.open(page)
    chromium.wait_for(LOADED)
    for switch in ("document.querySelector('.map-class')", "document.querySelector('#palette')"):
        chromium.wait_for(BESIDE)
        assert chromium.value(f"{LINE}.hidden")
        chromium.value(f"{switch}.click()")
        chromium.wait_for(f"{LOADED} && !({BESIDE})")
        assert "coarser tiles" in chromium.value(f"{LINE}.textContent")
        assert not chromium.value(f"{LINE}.hidden")
        chromium.value(f"{switch}.click()")
    chromium.wait_for(BESIDE)
    whole = write_report(mapped, tmp_path / "whole.html")
    chromium.open(whole)
    chromium.wait_for(LOADED)
    chromium.value("document.querySelector('.map-class').click()")
    chromium.wait_for(LOADED)
    assert chromium.value(f"{LINE}.hidden"), "all tiles are in this page"
    assert chromium.complaints == []


@pytest.mark.slow
def test_colours_that_are_hard_to_tell_apart_are_safe_at_every_level(chromium: Browser, tmp_path: Path) -> None:
    classes = np.random.default_rng(0).integers(0, 3, (12, 18)).astype(np.uint8).repeat(50, 0).repeat(50, 1)
    alike = Legend(("field", "road", "house"), ((200, 0, 0), (200, 2, 0), (0, 0, 90)))
    page = write_report(write_map(tmp_path / "map.tif", classes, legend=alike), tmp_path / "page.html", FEW_TILES)
    with Image.open(tmp_path / "page_tiles/classes/2/0/0.png") as tile:
        assert tuple(tile.getpalette()[:3]) == (0, 114, 178)
    chromium.complaints.clear()
    chromium.open(page)
    chromium.wait_for(LOADED)
    chromium.wait_for(BESIDE)
    assert chromium.value("document.documentElement.dataset.palette") == "safe"
    assert chromium.value(f"{LINE}.hidden")
    chromium.value("document.querySelector('#palette').click()")
    chromium.wait_for(f"{LOADED} && !({BESIDE})")
    sources = f"{TILES}.flatMap((tile) => [...tile.children].map((image) => image.src))"
    (source,) = set(chromium.value(sources))
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as tile:
        assert tuple(tile.getpalette()[:9]) == (200, 0, 0, 200, 2, 0, 0, 0, 90)
    assert chromium.complaints == []


def test_the_confidence_of_another_map_is_left_out(mapped: Path, tmp_path: Path) -> None:
    classes, confidence, page = tmp_path / "map.tif", tmp_path / "map_confidence.tif", tmp_path / "page.html"
    classes.write_bytes(mapped.read_bytes())
    confidence.write_bytes(mapped.with_name("map_confidence.tif").read_bytes())
    with rasterio.open(confidence, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.update_tags(RUN="of another day")
    with pytest.warns(GeodistillWarning, match=r"map_confidence\.tif is of another prediction than map\.tif"):
        write_report(classes, page)
    assert set(block(page, "map-tiles")) == {"classes"}
