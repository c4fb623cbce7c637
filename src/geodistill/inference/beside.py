"""What lies beside a finished map: style, polygons, objects, pictures, the STAC item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from geodistill.inference.options import PredictOptions
from geodistill.inference.scene_map import SceneMap, describe
from geodistill.inference.style import set_sizes, write_qml, write_style
from geodistill.inference.windows import Area
from geodistill.segmenter import Segmenter


def write_beside(
    scene_map: SceneMap, segmenter: Segmenter, area: Area, files: Mapping[str, Path], options: PredictOptions
) -> SceneMap:
    """Write the style of a finished map, and polygons and the STAC item where asked for.

    Raises:
        DataError: The map or the scene cannot be read.
        OutputError: A file cannot be written.
    """
    legend, assets, counts = segmenter.spec.legend, dict(files), dict[str, int]()
    write_style(scene_map.path, legend)
    if scene_map.class_sets is not None:
        write_qml(scene_map.class_sets.with_suffix(".qml"), set_sizes(len(legend)))
    if options.vector is not None:
        from geodistill.inference.vector import write_vectors

        vectors = write_vectors(
            scene_map.path,
            options.vector,
            min_area=options.min_area,
            simplify=options.simplify,
            confidence=scene_map.confidence,
        )
        smaller = f", {vectors.left_out} smaller ones left out" if vectors.left_out else ""
        scene_map = replace(scene_map, vectors=vectors.path, notes=(f"{vectors.polygons} polygons{smaller}",))
        assets["polygons"], counts["polygons"] = vectors.path, vectors.polygons
    if options.objects and options.vector is not None:
        from geodistill.inference.objects.write_objects import write_objects

        written = write_objects(
            scene_map.path,
            options.objects,
            options.vector,
            squared=options.right_angles,
            min_area=options.min_area,
            confidence=scene_map.confidence,
            distance=scene_map.distance,
        )
        squared = f", {written.squared} with right angles" if options.right_angles else ""
        notes = (*scene_map.notes, f"{written.objects} objects{squared}")
        scene_map = replace(scene_map, objects=written.path, notes=notes)
        assets["objects"], counts["objects"] = written.path, written.objects
    scene_map, pictures = _write_pictures(scene_map, segmenter, area, options)
    assets |= pictures
    if options.web_tiles is not None:
        scene_map, tiles = _write_vector_tiles(scene_map, options.web_tiles, counts)
        assets |= tiles
    if options.stac:
        from geodistill.inference.stac_item import write_item

        source, day = area.raster.source, area.raster.acquired
        item = write_item(assets, area.grid, legend, source, describe(segmenter), day)
        scene_map = replace(scene_map, stac=item)
    return scene_map


def _write_pictures(
    scene_map: SceneMap, segmenter: Segmenter, area: Area, options: PredictOptions
) -> tuple[SceneMap, dict[str, Path]]:
    """Write preview, map tiles and unlike places of a finished map where asked for; return them as assets too."""
    legend, assets = segmenter.spec.legend, dict[str, Path]()
    if options.preview or options.web_tiles is not None:
        from geodistill.inference.tile_set import write_preview, write_tile_set

        if options.preview:
            assets["thumbnail"] = write_preview(scene_map.path, legend)
        if options.web_tiles is not None:
            assets["tiles"] = write_tile_set(scene_map.path, options.web_tiles, legend)
        scene_map = replace(scene_map, preview=assets.get("thumbnail"), tiles=assets.get("tiles"))
    if options.unlike:
        from geodistill.inference.unlike import write_unlike

        unlike, share = write_unlike(scene_map.path, area, segmenter.spec, keep_going=options.keep_going)
        notes = (*scene_map.notes, f"{100 * share:.1f} % of the scene lies outside what the model was trained on")
        scene_map = replace(scene_map, unlike=unlike, notes=notes)
    return scene_map, assets


def _write_vector_tiles(scene_map: SceneMap, kind: str, counts: dict[str, int]) -> tuple[SceneMap, dict[str, Path]]:
    """Write the vector tiles of a finished map's polygons and objects, those there are; return them as assets too.

    Without one polygon there are none: tiles of nothing have no place, and readers refuse them.
    """
    from geodistill.inference.vector_tiles import vector_tiles_beside, write_vector_tiles

    assets = dict[str, Path]()
    for layer, features in (("polygons", scene_map.vectors), ("objects", scene_map.objects)):
        if features is not None and counts[layer]:
            assets[f"{layer}_tiles"] = write_vector_tiles(scene_map.path, features, layer, kind)
        elif features is not None:
            vector_tiles_beside(scene_map.path, layer, kind).unlink(missing_ok=True)
    polygons, objects = assets.get("polygons_tiles"), assets.get("objects_tiles")
    return replace(scene_map, polygon_tiles=polygons, object_tiles=objects), assets
