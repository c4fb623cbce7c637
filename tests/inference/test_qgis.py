"""QGIS itself, where it is installed with its Python module: outputs open with the names and colours of the classes."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rasterio.transform import from_origin

from class_maps import LEGEND, blobs, write_map
from geodistill.inference.objects.write_objects import write_objects
from geodistill.inference.style import write_style
from geodistill.inference.tile_set import write_tile_set
from geodistill.inference.vector import write_vectors
from geodistill.inference.vector_tiles import write_vector_tiles
from geodistill.spec import hexadecimal

PYTHON = Path("/usr/bin/python3")
"""The system's, for which packages of QGIS are made."""

SCRIPT = """
import json, sys
from qgis.core import *
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor
app = QgsApplication([], False)
app.initQgis()
found = {}
for name in sys.argv[2:]:
    layer = QgsRasterLayer(name, "") if name.endswith(("tif", "_tiles.mbtiles")) else QgsVectorLayer(name, "", "ogr")
    assert layer.isValid(), name
    renderer = layer.renderer()
    entries = []
    if renderer.type() == "paletted":
        entries = [[int(c.value), c.label, c.color.name()] for c in renderer.classes()]
    elif renderer.type() == "categorizedSymbol":
        entries = [[int(c.value()), c.label(), c.symbol().color().name()] for c in renderer.categories()]
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setOutputSize(QSize(100, 80))
    settings.setBackgroundColor(QColor(255, 255, 255))
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    picture = name + ".drawn.png"
    job.renderedImage().save(picture)
    found[name] = [renderer.type(), entries]
with open(sys.argv[1], "w") as file:
    json.dump(found, file)
"""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if not PYTHON.exists() or subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True).returncode:
        pytest.skip("QGIS is not installed here")


@pytest.mark.slow
def test_outputs_open_with_names_and_colours(tmp_path: Path) -> None:
    classes = blobs(80, 100)
    made = write_map(tmp_path / "map.tif", classes, "EPSG:32636", from_origin(500_000, 3.3e6, 0.5, 0.5), nodata=255)
    write_style(made, LEGEND)
    polygons, objects = write_vectors(made, "gpkg").path, write_objects(made, ["house"], "gpkg").path
    tiles = write_tile_set(made, "mbtiles", LEGEND)
    vector_tiles = write_vector_tiles(made, polygons, "polygons", "mbtiles")
    names = [str(path) for path in (made, polygons, objects, tiles, vector_tiles)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([PYTHON, "-c", SCRIPT, tmp_path / "said.json", *names], check=False, env=environment, timeout=120)
    said = json.loads((tmp_path / "said.json").read_text())
    entries = [[k, name, hexadecimal(LEGEND.colours[k])] for k, name in enumerate(LEGEND.names)]
    assert said[names[0]] == ["paletted", entries]
    assert said[names[1]] == said[names[2]] == ["categorizedSymbol", entries]
    assert said[names[3]][0] == "multibandcolor"  # of their own colours, and not by the style of the classes

    def drawn(name: str) -> np.ndarray:
        return np.asarray(Image.open(f"{name}.drawn.png").convert("RGB"))

    wanted = np.where((classes != 255)[..., None], np.array((*LEGEND.colours, (0, 0, 0)))[classes % 252], 255)
    for name in names[:2]:
        assert (drawn(name) == wanted).all(-1).mean() > 0.95
    for colour in LEGEND.colours:
        assert (drawn(names[3]) == colour).all(-1).mean() > 0.2
