"""ONNX Runtime."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.backends import Precision
from geodistill.backends.graph import INPUT, OUTPUT, as_pixels, quiet_options, runtime_errors
from geodistill.errors import ArtifactError, first_line


class OnnxBackend:
    """ONNX Runtime on a graph for one image, in fp32; ``streams`` images run side by side.

    Raises:
        ArtifactError: The file is not a graph that ONNX Runtime takes.
    """

    name = "onnx"
    precision: Precision = "fp32"
    packages = ("onnx", "onnxscript", "onnxruntime")

    @staticmethod
    def precisions(kind: str) -> tuple[Precision, ...]:
        """Return the precisions on a kind of device, fastest first; none where ONNX Runtime was not built for it."""
        return ("fp32",) if _provider(kind) is not None else ()

    def __init__(self, path: Path, device: str, precision: Precision, streams: int) -> None:
        import onnxruntime

        on_cpu = device == "cpu"
        threads = max(torch.get_num_threads() // streams, 1)
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), quiet_options(threads), providers=[_provider(device) or "CPUExecutionProvider"]
            )
        except runtime_errors() as error:
            raise ArtifactError(
                f"{path} does not open in ONNX Runtime ({first_line(error)})", "an ONNX file"
            ) from error
        self._device = device
        self._pool = ThreadPoolExecutor(streams if on_cpu else 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Segment ``(B, C, H, W)`` float32 sensor units -> ``(B, K, H, W)`` float32 logits."""
        pixels = as_pixels(images)
        parts = self._pool.map(self._one, (pixels[i : i + 1] for i in range(len(pixels))))
        return torch.from_numpy(np.concatenate(list(parts))).to(self._device)

    def _one(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: image})[0]
        return logits


def _provider(device: str) -> str | None:
    """Return ONNX Runtime's name for a device; ``None`` where it was not built for it."""
    import onnxruntime

    name = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(device)
    return name if name in onnxruntime.get_available_providers() else None
