"""`assess estimate`: areas and accuracies of a map, plus or minus what, from the interpreted points of a sample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError

from geodistill.assess.estimate_tables import estimate_rows, estimate_text
from geodistill.assess.estimators import SampleEstimates, StratifiedSample, estimate_from_sample
from geodistill.assess.form import form_names
from geodistill.assess.points import read_points
from geodistill.errors import DataError, listed
from geodistill.inference.any_map import open_map
from geodistill.inference.style import plain_name
from geodistill.spec import IGNORE_INDEX, Legend


@dataclass(frozen=True)
class MapEstimate:
    """Areas and accuracies of a map.

    Attributes:
        names: Class names.
        estimates: Shares of the whole area and accuracies.
        area: The whole area that points were drawn from, square metres or pixels.
        unit: ``m2``, or ``pixels`` where the map is not georeferenced.
        mapped: Area of each class on the map, ``(K,)``; NaN for another map than the one the points were drawn from.
        points: Points that were interpreted.
    """

    names: tuple[str, ...]
    estimates: SampleEstimates
    area: float
    unit: str
    mapped: NDArray[np.float64]
    points: int

    def __str__(self) -> str:
        return estimate_text(self.names, self.estimates, self.area, self.unit, self.mapped)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        overall = self.estimates.overall
        return {
            "unit": self.unit,
            "area": self.area,
            "points": self.points,
            "overall_accuracy": float(overall.value),
            "overall_accuracy_se": float(overall.error),
            "classes": self.rows(),
            "counts": self.estimates.counts.tolist(),
            "shares": self.estimates.shares.tolist(),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return the figures of each class, ``None`` where there is none."""
        return estimate_rows(self.names, self.estimates, self.area, self.mapped)


def estimate_areas(
    points: Path | str,
    *,
    other_map: Path | str | None = None,
    map_legend: Legend | None = None,
    partial: bool = False,
) -> MapEstimate:
    """Estimate areas and accuracies from interpreted points.

    Args:
        points: The GeoPackage that `draw_sample` wrote, its column ``reference`` filled with names of classes.
        other_map: A map of the same classes to assess in place of the one that the points were drawn from; the strata
            are still those of the sample (Stehman 2014).
        map_legend: What the other map's values mean, where it does not say so itself.
        partial: Leave points out that are not interpreted, which must be so by chance, instead of refusing them.

    Raises:
        DataError: A file cannot be read, a point is not interpreted or as no class, or a stratum has too few points.
    """
    frame, strata, legend = read_points(points)
    reference = _references(frame["reference"], legend, points)
    known = reference >= 0
    if not known.all() and not partial:
        raise DataError(
            f"{int((~known).sum())} of {len(known)} points of {points} are not interpreted",
            "a class in the column reference of each",
            "interpret them in QGIS, or leave them out with --partial",
        )
    mapped = frame["class"].to_numpy(np.int64)
    if other_map is not None:
        mapped = _classes_at(other_map, map_legend, frame, legend)
    if outside := int((mapped[known] == IGNORE_INDEX).sum()):
        raise DataError(f"{outside} points lie where {other_map} has no data", "a map of the same places")
    areas = strata.pixels if strata.area_m2 is None else strata.area_m2
    count = max(strata.stratum, default=0) + 1
    sizes = np.bincount(strata.stratum, areas, count).astype(np.float64)
    pixels = np.bincount(strata.stratum, strata.pixels, count).astype(np.int64)
    stratum = frame["stratum"].to_numpy(np.int64)[known]
    if stratum.size and stratum.max() >= count:
        raise DataError(f"{points} has points of a stratum without area", "points and strata of one sample")
    _check_strata(np.bincount(stratum, minlength=count), pixels, dict(zip(strata.stratum, strata.name, strict=True)))
    sample = StratifiedSample(stratum, mapped[known], reference[known], sizes, pixels)
    on_map = np.full(len(legend), np.nan)
    if other_map is None:
        on_map = np.bincount(strata.index, areas, len(legend)).astype(np.float64)
    unit = "pixels" if strata.area_m2 is None else "m2"
    estimates = estimate_from_sample(sample, len(legend))
    return MapEstimate(legend.names, estimates, float(sizes.sum()), unit, on_map, int(known.sum()))


def _references(column: pd.Series[Any], legend: Legend, path: Path | str) -> NDArray[np.int64]:
    """Return the class of each point, -1 where none was interpreted; numbers are taken for classes too."""
    names = {name: index for index, name in enumerate(form_names(legend))}
    numbers = {str(index): index for index in range(len(legend))}
    texts = [plain_name(str(value)) if not pd.isna(value) and str(value).strip() else "" for value in column]
    odd = sorted({text for text in texts if text and text not in names and text not in numbers})
    if odd:
        raise DataError(f"{path}: reference {listed(odd)}", f"one of {', '.join(legend.names)}")
    return np.array([names.get(text, numbers.get(text, -1)) for text in texts], np.int64)


def _classes_at(classes: Path | str, map_legend: Legend | None, frame: Any, legend: Legend) -> NDArray[np.int64]:
    """Return the classes of another map at the points, as the sample numbers them."""
    other = open_map(classes, map_legend)
    if {*other.legend.names} != {*legend.names}:
        raise DataError(
            f"{classes} has the classes {', '.join(other.legend.names)}", f"the sample's: {', '.join(legend.names)}"
        )
    x, y = frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy()
    try:
        with rasterio.open(classes) as file:
            if (file.crs is None) != (frame.crs is None):
                raise DataError(f"{classes} or the points have no CRS", "both or neither")
            if file.crs is not None and frame.crs is not None:
                x, y = pyproj.Transformer.from_crs(frame.crs, file.crs.to_wkt(), always_xy=True).transform(x, y)
            cols, rows = ~file.transform @ (x, y)  # a turned map fills no rectangle of its CRS
            beyond = ~((cols >= 0) & (cols < file.width) & (rows >= 0) & (rows < file.height))
            inside = zip(x[~beyond], y[~beyond], strict=True)
            masked = MaskFlags.per_dataset in file.mask_flag_enums[0]  # by nodata a class could be lost
            values = list(file.sample(inside, indexes=1, masked=masked))
    except RasterioError as error:
        raise DataError(f"{classes} cannot be read ({error})", "a map of classes") from error
    mapped = np.full(len(x), IGNORE_INDEX, np.int64)
    if values:
        hidden = np.array([np.ma.getmaskarray(value)[0] for value in values])
        here = other.classes(np.array([value[0] for value in map(np.ma.getdata, values)]), hidden)
        table = np.full(256, IGNORE_INDEX, np.int64)
        table[: len(legend)] = [legend.names.index(name) for name in other.legend.names]
        mapped[~beyond] = table[here]
    return mapped


def _check_strata(points: NDArray[np.int64], pixels: NDArray[np.int64], names: dict[int, str]) -> None:
    for stratum, name in names.items():
        if points[stratum] < min(2, pixels[stratum]):
            raise DataError(
                f"the stratum {name} has {points[stratum]} interpreted points",
                "two or more in each, for a standard error",
            )
