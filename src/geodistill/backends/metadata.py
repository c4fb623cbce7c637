"""What an ONNX file says beside its graph: what the model is, in names that readers know, and nothing of its maker."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from geodistill.segmenter import Segmenter
from geodistill.spec import hexadecimal
from geodistill.version import __version__

AXES = ("batch", "bands", "height", "width")
"""Names of the axes of images and logits, as free ones are called in a graph."""


def model_metadata(segmenter: Segmenter) -> dict[str, str]:
    """Return what a graph's reader must know of a model, one JSON text per key.

    ``names`` and ``colours`` (``#rrggbb``) by class index, ``bands`` with ``mean`` and ``std`` in sensor units (the
    graph normalises by them itself), ``gsd`` in metres per pixel or null, ``tile`` in pixels, ``task`` and
    ``version`` of this package.
    """
    spec = segmenter.spec
    values: dict[str, Any] = {
        "task": "semantic-segmentation",
        "names": {str(index): name for index, name in enumerate(spec.legend.names)},
        "colours": {str(i): hexadecimal(colour) for i, colour in enumerate(spec.legend.colours)},
        "bands": list(spec.bands),
        "mean": list(spec.mean),
        "std": list(spec.std),
        "gsd": spec.gsd,
        "tile": segmenter.tile,
        "version": f"geodistill {__version__}",
    }
    return {key: json.dumps(value) for key, value in values.items()}


def finish_graph(path: Path, metadata: Mapping[str, str], context: Sequence[str] = ()) -> None:
    """Leave in an ONNX file what its readers use, and name its free axes; ``context`` names inputs beside the images.

    The exporter keeps at each node the lines of source, with the paths of this machine, that it came from: they go.
    """
    import onnx

    model = onnx.load(path)
    _name_axes(model, context)
    for part in (model, model.graph, *model.functions, *_parts(model.graph), *_nodes(model.functions)):
        for field in ("metadata_props", "doc_string"):
            if field in part.DESCRIPTOR.fields_by_name:
                part.ClearField(field)
    _drop_unused_domains(model)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


def tensors_of(model: Any) -> Iterator[Any]:
    """Yield every array of constants in an ONNX model, those inside nodes and functions too."""
    for part in (*_parts(model.graph), *_nodes(model.functions)):
        kind = part.DESCRIPTOR.name
        if kind == "TensorProto":
            yield part
        elif kind == "AttributeProto":
            yield from (*part.tensors, *([part.t] if part.HasField("t") else []))


def _drop_unused_domains(model: Any) -> None:
    """Take the operator sets off that no node is of: the quantiser leaves those of its own intermediate graphs."""
    parts = (*_parts(model.graph), *_nodes(model.functions))
    used = {"", *(part.domain for part in parts if "op_type" in part.DESCRIPTOR.fields_by_name)}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _nodes(holders: Iterable[Any]) -> Iterator[Any]:
    """Yield the nodes of functions, and what is in those that hold graphs."""
    for holder in holders:
        yield from holder.value_info
        for node in holder.node:
            yield node
            yield from _inside(node)


def _parts(graph: Any) -> Iterator[Any]:
    """Yield all of a graph that may say something: values, weights and nodes, those of graphs inside nodes too."""
    yield from (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for node in graph.node:
        yield node
        yield from _inside(node)


def _inside(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield attribute
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            yield graph
            yield from _parts(graph)


def _name_axes(model: Any, context: Sequence[str]) -> None:
    """Call free axes by `AXES`, where the exporter numbers them: ``s77`` in all values, and whole for the logits."""
    names: dict[str, str] = {}
    for value in model.graph.input:
        # Of what goes with images, features of text, only the first axis is free, and it is theirs.
        axes = AXES[:1] if value.name in context else AXES
        for dimension, name in zip(value.type.tensor_type.shape.dim, axes, strict=False):
            if dimension.dim_param:
                names.setdefault(dimension.dim_param, name)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = re.sub(
                    r"[A-Za-z_]\w*", lambda symbol: names.get(symbol[0], symbol[0]), dimension.dim_param
                )
    # As `parity` finds them: of the images' size, however the exporter reckons it.
    for dimension, name in zip(model.graph.output[0].type.tensor_type.shape.dim, AXES, strict=False):
        if dimension.dim_param:
            dimension.dim_param = name
