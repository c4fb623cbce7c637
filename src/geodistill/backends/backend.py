"""Opening a backend by its name.

A backend is a class with a ``name``, the optional ``packages`` it needs, and ``precisions(kind)``, those that it has on
a kind of device, fastest first. All but torch are made of an ONNX file: ``(path, device, precision, streams)``. A new
one is a file with such a class and a line in `geodistill.backends.BACKENDS`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from geodistill.backends import BACKENDS, PRECISIONS, Precision
from geodistill.backends.graph import require
from geodistill.backends.graph_cache import kept_graph
from geodistill.errors import RecipeError, check_name
from geodistill.lazy import load
from geodistill.segmenter import Segmenter


class Backend(Protocol):
    """A network ready to run: a key of `BACKENDS`, and the precision of its arithmetic."""

    name: str
    precision: Precision

    def __call__(self, images: Tensor) -> Tensor:
        """Segment ``(B, C, H, W)`` float32 sensor units -> ``(B, K, H, W)`` float32 logits, on the backend's device."""


def available(device: torch.device | str = "cpu") -> tuple[str, ...]:
    """Return the names of the backends whose packages are installed and that run on a device."""
    installed = [name for name, target in BACKENDS.items() if all(map(importlib.util.find_spec, load(target).packages))]
    return tuple(name for name in installed if precisions(name, device))


def precisions(name: str, device: torch.device | str) -> tuple[Precision, ...]:
    """Return the precisions that a backend has on a device, fastest first."""
    supported: tuple[Precision, ...] = load(BACKENDS[name]).precisions(torch.device(device).type)
    return supported


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
        name: A key of `BACKENDS`.
        segmenter: The model; ``torch`` runs it where it is and as it is.
        device: ``cpu``, ``cuda`` ...
        precision: Of its arithmetic; what comes in and out is float32.
        size: Side of the images in pixels.
        batch: Images per call, at most; ONNX Runtime and OpenVINO run as many of them side by side as threads allow,
            each alone, so that no result depends on its neighbours.
        compile: Compile the network (``torch`` alone): minutes at the first call, and faster after it.

    Raises:
        UnknownNameError: There is no such backend or precision.
        RecipeError: It is not installed, or is not supported on this device.
        ArtifactError: The network cannot be exported.
    """
    check_name("backend", name, BACKENDS)
    check_name("precision", precision, PRECISIONS)
    kind = load(BACKENDS[name])
    require(*kind.packages)
    place = torch.device(device)
    if compile and name != "torch":
        raise RecipeError(f"compile with the backend {name}", "the backend torch")
    if name == "torch":
        backend: Backend = kind(segmenter.to(place), precision, batch, compile)
        return backend
    if name not in available(place):
        raise RecipeError(f"backend {name} on {place.type}", f"one of {', '.join(available(place))} there")
    if precision not in precisions(name, place):
        raise RecipeError(
            f"precision {precision} with {name} on this {place.type}", f"one of {', '.join(precisions(name, place))}"
        )
    with kept_graph(segmenter, size) as graph:
        return open_graph(name, graph, place, precision, batch)


def open_graph(name: str, path: Path, device: torch.device | str, precision: Precision, batch: int) -> Backend:
    """Open an ONNX file for one image per call; up to ``batch`` calls run side by side.

    Raises:
        ArtifactError: The file is not a graph that the backend takes.
    """
    streams = max(min(torch.get_num_threads(), batch), 1)
    backend: Backend = load(BACKENDS[name])(path, torch.device(device).type, precision, streams)
    return backend
