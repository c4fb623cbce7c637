"""ONNX exports with one table of operators for all graphs of a process: torch makes it anew for each, in 0.8 s."""

from __future__ import annotations

from functools import cache
from typing import Any
from unittest.mock import patch

import torch

_plain_export = torch.onnx.export


@cache
def _operators(*, opset_version: int) -> Any:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    return ONNXRegistry.from_torchlib(opset_version=opset_version)


def export_with_one_table(*args: Any, **more: Any) -> Any:
    """Stand in for `torch.onnx.export`; ``opset_version`` must be given."""
    from torch.onnx._internal.exporter import _registration

    _operators(opset_version=more["opset_version"])  # while the plain way to make it stands
    with patch.object(_registration.ONNXRegistry, "from_torchlib", staticmethod(_operators)):
        return _plain_export(*args, **more)
