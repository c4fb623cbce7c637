"""A STAC item of a model (Machine Learning Model extension) as facts on the graph that it describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geodistill.backends.graph_facts import GraphFacts
from geodistill.errors import ArtifactError, DataError, shown
from geodistill.legend_entries import parse_colour
from geodistill.spec import Legend


def facts_of_item(properties: Mapping[str, Any], source: Path) -> GraphFacts:
    """Return bands, scaling, distance, side and classes of the first input and output.

    Scaling is read as version 1.4 and above write it (``value_scaling``) and as those before (``norm_type`` with
    ``statistics``); all of it that is linear can be used.

    Raises:
        ArtifactError: It is no such item, or scales in another way.
    """
    try:
        given, result = _first(properties, "mlm:input"), _first(properties, "mlm:output")
        bands = tuple(str(b["name"] if isinstance(b, dict) else b) for b in given.get("bands") or ()) or None
        shape = dict(zip(given["input"]["dim_order"], given["input"]["shape"], strict=True))
        tile = int(shape["height"] if "height" in shape else shape.get("y") or 0)
        if given.get("pre_processing_function") is not None:
            raise ArtifactError(f"{source} names a function that prepares images", "scaling alone")
        mean, std = _scaling(given, source)
        gsd = properties.get("gsd")
        return GraphFacts(
            _classes(result.get("classification:classes")),
            bands,
            mean,
            std,
            std is None,
            None if gsd is None else float(gsd),
            tile if tile > 0 else None,
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, DataError) as error:
        raise ArtifactError(f"{source} cannot be used as a model's item ({error!r})", "the MLM extension") from error


def _first(properties: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    listed = properties[key]
    if not isinstance(listed, list) or len(listed) != 1 or not isinstance(listed[0], dict):
        raise ValueError(f"{key} is not a list of one")
    return listed[0]


def _classes(listed: Any) -> Legend | None:
    if not listed:
        return None
    ordered = sorted(listed, key=lambda entry: int(entry["value"]))
    if [int(entry["value"]) for entry in ordered] != list(range(len(ordered))):
        raise ValueError("values of the classes are not 0, 1, 2 ...")
    names = tuple(str(entry.get("title") or entry.get("name")) for entry in ordered)
    hints = [str(entry.get("color_hint", entry.get("color-hint")) or "") for entry in ordered]
    return Legend(names, tuple(parse_colour(f"#{hint}") for hint in hints) if all(hints) else ())


def _scaling(given: Mapping[str, Any], source: Path) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return what is subtracted of each band and by what it is divided; ``None`` twice for samples as they are."""
    scaling = given.get("value_scaling")
    if scaling is None and given.get("norm_type") is not None:
        statistics = given.get("statistics") or [{}]
        scaling = [{"type": given["norm_type"], **entry} for entry in statistics]
    if not scaling:
        return None, None
    entries: Sequence[Any] = scaling if isinstance(scaling, list) else [scaling]
    pairs = [_linear(entry, source) for entry in entries]
    return tuple(mean for mean, _ in pairs), tuple(std for _, std in pairs)


def _linear(entry: Mapping[str, Any], source: Path) -> tuple[float, float]:
    kind = entry.get("type")
    if kind is None:
        return 0.0, 1.0
    if kind == "z-score":
        return float(entry["mean"]), float(entry["stddev"])
    if kind == "min-max":
        return float(entry["minimum"]), float(entry["maximum"]) - float(entry["minimum"])
    if kind == "offset":
        return float(entry["value"]), 1.0
    if kind == "scale":
        return 0.0, float(entry["value"])
    raise ArtifactError(
        f"{source} scales by {shown(kind)}", "z-score, min-max, offset or scale", "give --scale, which takes its place"
    )
