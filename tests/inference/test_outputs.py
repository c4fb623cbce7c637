"""No map, layer, table of polygons or item is ever written over what is read, or over one of another scene."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely

from factories import make_raster
from geodistill.errors import OutputError
from geodistill.inference.options import VECTOR_FORMATS, PredictOptions
from geodistill.inference.predict import outputs_of, predict
from tiny import tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")

CONFIDENCE = PredictOptions(confidence=True, backend="torch")
ALL = PredictOptions(confidence=True, probabilities="uint8", backend="torch", stac=True, vector="gpkg")

Made = tuple[list[Path], Path, PredictOptions]
"""Inputs, output and options of a call that would overwrite something."""


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def vrt(path: Path, *sources: Path) -> Path:
    """Write a mosaic that reads its sources from where they are."""
    rasterio.shutil.copy(sources[0], path, driver="VRT")
    return path


def item(path: Path, name: str, href: str) -> Path:
    path.write_text(json.dumps({"type": "Feature", "id": name, "assets": {"data": {"href": href}}}))
    return path


def layer_on_input(folder: Path, layer: str, options: PredictOptions) -> Made:
    return [make_raster(folder / f"m_{layer}.tif")], folder / "m.tif", options


def source_of_mosaic(folder: Path) -> Made:
    return [vrt(folder / "v.vrt", make_raster(folder / "s.tif"))], folder / "s.tif", PredictOptions()


def source_of_source(folder: Path) -> Made:
    inner = vrt(folder / "inner.vrt", make_raster(folder / "s_confidence.tif"))
    return [vrt(folder / "outer.vrt", inner)], folder / "s.tif", CONFIDENCE


def member_of_stack(folder: Path) -> Made:
    files = [make_raster(folder / f"B{i}.tif", channels=1) for i in (0, 1, 2)]
    return files, folder / "B2.tif", PredictOptions()


def the_item(folder: Path) -> Made:
    make_raster(folder / "far" / "r.tif")
    return [item(folder / "m.json", "m", "far/r.tif")], folder, PredictOptions(stac=True)


def raster_of_item(folder: Path) -> Made:
    make_raster(folder / "m.tif")
    return [item(folder / "items.json", "m", "m.tif")], folder, PredictOptions()


def the_index(folder: Path) -> Made:
    make_raster(folder / "far" / "m.tif")
    table = geopandas.GeoDataFrame({"location": ["far/m.tif"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326)
    table.to_parquet(folder / "m.parquet")
    return [folder / "m.parquet"], folder, PredictOptions(vector="parquet")


def mask_beside(folder: Path) -> Made:
    source = make_raster(folder / "m.tif")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(source, "r+") as file:
        file.write_mask(np.ones((40, 50), bool))
    (folder / "m.tif.msk").rename(folder / "map.tif")
    (folder / "m.tif.msk").symlink_to(folder / "map.tif")
    return [source], folder / "map.tif", PredictOptions()


def through_a_link(folder: Path) -> Made:
    (folder / "link.tif").symlink_to(make_raster(folder / "s.tif"))
    return [folder / "s.tif"], folder / "link.tif", PredictOptions()


def through_a_hard_link(folder: Path) -> Made:
    os.link(make_raster(folder / "s_confidence.tif"), folder / "other.tif")
    return [folder / "other.tif"], folder / "s.tif", CONFIDENCE


def layer_of_one_is_the_map_of_another(folder: Path) -> Made:
    return [make_raster(folder / f"{name}.tif") for name in ("s", "s_confidence")], folder / "out", CONFIDENCE


def layer_of_one_is_the_layer_of_another(folder: Path) -> Made:
    names = ("s", "s_probabilities")
    return [make_raster(folder / f"{name}.tif") for name in names], folder / "out", ALL


CASES: dict[str, Callable[[Path], Made]] = {
    "confidence": lambda folder: layer_on_input(folder, "confidence", CONFIDENCE),
    "confidence for polygons": lambda f: layer_on_input(f, "confidence", PredictOptions(vector="fgb")),
    "probabilities": lambda folder: layer_on_input(folder, "probabilities", ALL),
    **{
        function.__name__.replace("_", " "): function
        for function in (
            *(source_of_mosaic, source_of_source, member_of_stack, the_item, raster_of_item, the_index, mask_beside),
            *(through_a_link, through_a_hard_link),
            *(layer_of_one_is_the_map_of_another, layer_of_one_is_the_layer_of_another),
        )
    },
}


@pytest.mark.parametrize("keep_going", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_what_would_be_overwritten_is_refused_before_any_work(tmp_path: Path, case: str, keep_going: bool) -> None:
    inputs, out, options = CASES[case](tmp_path)
    options = replace(options, keep_going=keep_going, backend="torch")
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="would be"):
        predict(tiny_segmenter(), inputs, out, options, stack=case == "member of stack")
    assert snapshot(tmp_path) == before


def test_a_model_is_not_overwritten_by_an_item(tmp_path: Path) -> None:
    tiny_segmenter().save(tmp_path / "model")
    source, before = make_raster(tmp_path / "s.tif"), snapshot(tmp_path / "model")
    with pytest.raises(OutputError, match=r"segmenter\.json would be overwritten"):
        predict(tmp_path / "model", [source], tmp_path / "model" / "segmenter.tif", PredictOptions(stac=True))
    assert snapshot(tmp_path / "model") == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_every_file_that_is_written_was_known_before(tmp_path: Path, kind: str) -> None:
    options = PredictOptions(
        **{"confidence": True, "probabilities": "float16", "stac": True, "vector": kind, "objects": ("c1",)},
        **{"preview": True, "web_tiles": "pmtiles", "unlike": True, "backend": "torch", "device": "cpu"},
    )
    predict(tiny_segmenter(), [make_raster(tmp_path / "s.tif")], tmp_path / "out" / "m.tif", options)
    written = set((tmp_path / "out").iterdir())
    unmade = tmp_path / "out" / "m_distance.tif"  # of models with a distance head alone
    assert written == set(outputs_of(tmp_path / "out" / "m.tif", options)) - {unmade}


def test_maps_may_lie_beside_their_scenes(tmp_path: Path) -> None:
    source = make_raster(tmp_path / "s.tif")
    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(2):  # the second time over the maps of the first
        predict(tiny_segmenter(), [source], tmp_path / "s_map.tif", ALL)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("length", [*range(240, 258), 400])
def test_names_up_to_the_longest_work_and_longer_ones_are_refused(tmp_path: Path, length: int) -> None:
    source = make_raster(tmp_path / "s.tif", height=8, width=8)
    path = tmp_path / ("é" * ((length - 4) // 2) + "x" * ((length - 4) % 2) + ".tif")
    options: Any = PredictOptions(backend="torch", device="cpu")
    if length <= 255:
        (made,) = predict(tiny_segmenter(), [source], path, options)
        assert made.path.is_file()
        # Where the name of the attribute table would be too long there is none.
        table = [f"{path.name}.aux.xml"] if length + len(".aux.xml") <= 255 else []
        style = path.with_suffix(".qml").name
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["s.tif", path.name, style, *table])
    else:
        with pytest.raises(OutputError, match=f"has a name of {length} bytes; expected at most 255"):
            predict(tiny_segmenter(), [source], path, options)
