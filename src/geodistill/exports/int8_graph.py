"""A graph of 8-bit integers, all of it or all but the layers whose quantisation costs most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from geodistill.backends.graph import INPUT, OUTPUT, quiet_options, quietly, require

Windows = Sequence[NDArray[np.float32]]

_TYPES = ["Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Concat", "Relu", "Clip"]
"""Operators that are quantised."""

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Those that have weights: layers, which may stay in float."""


def prepare_graph(graph: Path, path: Path) -> None:
    """Write a graph as it is quantised from: shapes inferred, constants folded.

    Raises:
        RecipeError: A package is missing.
    """
    require("onnx", "onnxruntime")
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with quietly():
        quant_pre_process(str(graph), str(path), skip_symbolic_shape=True)


def quantise_graph(
    prepared: Path, path: Path, windows: Windows, *, exact: Sequence[str] = (), only: Sequence[str] = ()
) -> None:
    """Write a graph of 8-bit integers, as pairs of nodes that quantise and restore, which every runtime understands.

    Args:
        prepared: What `prepare_graph` wrote.
        path: The file.
        windows: ``(C, S, S)`` images in sensor units that the ranges of activations are read from.
        exact: Names of layers that stay in float.
        only: Names of layers that alone are quantised; all where not given.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    rest = iter(windows)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Windows in the form that the calibration asks for."""

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            """Return one window, or ``None`` after the last."""
            return next(({INPUT: window[None]} for window in rest), None)

    with quietly():
        quantize_static(
            str(prepared),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=_TYPES,
            nodes_to_exclude=list(exact),
            nodes_to_quantize=list(only),
        )


def by_sensitivity(prepared: Path, windows: Windows) -> list[str]:
    """Return the layers of a graph, first the one whose quantisation changes the logits of some windows most.

    Each is quantised alone, and the mean squared difference of the logits to the graph in float is what it costs.
    """
    import onnx

    nodes = [node.name for node in onnx.load(prepared).graph.node if node.op_type in _LAYERS and node.name]
    exact = _logits(prepared, windows)
    cost = {}
    with TemporaryDirectory(prefix="geodistill-") as folder:
        one = Path(folder) / "one.onnx"
        for node in nodes:
            quantise_graph(prepared, one, windows, only=[node])
            changed = _logits(one, windows)
            cost[node] = sum(float(np.square(a - b).mean()) for a, b in zip(exact, changed, strict=True))
    return sorted(nodes, key=lambda node: -cost[node])


def _logits(graph: Path, windows: Windows) -> list[NDArray[np.float32]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, quiet_options(), providers=["CPUExecutionProvider"])
    return [session.run([OUTPUT], {INPUT: window[None]})[0] for window in windows]
