"""An ONNX file from outside: what it takes and gives, within bounds, before anything runs it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from geodistill.backends.metadata import tensors_of
from geodistill.errors import ArtifactError, first_line, shown
from geodistill.reading import read_bytes

MOST_BYTES = 2**31
"""Bytes of a file at most: where ONNX's own format ends."""

MOST_VALUES = 2**31
"""Numbers in any one array that a graph takes or computes for a call, at most."""

_TYPES = {1: "float32", 10: "float16", 2: "uint8", 11: "float64"}
"""ONNX's numbers for the sample types of images."""


@dataclass(frozen=True)
class GraphShape:
    """What a graph takes: the name, sample type and axes of its images; an axis that may have any length is 0.

    ``files`` are the file itself and those that hold its weights, ``metadata`` what it says of itself.
    """

    name: str
    dtype: str
    batch: int
    channels: int
    height: int
    width: int
    metadata: dict[str, str]
    files: tuple[Path, ...]


def read_graph(path: Path) -> Any:
    """Read an ONNX file, without weights that lie beside it, and without running it.

    Raises:
        ArtifactError: It is missing, too large, or no ONNX file.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    data = read_bytes(path, MOST_BYTES, ArtifactError)
    try:
        return onnx.load_model_from_string(data)
    except (DecodeError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path} is no ONNX file ({first_line(error)})", "an ONNX file") from error


def look_at_graph(model: Any, path: Path) -> GraphShape:
    """Return what a graph that was read from a file takes.

    Raises:
        ArtifactError: It takes or gives something else than one image and one map, or keeps weights outside its folder.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    images = [value for value in model.graph.input if value.name not in weights]
    if len(images) != 1 or len(model.graph.output) != 1:
        takes = ", ".join(shown(value.name) for value in images[:6])
        raise ArtifactError(
            f"{path} takes {len(images)} inputs ({takes}) and gives {len(model.graph.output)} outputs",
            "a graph of images alone that gives one map of classes",
        )
    tensor = images[0].type.tensor_type
    axes = [dimension.dim_value for dimension in tensor.shape.dim]
    if len(axes) != 4 or tensor.elem_type not in _TYPES or min(axes) < 0:
        raise ArtifactError(
            f"{path} takes {axes} of type {tensor.elem_type}", "images (batch, bands, height, width) of float32"
        )
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    files = (path, *_weight_files(model, path))
    batch, channels, height, width = axes
    return GraphShape(images[0].name, _TYPES[tensor.elem_type], batch, channels, height, width, metadata, files)


def _weight_files(model: Any, path: Path) -> list[Path]:
    """Return the files beside a graph that hold its weights.

    Raises:
        ArtifactError: One lies elsewhere, or is missing.
    """
    names = {entry.value for tensor in tensors_of(model) for entry in tensor.external_data if entry.key == "location"}
    files = []
    for name in sorted(names):
        file = path.parent / name
        # os.path: a name too long is no file.
        if Path(name).name != name or os.path.islink(file) or not os.path.isfile(file):  # noqa: PTH114, PTH113
            raise ArtifactError(
                f"{path} keeps weights in {shown(name)}", "a file beside it", "copy the whole model, weights included"
            )
        files.append(file)
    return files


def refuse_giants(model: Any, path: Path, shape: Sequence[int]) -> None:
    """Refuse a graph of a file that, for an input of a shape, takes or makes more than `MOST_VALUES` numbers at once.

    Shapes are inferred and nothing is computed; where the graph reckons a shape from pixels, none is known.

    Raises:
        ArtifactError: It does, or its operators do not fit each other.
    """
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    image = next(value for value in model.graph.input if value.name not in weights)
    for dimension, length in zip(image.type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = length
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be run ({first_line(error)})", "a graph that fits together") from error
    for name, count in _sizes(inferred):
        if count > MOST_VALUES:
            raise ArtifactError(f"{path}: {shown(name)} has {count} numbers", f"at most {MOST_VALUES} in one array")


def _sizes(model: Any) -> Iterator[tuple[str, int]]:
    """Yield names and sizes of all arrays whose size is known, those that nobody has filled among them."""
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        lengths = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        yield value.name, prod(lengths) if all(lengths) else 0
    for tensor in tensors_of(model):
        yield tensor.name, prod(tensor.dims)
