"""Small images that say where they lie in each way a file can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC

from factories import make_raster

ZONES = {"CRS and transform": "Af", "control points": "Cfb", "RPC centre": "Cfb", "EXIF position": "Am"}
"""Climate zone of each file of `place_files`."""


def place_files(folder: Path) -> dict[str, Path]:
    """Write an image for each way: Kampala, Hesse, Swabia and Zanzibar."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / file for name, file in zip(ZONES, ("a.tif", "g.tif", "r.tif", "e.jpg"), strict=True)}
    make_raster(files["CRS and transform"], height=32, width=32)
    plain = {"driver": "GTiff", "height": 32, "width": 32, "count": 3, "dtype": "uint8"}
    points = [GroundControlPoint(r, c, 9 + c / 1e4, 50.5 - r / 1e4) for r in (0, 32) for c in (0, 32)]
    one = [1.0] + [0.0] * 19
    rpcs = RPC(0, 1, 48.5, 1, one, one, 16, 16, 9.5, 1, one, one, 16, 16)
    for name, said in (("control points", {"gcps": points, "crs": "EPSG:4326"}), ("RPC centre", {"rpcs": rpcs})):
        with rasterio.open(files[name], "w", **plain, **said) as file:
            file.write(np.full((3, 32, 32), 90, np.uint8))
    exif = Image.Exif()
    exif[0x8825] = {1: "S", 2: (6.0, 6.0, 0.0), 3: "E", 4: (39.0, 12.0, 36.0)}
    Image.new("RGB", (32, 32)).save(files["EXIF position"], exif=exif)
    return files
