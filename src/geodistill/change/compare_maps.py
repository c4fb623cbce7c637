"""`change`: two maps of one place become a map of what changed, with the areas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geodistill.change.grids import align, align_map, require_grid
from geodistill.change.legends import common_classes
from geodistill.change.map_pair import MapPair
from geodistill.change.matrix import ChangeMatrix
from geodistill.change.write_change import write_change
from geodistill.errors import RecipeError
from geodistill.files import check_outputs, check_suffix
from geodistill.inference.any_map import open_map
from geodistill.inference.beside import earlier_files, list_beside
from geodistill.inference.checkpoint import open_work, remove_work
from geodistill.inference.geotiff import map_beside
from geodistill.inference.map_file import read_map_grid, small_cache
from geodistill.inference.options import check_vector
from geodistill.inference.style import style_files, write_style
from geodistill.inference.vector import VectorMap, write_vectors
from geodistill.spec import Legend
from geodistill.version import __version__


@dataclass(frozen=True)
class ChangeOptions:
    """How two maps are compared.

    Attributes:
        renames: New name by old name of classes, so that both maps have the same.
        tolerance: Pixels by which the maps may be shifted against each other, 0 to 64.
        min_area: Leave smaller changes out: square metres, or pixels where the maps are not georeferenced.
        align: Bring the second map onto the grid of the first.
        vector: Write the changes as polygons too, in one of `VECTOR_FORMATS`.
        simplify: Simplification tolerance of polygons in pixels.

    Raises:
        RecipeError: A number is out of its range.
        UnknownNameError: There is no such format.
    """

    renames: Mapping[str, str] = field(default_factory=dict)
    tolerance: int = 0
    min_area: float = 0.0
    align: bool = False
    vector: str | None = None
    simplify: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= 64:
            raise RecipeError(f"tolerance {self.tolerance}", "0 to 64 pixels")
        check_vector(self.vector, self.min_area, self.simplify)


@dataclass(frozen=True)
class MapChange:
    """What was made of two maps: the map of changes, what lies beside it, and the from-to matrix."""

    path: Path
    matrix: ChangeMatrix
    confidence: Path | None = None
    vectors: VectorMap | None = None


def change_outputs(out: Path, options: ChangeOptions, confidence: bool) -> list[Path]:
    """Return every file that is written for a map of changes."""
    files = [out, *style_files(out), *([map_beside(out, "confidence")] if confidence else [])]
    return [*files, *([out.with_suffix(f".{options.vector}")] if options.vector else [])]


def compare_maps(
    before: Path | str,
    after: Path | str,
    out: Path | str,
    options: ChangeOptions | None = None,
    *,
    confidence: Sequence[Path | str] = (),
    legends: Sequence[Legend] = (),
) -> MapChange:
    """Write what changed between two maps of classes.

    Each map is read twice, from its first row to its last; memory does not grow with the height.

    Args:
        before: The first map.
        after: The second, on the same grid unless ``align`` is set.
        out: The map of changes, a name that ends in ``.tif``: class 0 is what did not change, the others each change
            that occurs, such as ``forest to road``.
        options: How they are compared.
        confidence: Maps of confidence of both; beside the map of changes then lies one of three bands: the product of
            both, and each.
        legends: What the values of maps mean that do not say so themselves: one for both, or one each.

    Raises:
        DataError: A map cannot be read, has values that mean nothing, or they differ in grid or classes, or have no
            pixel in common.
        OutputError: A file cannot be written, would be written over one that is read, or was made with an earlier map
            of this name and changed since.
    """
    options, out, inputs = options or ChangeOptions(), Path(out), [Path(before), Path(after), *map(Path, confidence)]
    check_suffix(out, (".tif", ".tiff"))
    if len(confidence) not in (0, 2):
        raise RecipeError(f"{len(confidence)} maps of confidence", "those of both maps, or none")
    if len(legends) > 2:
        raise RecipeError(f"{len(legends)} legends", "one for both maps, or one each")
    outputs = change_outputs(out, options, bool(confidence))
    check_outputs([*outputs, *earlier_files(out, outputs)], inputs)
    given = [legends[0], legends[-1]] if legends else [None, None]
    maps = [open_map(path, legend) for path, legend in zip(inputs[:2], given, strict=True)]
    sure = inputs[2:]
    classes = common_classes(maps[0].legend, maps[1].legend, options.renames)
    if not options.align:
        for path in inputs[1:]:
            require_grid(before, path, (maps[0].grid, read_map_grid(path)))
    places = (maps[0].grid, maps[1].grid)
    with open_work(out, {"change": [str(before), str(after)], "version": __version__}, resume=False) as folder:
        try:
            if options.align:
                maps[1] = align_map(maps[1], maps[0].grid, folder / "rows-after.vrt")
                names = ["rows-before-sure.vrt", "rows-after-sure.vrt"]
                sure = [align(path, maps[0].grid, folder / name) for path, name in zip(sure, names, strict=False)]
            pair = MapPair(
                names=(inputs[0].name, inputs[1].name),
                places=places,
                before=maps[0],
                after=maps[1],
                confidence=(sure[0], sure[1]) if confidence else None,
                grid=maps[0].grid,
                classes=classes,
                tolerance=options.tolerance,
            )
            with small_cache():
                legend, matrix = write_change(pair, options.min_area, out, folder, outputs)
        finally:
            remove_work(out)
    beside = map_beside(out, "confidence") if confidence else None
    vectors = None
    if options.vector is not None:
        vectors = write_vectors(out, options.vector, simplify=options.simplify, confidence=beside, skip=(0,))
    write_style(out, legend, list_beside(out, outputs, {}))
    return MapChange(out, matrix, beside, vectors)
