"""Runners: images in sensor units in, logits out, by torch, ONNX Runtime or OpenVINO."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.backends.graph import INPUT, OUTPUT, first_line, quiet_options, require, runtime_errors
from geodistill.backends.kept import kept_graph
from geodistill.errors import ArtifactError, RecipeError, UnknownNameError
from geodistill.segmenter import Segmenter

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
BACKENDS: dict[str, tuple[str, ...]] = {
    "torch": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
}
"""Every backend with the optional packages it needs."""

_TORCH_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_OPENVINO_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class Backend(Protocol):
    """A network ready to run.

    Attributes:
        name: ``torch``, ``onnx`` or ``openvino``.
        precision: Of its arithmetic.
    """

    name: str
    precision: Precision

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` float32 sensor units -> ``(B, K, H, W)`` float32 logits, on the backend's device."""


def available(device: torch.device | str = "cpu") -> tuple[str, ...]:
    """Names of the backends whose packages are installed and that run on a device."""
    kind = torch.device(device).type
    names = [name for name, needed in BACKENDS.items() if all(map(importlib.util.find_spec, needed))]
    if kind != "cpu":
        names = [name for name in names if name == "torch" or (name == "onnx" and _provider(kind) is not None)]
    return tuple(names)


def open_backend(
    name: str,
    segmenter: Segmenter,
    *,
    device: torch.device | str,
    precision: Precision = "fp32",
    size: int,
    batch: int,
    compile: bool = False,
) -> Backend:
    """Make a network ready to run.

    Args:
        name: ``torch``, ``onnx`` or ``openvino``.
        segmenter: The model; ``torch`` runs it where it is and as it is.
        device: ``cpu``, ``cuda`` ...
        precision: Of its arithmetic; what comes in and out is float32.
        size: Side of the images in pixels.
        batch: Images a call, at most; ONNX Runtime and OpenVINO run as many of them side by side as threads allow,
            each alone, so that no result depends on its neighbours.
        compile: Compile the network (``torch`` alone): minutes at the first call, and faster after it.

    Raises:
        UnknownNameError: There is no such backend or precision.
        RecipeError: It is not installed, or cannot do this on this device.
        ArtifactError: The network cannot be exported.
    """
    if name not in BACKENDS:
        raise UnknownNameError("backend", name, BACKENDS)
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    require(*BACKENDS[name])
    place = torch.device(device)
    if compile and name != "torch":
        raise RecipeError(f"compile with the backend {name}", "the backend torch")
    if name == "torch":
        return TorchBackend(segmenter.to(place), precision, batch, compile)
    if name not in available(place):
        raise RecipeError(f"backend {name} on {place.type}", f"one of {', '.join(available(place))} there")
    if precision not in precisions(name, place):
        raise RecipeError(
            f"precision {precision} with {name} on this {place.type}", f"one of {', '.join(precisions(name, place))}"
        )
    with kept_graph(segmenter, size) as graph:
        return open_graph(name, graph, place, precision, batch)


def open_graph(
    name: str, path: Path, device: torch.device | str, precision: Precision, batch: int
) -> OnnxBackend | OpenvinoBackend:
    """Open an exported graph for one image a call.

    Args:
        name: ``onnx`` or ``openvino``.
        path: The ONNX file.
        device: Where to run it.
        precision: One of `precisions`.
        batch: Images that a call brings, at most.

    Raises:
        ArtifactError: The file is not a graph that the backend takes.
    """
    streams = max(min(torch.get_num_threads(), batch), 1)
    if name == "openvino":
        return OpenvinoBackend(path, precision, streams)
    return OnnxBackend(path, torch.device(device).type, streams)


def precisions(name: str, device: torch.device | str) -> tuple[Precision, ...]:
    """Precisions a backend has on a device, fastest first."""
    kind = torch.device(device).type
    if name == "onnx":
        return ("fp32",)
    if name == "openvino":
        import openvino

        known = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return tuple(p for p in PRECISIONS[::-1] if p == "fp32" or p.upper() in known)
    return ("fp16", "bf16", "fp32") if kind == "cuda" else ("bf16", "fp32")


class TorchBackend:
    """The Segmenter itself, under autocast where the precision is lower.

    Args:
        segmenter: On its device.
        precision: Of the arithmetic.
        batch: Images a call, at most.
        compile: Compile it, for this batch alone: a smaller one is filled up.
    """

    name = "torch"

    def __init__(self, segmenter: Segmenter, precision: Precision, batch: int, compile: bool) -> None:
        self.precision, self._compiled = precision, compile
        self._batch, self._device = batch, next(segmenter.parameters()).device
        self._run = torch.compile(segmenter, dynamic=False) if compile else segmenter

    @torch.inference_mode()
    def __call__(self, images: Tensor, prompt: Tensor | None = None) -> Tensor:
        """``(B, C, H, W)`` float32 sensor units, with the prompt of each for a network that asks -> float32 logits."""
        count = len(images)
        images = images.to(self._device).contiguous(memory_format=torch.channels_last)
        if self._compiled and count < self._batch:
            images = torch.cat([images, images[:1].expand(self._batch - count, -1, -1, -1)])
            prompt = None if prompt is None else torch.cat([prompt, prompt[:1].expand(self._batch - count)])
        lower = self.precision != "fp32"
        with torch.autocast(self._device.type, _TORCH_TYPES[self.precision]) if lower else nullcontext():
            logits: Tensor = self._run(images, prompt)
        return logits[:count].float()


class OnnxBackend:
    """ONNX Runtime on a graph for one image; several images run side by side.

    Args:
        path: The graph.
        device: ``cpu`` or ``cuda``.
        streams: Images side by side.

    Raises:
        ArtifactError: The file is not a graph that ONNX Runtime takes.
    """

    name = "onnx"
    precision: Precision = "fp32"

    def __init__(self, path: Path, device: str, streams: int) -> None:
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
        """``(B, C, H, W)`` float32 sensor units -> ``(B, K, H, W)`` float32 logits."""
        pixels = _pixels(images)
        parts = self._pool.map(self._one, (pixels[i : i + 1] for i in range(len(pixels))))
        return torch.from_numpy(np.concatenate(list(parts))).to(self._device)

    def _one(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: image})[0]
        return logits


class OpenvinoBackend:
    """OpenVINO on a graph for one image; several images run side by side, a stream of threads each.

    Args:
        path: The graph.
        precision: Of the arithmetic.
        streams: Images side by side.

    Raises:
        ArtifactError: The file is not a graph that OpenVINO takes.
    """

    name = "openvino"

    def __init__(self, path: Path, precision: Precision, streams: int) -> None:
        import openvino

        self.precision = precision
        settings = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": max(torch.get_num_threads(), 1),
            # Without it a processor with bfloat16 uses that unasked.
            "INFERENCE_PRECISION_HINT": _OPENVINO_TYPES[precision],
        }
        core = openvino.Core()
        try:
            self._compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
        except RuntimeError as error:
            raise ArtifactError(f"{path} does not open in OpenVINO ({first_line(error)})", "an ONNX file") from error
        self._requests: Sequence[Any] = [self._compiled.create_infer_request() for _ in range(streams)]
        self._tensor = openvino.Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` float32 sensor units -> ``(B, K, H, W)`` float32 logits."""
        pixels = _pixels(images)
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


def _pixels(images: Tensor) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = images.detach().cpu().contiguous().numpy()
    return pixels


def _provider(device: str) -> str | None:
    """ONNX Runtime's name for a device it has been built for."""
    import onnxruntime

    wanted = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(device)
    return wanted if wanted in onnxruntime.get_available_providers() else None
