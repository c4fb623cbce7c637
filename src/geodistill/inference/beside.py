"""What lies beside a finished map: style, polygons, objects, pictures, the STAC item; what an earlier map left.

A map made anew must not lie beside confidence or polygons of another. An earlier layer is known by its tags, and other
files by their digests, which stand in the map's ``map.tif.aux.xml`` as metadata of a domain of our own.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geodistill.errors import DataError, OutputError, output_errors
from geodistill.files import sha256_of
from geodistill.inference.geotiff import describe, map_beside, preview_beside, unlike_beside
from geodistill.inference.layers import LAYERS, SceneMap
from geodistill.inference.options import PredictOptions
from geodistill.inference.style import set_sizes, style_files, write_qml, write_style
from geodistill.inference.windows import Area
from geodistill.reading import parse_object
from geodistill.segmenter import Segmenter

DOMAIN, BESIDE = "geodistill", "BESIDE"
"""Metadata of a map that lists the files beside it: a JSON object of names and their SHA-256."""


def write_beside(
    scene_map: SceneMap, segmenter: Segmenter, area: Area, files: Mapping[str, Path], options: PredictOptions
) -> SceneMap:
    """Write the style of a finished map, and polygons and the STAC item where asked for.

    Raises:
        DataError: The map or the scene cannot be read.
        OutputError: A file cannot be written.
    """
    legend, assets, counts = segmenter.spec.legend, dict(files), dict[str, int]()
    earlier = listed_beside(scene_map.path) if scene_map.finished_before else {}
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
        note = f"{vectors.polygons} polygons{smaller}{_off_earth(vectors.off_earth)}"
        scene_map = replace(scene_map, vectors=vectors.path, notes=(note,))
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
        notes = (*scene_map.notes, f"{written.objects} objects{squared}{_off_earth(written.off_earth)}")
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
    # Last and once, for the style lists the other files: a stop on the way leaves no style that lists too few.
    write_style(scene_map.path, legend, list_beside(scene_map.path, outputs_of(scene_map.path, options), earlier))
    return scene_map


def _off_earth(count: int) -> str:
    return f", {count} off the Earth left out" if count else ""


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
        assets["unlike"] = unlike
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


def outputs_of(path: Path, options: PredictOptions) -> tuple[Path, ...]:
    """Return every file that may be written for a scene whose map of classes is ``path``."""
    files = [path, *style_files(path), *(map_beside(path, layer) for layer in options.layers if layer != "classes")]
    if options.class_sets is not None:
        files.append(map_beside(path, "class_sets").with_suffix(".qml"))
    if options.vector is not None:
        files.append(path.with_suffix(f".{options.vector}"))
        if options.objects:
            from geodistill.inference.objects.chosen import object_files

            files += object_files(path, options.vector)
    if options.web_tiles is not None:
        from geodistill.inference.tile_set import tiles_beside
        from geodistill.inference.vector_tiles import vector_tiles_beside

        layers = [*(["polygons"] if options.vector else []), *(["objects"] if options.objects else [])]
        files.append(tiles_beside(path, options.web_tiles))
        files += [vector_tiles_beside(path, layer, options.web_tiles) for layer in layers]
    if options.preview:
        files.append(preview_beside(path))
    if options.unlike:
        files.append(unlike_beside(path))
    if options.stac:
        files.append(path.with_suffix(".json"))
    return tuple(files)


def earlier_files(path: Path, making: Collection[Path], *, refuse: bool = True) -> list[Path]:
    """Return the files that an earlier prediction made for the map ``path`` and that are to go, not being made now.

    What may be a person's is never among them: a layer whose tags do not say that it is ours, any other file that the
    map there does not list, and links.

    Args:
        path: The map of classes.
        making: Files that are made now.
        refuse: Whether to refuse a listed file that was changed; else it stays.

    Raises:
        OutputError: A listed file was changed.
    """
    layers = {map_beside(path, layer) for layer in LAYERS} - {path}
    listed = listed_beside(path) if os.path.isfile(path) else {}  # noqa: PTH113 - a name too long is no file
    earlier = []
    for file in sorted(layers.union(listed).difference(making)):
        if not os.path.isfile(file) or file.is_symlink():  # noqa: PTH113 - as above
            continue
        if _is_layer(file) if file in layers else sha256_of(file) == listed[file]:
            earlier.append(file)
        elif file in listed and refuse:
            raise OutputError(
                f"{file} was written with the earlier {path.name} and changed since",
                "no files of another map beside a new one",
                "move it, or choose another --out",
            )
    return earlier


def remove_earlier(path: Path, making: Collection[Path]) -> None:
    """Remove what `earlier_files` returns, and the list of it, whose class names are not the new map's either.

    Raises:
        OutputError: It cannot be removed, or a listed file was changed.
    """
    for file in (*earlier_files(path, making), *style_files(path)[1:]):
        with output_errors(file):
            file.unlink(missing_ok=True)


def list_beside(path: Path, written: Iterable[Path], earlier: Mapping[Path, str]) -> dict[str, str]:
    """Return the metadata by which files beside a map are known later on.

    Args:
        path: The map of classes.
        written: Files written now; listed are those that are there and are no layers.
        earlier: What the map listed before. Those not written now keep their digests, for a person may have changed
            them since.
    """
    others = set(written) - {*style_files(path), *(map_beside(path, layer) for layer in LAYERS)}
    digests = {file: earlier[file] for file in set(earlier).difference(others) if file.is_file()}
    digests |= {file: sha256_of(file) for file in others if file.is_file()}
    return {BESIDE: json.dumps({file.name: digests[file] for file in sorted(digests)})} if digests else {}


def listed_beside(path: Path) -> dict[Path, str]:
    """Return the files that a map lists, with their digests; none where there is no map, or it lists nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                text = file.tags(ns=DOMAIN).get(BESIDE, "{}")
        listed = parse_object(text, path)
    except (RasterioError, DataError):
        return {}
    # The list of a map that someone else altered leads to no other file.
    names = [name for name in listed if name.startswith(path.stem) and Path(name).name == name]
    return {path.with_name(name): str(listed[name]) for name in names}


def _is_layer(file: Path) -> bool:
    """Whether a file is a layer that we wrote, and not a map of classes of another scene that is so called."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(file) as layer:
                tags, first = layer.tags(), layer.descriptions[0]
    except RasterioError:
        return False
    return "LEGEND" in tags and "geodistill" in tags.get("MODEL", "") and first != "class"
