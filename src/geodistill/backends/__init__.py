"""Ways to run a Segmenter's network: torch, ONNX Runtime, OpenVINO."""

from geodistill.backends.choose import Choice, choose_backend
from geodistill.backends.run import BACKENDS, PRECISIONS, Backend, available, open_backend

__all__ = ["BACKENDS", "PRECISIONS", "Backend", "Choice", "available", "choose_backend", "open_backend"]
