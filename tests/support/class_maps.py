"""Maps of classes as `predict` writes them, and polygons read back."""

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.transform import Affine, from_origin

from geodistill.spec import IGNORE_INDEX, Legend

LEGEND = Legend(("field", "road", "house"))


def write_map(
    path: Path,
    classes: NDArray[np.uint8],
    crs: str | None = None,
    transform: Affine | None = None,
    legend: Legend = LEGEND,
    **more: Any,
) -> Path:
    """Write what `predict` would: a map of classes with its legend."""
    place: dict[str, Any] = {"crs": crs} if crs is not None else {}
    place |= {"transform": transform} if transform is not None else {}
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": classes.shape[0], "width": classes.shape[1]}
    with rasterio.open(path, "w", **profile, **place, **more) as file:
        file.write(classes, 1)
        file.update_tags(LEGEND=json.dumps(legend.to_dict()))
    return path


def blobs(height: int = 40, width: int = 50, seed: int = 0) -> NDArray[np.uint8]:
    """Classes in squares of 4 x 4 pixels, ``(H, W)``, some pixels without data."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, (height // 4 + 1, width // 4 + 1)).repeat(4, 0).repeat(4, 1)[:height, :width]
    classes[:3, :5] = IGNORE_INDEX
    return classes.astype(np.uint8)


def hide(path: Path, hidden: NDArray[np.bool_], *, inside: bool = True) -> Path:
    """Add a mask to a map, as a band inside or a file beside it: the values below stay as they are."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as file:
        file.write_mask(~hidden)
    assert path.with_name(f"{path.name}.msk").exists() is not inside
    return path


ACROSS = [
    ("EPSG:32760", from_origin(819_000, 8_118_300, 10, 10)),
    ("EPSG:4326", from_origin(179.997, -17, 1e-4, 1e-4)),
    ("EPSG:4326", from_origin(-180.004, -17, 1e-4, 1e-4)),
]
"""CRS and places of maps of some tens of pixels a side that the antimeridian crosses."""


def mercator_centres(path: Path, step: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return rows and columns of a map every ``step`` pixels, ``(N, 2)``, and their centres in Web Mercator."""
    with rasterio.open(path) as file:
        rows, cols = (at.ravel() for at in np.mgrid[step // 2 : file.height : step, step // 2 : file.width : step])
        place = file.transform @ (cols + 0.5, rows + 0.5)
        lon, lat = Transformer.from_crs(file.crs.to_wkt(), 4326, always_xy=True).transform(*place)
    lon = (lon + 180) % 360 - 180
    return np.column_stack([rows, cols]), np.column_stack(
        Transformer.from_crs(4326, 3857, always_xy=True).transform(lon, lat)
    )


def read(path: Path) -> geopandas.GeoDataFrame:
    """Open a file of polygons."""
    return geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
