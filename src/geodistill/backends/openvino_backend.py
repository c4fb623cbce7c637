"""OpenVINO, on processors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodistill.backends import PRECISIONS, Precision
from geodistill.backends.graph import as_pixels
from geodistill.errors import ArtifactError, first_line

_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


@cache
def _core() -> Any:
    """Return OpenVINO's runtime, one for the process.

    Each sets the stack that signal handlers run on and, when it goes, sets back the one that it found. Of two that
    overlap, the second would set back the first one's, which is gone by then: the next signal kills the process.
    """
    import openvino

    return openvino.Core()


class OpenvinoBackend:
    """OpenVINO on a graph for one image; ``streams`` images run side by side, each on threads of its own.

    Raises:
        ArtifactError: The file is not a graph that OpenVINO takes.
    """

    name = "openvino"
    packages = ("onnx", "onnxscript", "onnxruntime", "openvino")

    @staticmethod
    def precisions(kind: str) -> tuple[Precision, ...]:
        """Return the precisions on a kind of device, fastest first; none but on processors."""
        if kind != "cpu":
            return ()
        known = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return tuple(p for p in PRECISIONS[::-1] if p == "fp32" or p.upper() in known)

    def __init__(self, path: Path, device: str, precision: Precision, streams: int) -> None:
        import openvino

        self.precision = precision
        settings = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": max(torch.get_num_threads(), 1),
            # Without it a processor with bfloat16 uses that unasked.
            "INFERENCE_PRECISION_HINT": _TYPES[precision],
        }
        core = _core()
        try:
            self._compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
        except RuntimeError as error:
            raise ArtifactError(f"{path} does not open in OpenVINO ({first_line(error)})", "an ONNX file") from error
        self._requests: Sequence[Any] = [self._compiled.create_infer_request() for _ in range(streams)]
        self._tensor = openvino.Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Segment ``(B, C, H, W)`` float32 sensor units -> ``(B, K, H, W)`` float32 logits."""
        pixels = as_pixels(images)
        classes = self._compiled.output(0).partial_shape[1].get_length()
        logits = np.empty((len(pixels), classes, *pixels.shape[2:]), np.float32)
        for index in range(len(pixels)):
            request = self._requests[index % len(self._requests)]
            request.wait()
            request.set_input_tensor(self._tensor(pixels[index : index + 1], shared_memory=True))
            request.set_output_tensor(self._tensor(logits[index : index + 1], shared_memory=True))
            request.start_async()
        for request in self._requests:
            request.wait()
        return torch.from_numpy(logits)
