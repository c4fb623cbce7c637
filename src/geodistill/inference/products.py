"""The table of what may lie beside a finished map: polygons, objects, pictures, tiles, the STAC item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from geodistill.inference.geotiff import (
    describe,
    map_beside,
    preview_beside,
    tiles_beside,
    unlike_beside,
    vector_tiles_beside,
)
from geodistill.inference.layers import SceneMap
from geodistill.inference.objects.chosen import object_files
from geodistill.inference.options import PredictOptions
from geodistill.inference.style import set_sizes, write_qml
from geodistill.inference.windows import Area
from geodistill.segmenter import Segmenter


@dataclass
class SceneFiles:
    """A scene whose layers are written, to which each product adds its files.

    Attributes:
        scene_map: What there is so far.
        assets: Its files by their names in a STAC item.
        segmenter: The model.
        area: What was mapped.
        options: What was asked for.
        counts: How many ``polygons`` and ``objects`` there are, where they are written.
    """

    scene_map: SceneMap
    assets: dict[str, Path]
    segmenter: Segmenter
    area: Area
    options: PredictOptions
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, file: Path, asset: str | None = None, note: str | None = None) -> None:
        """Take in a file by its field of `SceneMap` and its name in a STAC item, with a message for the user."""
        changed: dict[str, Any] = {name: file, "notes": (*self.scene_map.notes, *([note] if note else []))}
        self.scene_map = replace(self.scene_map, **changed)
        self.assets |= {asset: file} if asset else {}


@dataclass(frozen=True)
class Product:
    """A kind of files beside a map.

    Attributes:
        option: Name of the option of `predict` that asks for them.
        files: Takes the map of classes and the options; returns every file that may be written.
        write: Takes the scene and the option's value; writes them and adds them to the scene's.
    """

    option: str
    files: Callable[[Path, Any], Sequence[Path]]
    write: Callable[[SceneFiles, Any], None]


def _set_style(classes: Path) -> Path:
    return map_beside(classes, "class_sets").with_suffix(".qml")


def _write_set_style(scene: SceneFiles, _: float) -> None:
    write_qml(_set_style(scene.scene_map.path), set_sizes(len(scene.segmenter.spec.legend)))


def _write_vectors(scene: SceneFiles, kind: str) -> None:
    from geodistill.inference.vector import write_vectors

    options, scene_map = scene.options, scene.scene_map
    vectors = write_vectors(
        scene_map.path,
        kind,
        min_area=options.min_area,
        simplify=options.simplify,
        confidence=scene_map.confidence,
    )
    smaller = f", {vectors.left_out} smaller ones left out" if vectors.left_out else ""
    note = f"{vectors.polygons} polygons{smaller}{_off_earth(vectors.off_earth)}"
    scene.add("vectors", vectors.path, "polygons", note)
    scene.counts["polygons"] = vectors.polygons


def _write_objects(scene: SceneFiles, classes: Sequence[str]) -> None:
    from geodistill.inference.objects.write_objects import write_objects

    options, scene_map = scene.options, scene.scene_map
    assert options.vector is not None
    written = write_objects(
        scene_map.path,
        classes,
        options.vector,
        squared=options.right_angles,
        min_area=options.min_area,
        confidence=scene_map.confidence,
        distance=scene_map.distance,
    )
    squared = f", {written.squared} with right angles" if options.right_angles else ""
    note = f"{written.objects} objects{squared}{_off_earth(written.off_earth)}"
    scene.add("objects", written.path, "objects", note)
    scene.counts["objects"] = written.objects


def _off_earth(count: int) -> str:
    return f", {count} off the Earth left out" if count else ""


def _write_preview(scene: SceneFiles, _: bool) -> None:
    from geodistill.inference.tile_set import write_preview

    scene.add("preview", write_preview(scene.scene_map.path, scene.segmenter.spec.legend), "thumbnail")


def _write_tiles(scene: SceneFiles, kind: str) -> None:
    from geodistill.inference.tile_set import write_tile_set

    scene.add("tiles", write_tile_set(scene.scene_map.path, kind, scene.segmenter.spec.legend), "tiles")


def _write_unlike(scene: SceneFiles, _: bool) -> None:
    from geodistill.inference.unlike import write_unlike

    keep_going = scene.options.keep_going
    unlike, share = write_unlike(scene.scene_map.path, scene.area, scene.segmenter.spec, keep_going=keep_going)
    note = f"{100 * share:.1f} % of the scene lies outside what the model was trained on"
    scene.add("unlike", unlike, "unlike", note)


def _vector_tiles(classes: Path, options: PredictOptions) -> list[Path]:
    layers = [*(["polygons"] if options.vector else []), *(["objects"] if options.objects else [])]
    return [vector_tiles_beside(classes, layer, str(options.web_tiles)) for layer in layers]


def _write_vector_tiles(scene: SceneFiles, kind: str) -> None:
    """Write the tiles of polygons and objects; without one polygon none, since readers refuse tiles of nothing."""
    from geodistill.inference.vector_tiles import write_vector_tiles

    classes = scene.scene_map.path
    for name, layer, features in (
        ("polygon_tiles", "polygons", scene.scene_map.vectors),
        ("object_tiles", "objects", scene.scene_map.objects),
    ):
        if features is not None and scene.counts[layer]:
            scene.add(name, write_vector_tiles(classes, features, layer, kind), f"{layer}_tiles")
        elif features is not None:
            vector_tiles_beside(classes, layer, kind).unlink(missing_ok=True)


def _write_item(scene: SceneFiles, _: bool) -> None:
    from geodistill.inference.stac_item import write_item

    area, segmenter = scene.area, scene.segmenter
    source, day = area.raster.source, area.raster.acquired
    scene.add("stac", write_item(scene.assets, area.grid, segmenter.spec.legend, source, describe(segmenter), day))


PRODUCTS = (
    Product("class_sets", lambda path, _: [_set_style(path)], _write_set_style),
    Product("vector", lambda path, options: [path.with_suffix(f".{options.vector}")], _write_vectors),
    Product("objects", lambda path, options: object_files(path, options.vector), _write_objects),
    Product("preview", lambda path, _: [preview_beside(path)], _write_preview),
    Product("web_tiles", lambda path, options: [tiles_beside(path, options.web_tiles)], _write_tiles),
    Product("unlike", lambda path, _: [unlike_beside(path)], _write_unlike),
    Product("web_tiles", _vector_tiles, _write_vector_tiles),
    Product("stac", lambda path, _: [path.with_suffix(".json")], _write_item),
)
"""They are written in this order, which is that of a STAC item's assets, and of the messages."""
