"""What lies beside a finished map: its layers, style and products; and what an earlier map left.

A map made anew must not lie beside confidence or polygons of another. An earlier layer is known by its tags, and other
files by their digests, which stand in the map's ``map.tif.aux.xml`` as metadata of a domain of our own.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geodistill.errors import DataError, OutputError, output_errors
from geodistill.files import sha256_of
from geodistill.inference.geotiff import map_beside
from geodistill.inference.layers import LAYERS, SceneMap
from geodistill.inference.options import PredictOptions
from geodistill.inference.products import PRODUCTS, SceneFiles
from geodistill.inference.style import style_files, write_style
from geodistill.inference.windows import Area
from geodistill.reading import parse_object
from geodistill.segmenter import Segmenter

DOMAIN, BESIDE = "geodistill", "BESIDE"
"""Metadata of a map that lists the files beside it: a JSON object of names and their SHA-256."""


def write_beside(
    scene_map: SceneMap, segmenter: Segmenter, area: Area, files: Mapping[str, Path], options: PredictOptions
) -> SceneMap:
    """Write the style of a finished map, whose layers are ``files``, and the `PRODUCTS` that are asked for.

    Raises:
        DataError: The map or the scene cannot be read.
        OutputError: A file cannot be written.
    """
    earlier = listed_beside(scene_map.path) if scene_map.finished_before else {}
    scene = SceneFiles(scene_map, dict(files), segmenter, area, options)
    for product in PRODUCTS:
        if asked := getattr(options, product.option):
            product.write(scene, asked)
    # Last and once, for the style lists the other files: a stop on the way leaves no style that lists too few.
    listed = list_beside(scene_map.path, outputs_of(scene_map.path, options), earlier)
    write_style(scene_map.path, segmenter.spec.legend, listed)
    return scene.scene_map


def outputs_of(path: Path, options: PredictOptions) -> tuple[Path, ...]:
    """Return every file that may be written for a scene whose map of classes is ``path``."""
    layers = (map_beside(path, layer) for layer in options.layers if layer != "classes")
    products = (product.files(path, options) for product in PRODUCTS if getattr(options, product.option))
    return (path, *style_files(path), *layers, *chain.from_iterable(products))


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
