"""ONNX files as other people make them, of a few nodes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper

DEEPNESS = {"model_type": "Segmentor", "class_names": {"0": "water", "1": "forest", "2": "road"}, "resolution": 50}
PIXELS = torch.randint(0, 256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(1)).float()


def graph(
    path: Path,
    nodes: Sequence[Any] = (),
    metadata: dict[str, Any] | None = None,
    *,
    axes: Sequence[Any] = ("batch", 3, 8, 8),
    kind: int = TensorProto.FLOAT,
    weights: Sequence[Any] = (),
    takes: int = TensorProto.FLOAT,
) -> Path:
    """Write a graph from ``x`` to ``y``; without nodes, ``y`` is ``x``."""
    nodes = nodes or [helper.make_node("Identity", ["x"], ["y"])]
    given = [helper.make_tensor_value_info("x", takes, axes)]
    result = [helper.make_tensor_value_info("y", kind, None)]
    made = helper.make_graph(nodes, "g", given, result, list(weights))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in (metadata or {}).items()})
    onnx.save(model, path)
    return path
