"""`assess sample`: a stratified random sample of points of a map, to be interpreted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geodistill.assess.draw import StratumSampler, allocate
from geodistill.assess.form import form_names
from geodistill.assess.points import SamplePoints, StratumTable, check_replaced, write_points
from geodistill.assess.strata import BOUNDARY, stratum_strips
from geodistill.assess.training_places import TrainingPlaces
from geodistill.data.manifest import Manifest
from geodistill.errors import DataError, RecipeError
from geodistill.files import check_outputs, check_suffix
from geodistill.inference.any_map import open_map
from geodistill.inference.map_file import small_cache
from geodistill.raster.ground import Ground
from geodistill.spec import IGNORE_INDEX, Legend


@dataclass(frozen=True)
class SampleOptions:
    """How points are drawn.

    Attributes:
        points: How many; by default as many as `standard_error` asks for, or as `least` does where those are more.
        standard_error: Standard error of the overall accuracy that is aimed at (0..1).
        expected: User's accuracy that is expected of the classes (0..1).
        least: Points of each stratum at least, so that the accuracy of a rare class is known too.
        boundary: Width in pixels of a stratum of its own for pixels beside another class; 0 for none.
        manifest: The model's training data, whose places get no points; ``None`` where none lies in the map.
        seed: Of the random numbers.

    Raises:
        RecipeError: A number is out of its range.
    """

    points: int | None = None
    standard_error: float = 0.02
    expected: float = 0.85
    least: int = 50
    boundary: int = 0
    manifest: Manifest | Path | str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.points is not None and self.points < 2:
            raise RecipeError(f"{self.points} points", "at least 2")
        if not 0 < self.standard_error < 1 or not 0 < self.expected < 1:
            raise RecipeError(f"standard error {self.standard_error}, expected {self.expected}", "between 0 and 1")
        if self.least < 2 or not 0 <= self.boundary <= 64 or self.seed < 0:
            raise RecipeError(
                f"least {self.least}, boundary {self.boundary}, seed {self.seed}", "at least 2, 0 to 64, at least 0"
            )

    @property
    def total(self) -> int:
        """How many points: those asked for, or ``U (1 - U) / SE^2`` (Olofsson et al. 2014, equation 13)."""
        return self.points or math.ceil(self.expected * (1 - self.expected) / self.standard_error**2)


@dataclass(frozen=True)
class DrawnSample:
    """What was drawn.

    Attributes:
        path: The GeoPackage.
        strata: Name of each stratum with its points.
        left_out: Share of the map's pixels that lie in training places, which the estimates then say nothing of.
    """

    path: Path
    strata: dict[str, int]
    left_out: float

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.strata.items())
        places = f"; {self.left_out:.1%} of the map are training places and left out" if self.left_out else ""
        return f"{self.path}: {sum(self.strata.values())} points ({counts}){places}"


def draw_sample(
    classes: Path | str, out: Path | str, options: SampleOptions | None = None, *, legend: Legend | None = None
) -> DrawnSample:
    """Draw points of a map by stratum, and write them for interpretation in QGIS.

    The map is read once, from its first row to its last; memory does not grow with its height.

    Args:
        classes: A map of classes, of any maker.
        out: The GeoPackage.
        options: How many, and where.
        legend: What the map's values mean, where it does not say so itself.

    Raises:
        DataError: A file cannot be read, the map has no pixels, two of its classes are shown alike, or it cannot be
            said where training places lie.
        RecipeError: There are fewer points than the strata ask for.
        OutputError: The file cannot be written, is read, or holds interpreted points or anything else but a sample.
    """
    options, out = options or SampleOptions(), Path(out)
    check_suffix(out, (".gpkg",))
    manifest = options.manifest
    check_outputs([out], [classes, *([manifest] if isinstance(manifest, Path | str) else [])])
    check_replaced(out)
    opened = open_map(classes, legend)
    form_names(opened.legend)  # refused before the map is read
    ground, count = Ground(opened.grid), len(opened.legend)
    if options.boundary and count == IGNORE_INDEX:
        raise DataError(f"{classes} has {count} classes", "fewer, for a boundary stratum", "leave --boundary out")
    places = None if manifest is None else TrainingPlaces(manifest, opened.grid)
    sampler, left_out = StratumSampler(count + 1, max(options.total, options.least), options.seed), 0
    with small_cache():
        for strip in stratum_strips(opened, ground, options.boundary):
            if places is not None:
                used = places.inside(strip.top, len(strip.strata)) & (strip.strata != IGNORE_INDEX)
                strip.strata[used] = IGNORE_INDEX
                left_out += int(used.sum())
            sampler.add(strip)
    pixels, areas = sampler.pixels.sum(1), sampler.areas.sum(1)
    if not pixels.sum():
        raise DataError(
            f"{classes} has no pixel that a point may lie on",
            "pixels with data outside training places",
            "assess a map of other places than those trained on" if left_out else "",
        )
    total = options.total
    if options.points is None:
        total = max(total, int(np.minimum(pixels, options.least).sum()))
    counts = allocate(areas.tolist(), pixels.tolist(), total, options.least)
    names = [*opened.legend.names, BOUNDARY]
    write_points(out, _gather(sampler, counts, options.seed), _table(sampler, names, ground), opened.legend, ground)
    drawn = {name: n for name, n, size in zip(names, counts, pixels, strict=True) if size}
    return DrawnSample(out, drawn, left_out / (left_out + int(pixels.sum())))


def _gather(sampler: StratumSampler, counts: list[int], seed: int) -> SamplePoints:
    """Return the points of all strata, mixed, so that they are not interpreted stratum by stratum."""
    drawn = [sampler.drawn(stratum, count) for stratum, count in enumerate(counts)]
    order = np.random.default_rng(seed).permutation(sum(counts))
    strata = np.repeat(np.arange(len(counts)), counts)
    parts = (strata, *(np.concatenate([getattr(d, name) for d in drawn]) for name in ("classes", "rows", "cols")))
    return SamplePoints(*(part[order] for part in parts))


def _table(sampler: StratumSampler, names: list[str], ground: Ground) -> StratumTable:
    strata, classes = np.nonzero(sampler.pixels)
    areas = None if ground.crs is None else sampler.areas[strata, classes].tolist()
    pixels = sampler.pixels[strata, classes].tolist()
    return StratumTable(strata.tolist(), [names[i] for i in strata], classes.tolist(), pixels, areas)
