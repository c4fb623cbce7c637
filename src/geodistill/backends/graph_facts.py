"""What an ONNX file that somebody else made says of its model: metadata inside it, a STAC item beside it, flags."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from geodistill.errors import ArtifactError, DataError, shown
from geodistill.legend_entries import parse_colour
from geodistill.reading import parse_json, read_object
from geodistill.spec import Legend

BRIGHTEST = 255.0
"""The QGIS plug-in Deepness hands 8-bit bands to networks as shares of this."""

_LONGEST = 1 << 16
"""Characters of a key's text at most."""

_DEEPNESS = ("model_type", "class_names", "resolution", "tile_size", "tiles_size", "standardization_mean", "seg_thresh")


@dataclass(frozen=True)
class GraphFacts:
    """What is known of a graph's model; ``None`` where nothing says it.

    Attributes:
        legend: The classes.
        bands: Names of the bands.
        mean: What is subtracted of each band, in sensor units; one for all bands where it is one number.
        std: By what each band is then divided.
        inside: The graph does that itself: it takes sensor units.
        gsd: Ground sampling distance in metres.
        tile: Side of its images in pixels.
        threshold: Probability below which a class does not count, 0..1.
        brightest: Largest sample that it is made for.
    """

    legend: Legend | None = None
    bands: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    inside: bool | None = None
    gsd: float | None = None
    tile: int | None = None
    threshold: float | None = None
    brightest: float | None = None

    def or_else(self, other: GraphFacts) -> GraphFacts:
        """Return these facts, and where nothing says one, that of the other."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        merged = {name: mine if mine is not None else theirs for name, (mine, theirs) in pairs.items()}
        if self.std is not None or self.inside is not None:  # one source says how samples are scaled
            merged |= {name: getattr(self, name) for name in ("mean", "std", "inside", "brightest")}
        return GraphFacts(**merged)


def facts_inside(metadata: Mapping[str, str], source: Path) -> GraphFacts:
    """Read a file's metadata: those of this package's exports, of Deepness, or class names alone.

    Raises:
        ArtifactError: A value is not what its key stands for, or the model is no segmenter.
    """
    values = {key: _value(text, f"{source}, {key}") for key, text in metadata.items() if key in _KEYS}
    task = values.get("task")
    if isinstance(task, str) and task not in ("semantic-segmentation", "semantic"):
        raise ArtifactError(f"{source} for the task {shown(task)}", "a model of semantic segmentation")
    try:
        legend = _legend(values.get("class_names", values.get("names")), values.get("colours"), source)
        if task == "semantic-segmentation" and "bands" in values:
            mean, std = _numbers(values.get("mean")), _numbers(values.get("std"))
            bands = tuple(str(band) for band in values["bands"])
            return GraphFacts(legend, bands, mean, std, True, _number(values.get("gsd")), _whole(values.get("tile")))
        if not any(key in values for key in _DEEPNESS):
            return GraphFacts(legend)
        return _deepness(values, legend, source)
    except (TypeError, ValueError, OverflowError, DataError) as error:
        raise ArtifactError(f"{source} with metadata that cannot be used ({error})", "Deepness's metadata") from error


def _deepness(values: Mapping[str, Any], legend: Legend | None, source: Path) -> GraphFacts:
    """Read Deepness's keys as its ``ModelBase`` does: samples are divided by 255 and then standardised."""
    kind = str(values.get("model_type", "segmentor")).lower()
    if kind != "segmentor":
        raise ArtifactError(f"{source} is a {shown(kind)} of Deepness", "a Segmentor")
    mean = _numbers(values.get("standardization_mean")) or (0.0,)
    std = _numbers(values.get("standardization_std")) or (1.0,)
    resolution = _number(values.get("resolution"))
    return GraphFacts(
        legend,
        mean=tuple(BRIGHTEST * value for value in mean),
        std=tuple(BRIGHTEST * value for value in std),
        inside=False,
        gsd=None if not resolution else resolution / 100,  # it is in centimetres
        tile=_whole(values.get("tile_size", values.get("tiles_size"))),
        threshold=_number(values.get("seg_thresh")),
        brightest=BRIGHTEST,
    )


_KEYS = {*_DEEPNESS, *("names", "standardization_std", "task", "colours", "bands", "mean", "std", "gsd", "tile")}


def _value(text: str, what: str) -> Any:
    if len(text) > _LONGEST:
        raise ArtifactError(f"{what} of {len(text)} characters", f"at most {_LONGEST}")
    try:
        return parse_json(text, what, ArtifactError)
    except ArtifactError:
        try:  # names with whole numbers for keys, as Python writes them
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return text


def _legend(names: Any, colours: Any, source: Path) -> Legend | None:
    """Return the classes of ``{"0": name, ...}``, or of a list with one such mapping per output."""
    if names is None:
        return None
    if isinstance(names, list) and names and isinstance(names[0], dict):
        if len(names) > 1:
            raise ArtifactError(f"{source} with {len(names)} outputs", "one map of classes")
        names = names[0]
    ordered = names if isinstance(names, list) else _in_order(names)
    painted = tuple(parse_colour(colour) for colour in _in_order(colours)) if isinstance(colours, dict) else ()
    return Legend(tuple(str(name) for name in ordered), painted)


def _in_order(mapping: Mapping[Any, Any]) -> list[Any]:
    by_index = {int(key): value for key, value in dict(mapping).items()}
    if sorted(by_index) != list(range(len(by_index))):
        raise ValueError(f"classes {shown(sorted(by_index))}, which are not 0, 1, 2 ...")
    return [by_index[index] for index in range(len(by_index))]


def _numbers(value: Any) -> tuple[float, ...] | None:
    return None if value is None else tuple(float(item) for item in value)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def facts_beside(path: Path) -> GraphFacts:
    """Read the STAC item with the Machine Learning Model extension that lies beside a file, where there is one.

    It is called ``NAME.json`` or ``NAME.onnx.json``, or is an ``item.json`` that links to the file.

    Raises:
        ArtifactError: It cannot be read, or asks for what cannot be done.
    """
    for place in (path.with_suffix(".json"), path.with_name(f"{path.name}.json"), path.with_name("item.json")):
        if not place.is_file():
            continue
        item = read_object(place, error=ArtifactError)
        properties, assets = item.get("properties"), item.get("assets")
        links = (
            [asset.get("href") for asset in assets.values() if isinstance(asset, dict)]
            if (isinstance(assets, dict))
            else []
        )
        linked = place.name != "item.json" or any(str(href).rsplit("/", 1)[-1] == path.name for href in links)
        if isinstance(properties, dict) and "mlm:input" in properties and linked:
            from geodistill.backends.model_description import facts_of_item

            return facts_of_item(properties, place)
    return GraphFacts()


def for_bands(values: Sequence[float] | None, channels: int, default: float, source: Path) -> tuple[float, ...]:
    """Return a number for each band of one for all or one per band.

    Raises:
        ArtifactError: They are another number.
    """
    given = tuple(values or (default,))
    if len(given) not in (1, channels):
        raise ArtifactError(f"{source} scales {len(given)} bands and takes {channels}", "as many")
    return given * channels if len(given) == 1 else given
