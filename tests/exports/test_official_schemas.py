"""The items of a model and of a map pass the schemas that their extensions publish, fetched as they are today."""

import json
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pystac
import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin

from geodistill.exports.exporters import ExportOptions
from geodistill.exports.model_item import export_stac
from geodistill.inference.stac_item import EXTENSIONS, write_item
from geodistill.raster import Grid
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend

pytestmark = pytest.mark.network
LEGEND = Legend(("low vegetation", "Straße"))


@pytest.fixture(scope="module", autouse=True)
def _reachable() -> None:
    try:
        urllib.request.urlopen(EXTENSIONS[0], timeout=5).close()
    except URLError as error:
        pytest.skip(f"the schemas cannot be fetched ({error.reason})")


def validate(path: Path) -> None:
    """Check an item by every schema that it names.

    Raises:
        STACValidationError: It does not pass.
    """
    item = json.loads(path.read_text())
    checked = pystac.Item.from_dict(item).validate()
    assert len(checked) == 1 + len(item["stac_extensions"])


def test_the_item_of_a_model(segmenter: Segmenter, tmp_path: Path) -> None:
    validate(export_stac(segmenter, tmp_path / "fields", ExportOptions(scores={"miou": 0.75})))


@pytest.mark.parametrize("grid", [Grid(9, 9, CRS.from_epsg(32636), from_origin(5e5, 4e6, 0.5, 0.5)), Grid(9, 9)])
def test_the_item_of_a_map(grid: Grid, tmp_path: Path) -> None:
    names = {"classes": "a.tif", "confidence": "a_confidence.tif", "probabilities": "a_probabilities.tif"}
    names |= {"polygons": "a.gpkg", "tiles": "a.pmtiles", "polygons_tiles": "a_polygons.pmtiles"}
    maps = {layer: tmp_path / name for layer, name in names.items()}
    validate(write_item(maps, grid, LEGEND, "scene.tif", "a model", None))
