"""What is made of a scene: the table of layers, and the files that a finished scene has."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from geodistill.errors import GeodistillError

if TYPE_CHECKING:
    from geodistill.inference.strips import Hole


@dataclass(frozen=True)
class Layer:
    """What is stored of ``classes``, ``confidence`` ...: bands, and sample type of the bytes."""

    name: str
    bands: int
    dtype: str


@dataclass(frozen=True)
class LayerKind:
    """What a layer holds.

    Attributes:
        option: Name of the option of `predict` that asks for it; the map of classes needs none.
        bands: Names of its first bands.
        per_class: Whether a band for each class comes behind them.
        scaled: Whether its values are shares 0..1, as bytes in steps of 1/250; else classes or counts.
    """

    option: str | None
    bands: tuple[str, ...] = ()
    per_class: bool = False
    scaled: bool = False


LAYERS = {
    "classes": LayerKind(None, ("class",)),
    "confidence": LayerKind("with_confidence", ("confidence",), scaled=True),
    "probabilities": LayerKind("probabilities", per_class=True, scaled=True),
    "distance": LayerKind("objects", ("distance",), scaled=True),
    "class_sets": LayerKind("class_sets", ("classes in the set",), per_class=True),
}
"""Each is a file, ``NAME_LAYER.tif`` beside the map of classes; they are stored and listed in this order."""


@dataclass(frozen=True)
class SceneMap:
    """What was made of a scene.

    Attributes:
        source: The scene.
        path: The map of classes.
        confidence: The map of the classes' probabilities, where asked for.
        probabilities: The map with one band per class, where asked for.
        distance: How far inside its object a pixel lies, where objects are asked for and the model says so.
        class_sets: The map of the classes that each pixel may have, where asked for.
        stac: The STAC item, where asked for.
        vectors: The polygons, where asked for.
        objects: The objects one by one, where asked for.
        preview: The picture, where asked for.
        tiles: The file of map tiles, where asked for.
        polygon_tiles: The file of the polygons' vector tiles, where both are asked for.
        object_tiles: That of the objects' vector tiles.
        unlike: Where the scene lies outside the training, where asked for.
        windows: Windows that the network computed, in this run and those it continued.
        holes: What could not be read, in pixels of the scene.
        finished_before: Whether an earlier run had made it already.
        notes: What was measured and chosen, and what else the user may want to know, a message each.
        error: Why there is no map, where there is none.
    """

    source: str
    path: Path
    confidence: Path | None = None
    probabilities: Path | None = None
    class_sets: Path | None = None
    distance: Path | None = None
    stac: Path | None = None
    vectors: Path | None = None
    objects: Path | None = None
    preview: Path | None = None
    tiles: Path | None = None
    polygon_tiles: Path | None = None
    object_tiles: Path | None = None
    unlike: Path | None = None
    windows: int = 0
    holes: tuple[Hole, ...] = ()
    finished_before: bool = False
    notes: tuple[str, ...] = ()
    error: GeodistillError | None = field(default=None, compare=False)
