"""From a model to a network that is ready for scenes: device, backend, precision, batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.errors import DataError, RecipeError
from geodistill.inference.network import MIRRORS, Network, as_images, as_network
from geodistill.inference.options import Options
from geodistill.inference.windows import Area, Plan
from geodistill.raster import Window
from geodistill.segmenter import Segmenter

if TYPE_CHECKING:
    from geodistill.backends.run import Precision

_TRIES = 200
"""Windows that are looked at for some with data."""

_BATCHES = {"cpu": (1, 2, 4, 8), "cuda": (4, 8, 16, 32, 64, 128)}


@dataclass(frozen=True)
class Prepared:
    """A network ready for scenes.

    Attributes:
        network: The network.
        options: The options with backend and batch size as they were chosen.
        told: What was chosen and why, a line for the user; empty where nothing was to choose.
    """

    network: Network
    options: Options
    told: str = ""


def prepare(segmenter: Segmenter, options: Options, area: Area, prompts: NDArray[np.int64] | None = None) -> Prepared:
    """Get a Segmenter, on its device, ready.

    Args:
        segmenter: The model.
        options: What is asked for.
        area: The first scene: backends and batch sizes are tried on its windows.
        prompts: As `Network` takes them; torch alone runs such a network.

    Raises:
        RecipeError: A backend that was asked for is not installed, or runs no scene that spans climate zones.
    """
    if prompts is not None:
        if options.backend not in ("auto", "torch"):
            raise RecipeError(f"--backend {options.backend} for a scene that spans climate zones", "torch or auto")
        options = replace(options, backend="torch")
    device = next(segmenter.parameters()).device
    told, name, precision = [], options.backend, options.precision
    batch = options.batch if isinstance(options.batch, int) else default_batch(device)

    def measured(network: Network) -> int:
        found = fastest_batch(network, first_windows(area, network.size, options.settings.overlap))
        told.append(f"batch size {found}")
        return found

    tta, forward = options.settings.tta, None
    if options.batch == "auto" and options.compile:
        # Compiled, each size that is tried would take minutes.
        batch = measured(as_network(segmenter, tta=tta))
    plain = name == "torch" and precision in ("auto", "fp32") and not options.compile
    if not plain:
        forward, name, precision, line = _open(segmenter, options, area, device, batch)
        told.append(line)
    network = as_network(segmenter, tta=tta, forward=forward, prompts=prompts)
    if options.batch == "auto" and not options.compile:
        batch = measured(network)
    settings = replace(options.settings, batch=batch)
    chosen = replace(options, settings=settings, batch=batch, backend=name, precision=precision)
    return Prepared(network, chosen, "; ".join(filter(None, told)))


def default_batch(device: torch.device) -> int:
    """Windows a forward pass that suit a device.

    A processor gains nothing beyond a window a core, and larger arrays cost it more memory from the system.
    """
    return min(torch.get_num_threads(), 4) if device.type == "cpu" else 16


def _open(
    segmenter: Segmenter, options: Options, area: Area, device: torch.device, batch: int
) -> tuple[Callable[[Tensor], Tensor], str, str, str]:
    """Give what runs the network, the names of backend and precision, and why."""
    from geodistill.backends.choose import choose_backend
    from geodistill.backends.run import open_backend

    size = segmenter.tile
    if options.backend == "auto" and not options.compile:
        expected = expected_windows(options, size, area)
        windows = first_windows(area, size, options.settings.overlap, batch)
        images = as_images([windows[i % len(windows)] for i in range(batch)], device)
        exact = options.precision == "auto" and options.settings.wanted.probabilities
        asked = cast("Precision | Literal['auto']", "fp32" if exact else options.precision)
        backend, choice = choose_backend(segmenter, images, device=device, precision=asked, expected=expected)
        return backend, choice.name, choice.precision, str(choice) if choice.tried else ""
    # What is compiled is compiled by torch.
    name = "torch" if options.backend == "auto" else options.backend
    precision = cast("Precision", "fp32" if options.precision == "auto" else options.precision)
    backend = open_backend(
        name, segmenter, device=device, precision=precision, size=size, batch=batch, compile=options.compile
    )
    return backend, name, precision, ""


def expected_windows(options: Options, size: int, area: Area) -> int:
    """How often the network is to see a window of a scene."""
    plan = Plan.of(area.window.height, area.window.width, size, options.settings.overlap)
    return len(plan.tops) * len(plan.lefts) * len(MIRRORS[options.settings.tta])


def first_windows(area: Area, size: int, overlap: float, count: int = 4) -> list[NDArray[Any]]:
    """Read up to ``count`` windows of a scene that have data, spread over it; one of zeros where none is found.

    What cannot be read is passed over here: whoever maps the scene comes upon it, and says so or makes a hole of it.
    """
    plan = Plan.of(area.window.height, area.window.width, size, overlap)
    total = len(plan.tops) * len(plan.lefts)
    step = max(total // (4 * count), 1)
    # Spread ones first; a scene with data in one corner is looked through more closely.
    spread = islice((at for first in range(step) for at in range(first, total, step)), _TRIES)
    found: list[NDArray[Any]] = []
    for at in spread:
        top, left = plan.tops[at // len(plan.lefts)], plan.lefts[at % len(plan.lefts)]
        try:
            image, valid = area.read(Window(top, left, size, size))
        except DataError:
            continue
        if valid.any():
            found.append(image)
        if len(found) == count:
            break
    return found or [np.zeros((area.raster.channels, size, size), area.raster.dtype)]


@torch.inference_mode()
def fastest_batch(network: Network, windows: Sequence[NDArray[Any]]) -> int:
    """Measure which number of windows a forward pass is fastest; of nearly equal ones the smallest.

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
    found: Tensor = network.probabilities(windows)
    found[0, 0, 0, 0].item()  # Waits for a GPU.
    return time.perf_counter() - start
