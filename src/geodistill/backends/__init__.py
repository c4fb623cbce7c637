"""Ways to run a Segmenter's network: torch, ONNX Runtime, OpenVINO; each is imported when its name is asked for."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

BACKENDS = {
    "torch": "geodistill.backends.torch_backend:TorchBackend",
    "onnx": "geodistill.backends.onnx_backend:OnnxBackend",
    "openvino": "geodistill.backends.openvino_backend:OpenvinoBackend",
}
"""Every backend, see `geodistill.backends.backend`."""
