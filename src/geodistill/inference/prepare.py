"""The fastest way to run a network, measured: backend, precision and batch size. Plain torch is not measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.backends import Precision
from geodistill.errors import DataError, RecipeError
from geodistill.inference.network import Network, RunPlan, as_images, as_network, count_passes, fixed_batch
from geodistill.inference.options import PredictOptions
from geodistill.inference.windows import Area, WindowPlan
from geodistill.raster import Window
from geodistill.segmenter import Segmenter

_TRIES = 200
"""Windows that are looked at for some with data."""

_BATCHES = {"cpu": (1, 2, 4, 8), "cuda": (4, 8, 16, 32, 64, 128)}


def prepare(
    segmenter: Segmenter,
    options: PredictOptions,
    area: Area,
    windows: WindowPlan,
    prompts: NDArray[np.int64] | None = None,
) -> RunPlan:
    """Choose what the options leave open for a Segmenter on its device, by trials on windows of the first scene.

    A network of several prompts runs in torch alone.

    Raises:
        RecipeError: A backend that was asked for is not installed, or runs no scene that spans climate zones.
    """
    backend, precision = options.backend, options.precision
    if prompts is not None:
        if backend not in ("auto", "torch"):
            raise RecipeError(f"--backend {backend} for a scene that spans climate zones", "torch or auto")
        backend = "torch"
    device = next(segmenter.parameters()).device
    notes: list[str] = []
    batch = fixed_batch(options, device)

    def measured(network: Network) -> int:
        fastest = fastest_batch(network, first_windows(area, windows))
        notes.append(f"batch size {fastest}")
        return fastest

    forward = None
    if options.batch == "auto" and options.compile:
        # Compiled, each size that is tried would take minutes.
        batch = measured(as_network(segmenter, tta=options.tta))
    if backend != "torch" or precision not in ("auto", "fp32") or options.compile:
        forward, backend, precision, note = _open(segmenter, options, backend, area, windows, batch)
        notes += [note] if note else []
    network = as_network(segmenter, tta=options.tta, forward=forward, prompts=prompts)
    if options.batch == "auto" and not options.compile:
        batch = measured(network)
    return RunPlan(options, network, windows, batch, backend, precision, tuple(notes))


def _open(
    segmenter: Segmenter, options: PredictOptions, backend: str, area: Area, windows: WindowPlan, batch: int
) -> tuple[Callable[[Tensor], Tensor], str, str, str]:
    """Return what runs the network, the names of backend and precision, and why."""
    device = next(segmenter.parameters()).device
    if backend == "auto" and not options.compile:
        from geodistill.backends.choose import choose_backend

        some = first_windows(area, windows, batch)
        images = as_images([some[i % len(some)] for i in range(batch)], device)
        exact = options.precision == "auto" and (options.probabilities or options.class_sets)
        asked = cast("Precision | Literal['auto']", "fp32" if exact else options.precision)
        expected = count_passes(windows, options.tta)
        fastest, choice = choose_backend(segmenter, images, device=device, precision=asked, expected=expected)
        return fastest, choice.name, choice.precision, str(choice) if choice.tried else ""
    from geodistill.backends.backend import open_backend

    # What is compiled is compiled by torch.
    name = "torch" if backend == "auto" else backend
    precision = cast("Precision", "fp32" if options.precision == "auto" else options.precision)
    opened = open_backend(
        name,
        segmenter,
        device=device,
        precision=precision,
        size=segmenter.tile,
        batch=batch,
        compile=options.compile,
    )
    return opened, name, precision, ""


def first_windows(area: Area, windows: WindowPlan, count: int = 4) -> list[NDArray[Any]]:
    """Read up to ``count`` windows of a scene that have data, spread over it; one of zeros where there is none.

    What cannot be read is passed over here: mapping the scene comes upon it, and says so or makes a hole of it.
    """
    step = max(windows.count // (4 * count), 1)
    # Spread ones first; a scene with data in one corner is looked through more closely.
    spread = islice((at for first in range(step) for at in range(first, windows.count, step)), _TRIES)
    images: list[NDArray[Any]] = []
    for at in spread:
        row, column = divmod(at, len(windows.lefts))
        try:
            image, valid = area.read(Window(windows.tops[row], windows.lefts[column], windows.size, windows.size))
        except DataError:
            continue
        if valid.any():
            images.append(image)
        if len(images) == count:
            break
    return images or [np.zeros((area.raster.channels, windows.size, windows.size), area.raster.dtype)]


@torch.inference_mode()
def fastest_batch(network: Network, windows: Sequence[NDArray[Any]]) -> int:
    """Measure which batch size is fastest; of nearly equal ones the smallest.

    On a GPU it stops at the largest that its memory holds.
    """
    best, least = 1, float("inf")
    for batch in _BATCHES.get(network.device.type, _BATCHES["cuda"]):
        chosen = [windows[i % len(windows)] for i in range(batch)]
        try:
            network.probabilities(chosen)
            seconds = min(_seconds(network, chosen) for _ in range(2)) / batch
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if seconds < 0.97 * least:
            best, least = batch, seconds
    return best


def _seconds(network: Network, windows: Sequence[NDArray[Any]]) -> float:
    start = time.perf_counter()
    probabilities: Tensor = network.probabilities(windows)
    probabilities[0, 0, 0, 0].item()  # Waits for a GPU.
    return time.perf_counter() - start
