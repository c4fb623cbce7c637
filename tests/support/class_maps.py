"""Maps of classes as `predict` writes them, and polygons read back."""

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

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


def read(path: Path) -> geopandas.GeoDataFrame:
    """Open a file of polygons."""
    return geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
