"""The network as a scene sees it, windows of pixels in and probabilities out; and the plan of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.description import is_graph
from geodistill.errors import RecipeError
from geodistill.inference.layers import LAYERS, Layer
from geodistill.inference.options import PredictOptions, SlidingOptions
from geodistill.inference.windows import Part, WindowPlan
from geodistill.memory import SMALL, machine_memory
from geodistill.nn.device import to_device
from geodistill.raster import Raster
from geodistill.raster.web_map import DRIVERS
from geodistill.segmenter import Segmenter

SPAN = 8
"""Batches are filled within groups of this many times the batch size of window columns. Blocks of a wide scene end
with a group, so that cutting a scene in blocks changes no batch and thereby no bit."""

MIRRORS: dict[str, tuple[tuple[int, bool], ...]] = {
    "none": ((0, False),),
    "flips": ((0, False), (0, True), (2, False), (2, True)),
    "d4": tuple((turns, mirrored) for turns in range(4) for mirrored in (False, True)),
}
"""Quarter turns, and whether the image is mirrored left to right before."""


@dataclass(frozen=True)
class Network:
    """A model ready to segment windows.

    Attributes:
        forward: ``(B, C, H, W)`` float32 in sensor units on the device -> ``(B, K, H, W)`` logits, which are then
            overwritten.
        bands: Names of its bands.
        classes: Number of classes.
        size: Side of its windows in pixels.
        device: Where windows go and probabilities come from.
        tta: What it averages over, among `AVERAGES`.
        prompts: ``(rows, columns)`` of windows: position of each one's prompt, for a scene that spans climate zones
            under a network that asks for them; ``forward`` then takes a batch's prompts too.
        distance: Whether ``forward`` gives one channel more, the distance head's before the sigmoid; probabilities then
            have it behind the classes, 0..1.
        class_sets: What a class's probability is at least that is in a pixel's set, see `Segmenter.class_sets`.
    """

    forward: Callable[..., Tensor]
    bands: tuple[str, ...]
    classes: int
    size: int
    device: torch.device
    tta: str = "none"
    prompts: NDArray[np.int64] | None = field(default=None, compare=False)
    class_sets: Mapping[str, float] = field(default_factory=dict, compare=False)
    distance: bool = False

    @property
    def planes(self) -> int:
        """Channels of `probabilities`."""
        return self.classes + self.distance

    @torch.inference_mode()
    def probabilities(self, windows: Sequence[NDArray[Any]], places: Sequence[tuple[int, int]] = ()) -> Tensor:
        """Segment windows ``(C, size, size)`` in sensor units, of any sample type.

        ``places`` are row and column of each among the scene's windows; without them all have the first prompt.

        Returns:
            ``(B, K, size, size)`` float32, summing to 1 over the classes.
        """
        images = as_images(windows, self.device)
        context = self._context(len(windows), places)
        total: Tensor | None = None
        for turns, mirrored in MIRRORS[self.tta]:
            turned = images.flip(3) if mirrored else images
            turned = torch.rot90(turned, turns, (2, 3)) if turns else turned
            # Class by class in memory: networks answer pixel by pixel, which makes the sums ten times as slow.
            probabilities = self.forward(turned, *context).float().contiguous()
            # In place: to ask the system for fresh memory costs more than the sums.
            if self.distance:
                probabilities[:, : self.classes] = probabilities[:, : self.classes].softmax(1)
                probabilities[:, self.classes :].sigmoid_()
            else:
                torch.softmax(probabilities, 1, out=probabilities)
            probabilities = torch.rot90(probabilities, -turns, (2, 3)) if turns else probabilities
            probabilities = probabilities.flip(3) if mirrored else probabilities
            total = probabilities if total is None else total.add_(probabilities)
        assert total is not None
        return total if self.tta == "none" else total.div_(len(MIRRORS[self.tta]))

    def _context(self, count: int, places: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
        if self.prompts is None:
            return ()
        rows = [int(self.prompts[place]) for place in places or [(0, 0)] * count]
        return (torch.tensor(rows, device=self.device),)


def as_images(windows: Sequence[NDArray[Any]], device: torch.device) -> Tensor:
    """Join windows as ``(B, C, H, W)`` float32; they travel to a GPU in their own, smaller sample type."""
    first = windows[0]
    kind = first.dtype if first.dtype in (np.uint8, np.int16, np.uint16, np.float32) else np.dtype(np.float32)
    if device.type == "cpu":
        images = torch.empty(len(windows), *first.shape)
        for image, window in zip(images, windows, strict=True):
            image.copy_(torch.from_numpy(window.astype(kind, copy=False)))
        return images
    return torch.from_numpy(np.stack(windows).astype(kind, copy=False)).to(device).float()


def as_network(
    segmenter: Segmenter,
    *,
    tta: str = "none",
    forward: Callable[[Tensor], Tensor] | None = None,
    prompts: NDArray[np.int64] | None = None,
    distance: bool = False,
) -> Network:
    """Return a Segmenter, on its device, as a Network; ``forward`` runs it by other means than torch eager.

    ``distance`` has its distance head answer too.
    """
    device = next(segmenter.parameters()).device
    spec = segmenter.spec

    def eager(images: Tensor, prompt: Tensor | None = None) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        if distance:
            return logits_and_distance(segmenter, images)
        logits: Tensor = segmenter(images, prompt)
        return logits

    sets = segmenter.class_sets
    return Network(forward or eager, spec.bands, spec.classes, segmenter.tile, device, tta, prompts, sets, distance)


def logits_and_distance(segmenter: Segmenter, images: Tensor) -> Tensor:
    """Return ``(B, K + 1, H, W)``: logits, and behind them what the distance head says of images as they are."""
    output = segmenter.network(images)
    logits = segmenter(images) if segmenter.scales != (1.0,) else segmenter.settings.calibrated(output.logits)
    return torch.cat([logits, output.distance], 1)


def open_graph(model: Segmenter | Path | str) -> Segmenter | Path | str:
    """Open a model that is an ONNX file; return others as they are."""
    if not is_graph(model):
        return model
    from geodistill.backends.graph_model import GraphSegmenter

    return GraphSegmenter(str(model))


def load_on(model: Segmenter | Path | str, device: str, scales: Sequence[float] | None = None) -> Segmenter:
    """Load a Segmenter, or open an ONNX file, on a device, ready for inference, with its own ``scales`` or others.

    Raises:
        ArtifactError: There is no such model, or it takes no scales.
        RecipeError: The device does not exist here, or has no room for it.
    """
    model = open_graph(model)
    segmenter = model if isinstance(model, Segmenter) else Segmenter.load(model)
    segmenter = segmenter if scales is None else segmenter.with_scales(scales)
    return to_device(segmenter, device).eval().to(memory_format=torch.channels_last)


def count_passes(windows: WindowPlan, tta: str) -> int:
    """Return how often the network is to segment a window of a scene."""
    return windows.count * len(MIRRORS[tta])


def fixed_batch(options: PredictOptions, device: torch.device) -> int:
    """Return the batch size that is asked for, or else that suits a device.

    A processor gains nothing beyond a window per core, and larger arrays cost it more memory from the system.
    """
    if isinstance(options.batch, int):
        return options.batch
    return min(torch.get_num_threads(), 4) if device.type == "cpu" else 16


@dataclass(frozen=True)
class RunPlan:
    """How a scene is mapped, with everything settled that the options leave open.

    Attributes:
        options: What was asked for.
        network: The network, ready to run.
        windows: The windows over the scene.
        batch: Windows per forward pass.
        backend: What runs the network.
        precision: Of its arithmetic.
        notes: What was chosen and why, for the user; empty where nothing was to choose.
    """

    options: PredictOptions
    network: Network
    windows: WindowPlan
    batch: int
    backend: str
    precision: str
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What is stored of a scene, in the order of `LAYERS`."""
        layers = []
        for name in self.options.layers:
            kind, floats = LAYERS[name], name == "probabilities" and self.options.probabilities != "uint8"
            bands = len(kind.bands) + kind.per_class * self.network.classes
            if name != "distance" or self.network.distance:
                layers.append(Layer(name, bands, "float32" if floats else "uint8"))
        return tuple(layers)

    def settled(self, resume: bool) -> PredictOptions:
        """Return the options with nothing left open, so that another process chooses the same."""
        return replace(self.options, batch=self.batch, backend=self.backend, precision=self.precision, resume=resume)

    def column_blocks(self, raster: Raster, rows: range | None = None) -> list[Part]:
        """Cut rows of windows (by default all) in column blocks that keep within ``max_memory``, where there is need.

        Raises:
            RecipeError: Not even the narrowest block fits, or without ``max_memory`` a strip is larger than all memory.
        """
        rows = rows or range(len(self.windows.tops))
        columns, limit = len(self.windows.lefts), self.options.max_memory
        fixed, per_column = self.strip_bytes(raster)
        if limit is None:
            needed = fixed + columns * per_column
            if needed > SMALL and needed > (memory := machine_memory()):
                raise RecipeError(
                    f"{raster.source}, {raster.grid.width} pixels wide, takes about {needed / 2**30:.1f} GiB at once",
                    f"at most the {memory / 2**30:.1f} GiB of this machine",
                    "bound it with --max-memory",
                )
            return [Part(rows.start, rows.stop, 0, columns)]
        span = SPAN * self.batch
        fitting = int((limit - fixed) / per_column)
        if fitting < min(span, columns):
            needed = fixed + min(span, columns) * per_column
            raise RecipeError(
                f"--max-memory of {limit / 2**20:.1f} MiB",
                f"at least {needed / 2**20:.1f} MiB for this scene and batch size",
                "use a smaller --batch",
            )
        width = columns if fitting >= columns else fitting // span * span
        cuts = [*range(0, columns, width), columns]
        return [Part(rows.start, rows.stop, a, b) for a, b in pairwise(cuts)]

    def strip_bytes(self, raster: Raster) -> tuple[int, int]:
        """Estimate the memory of a block: what does not depend on its width, and what each column of windows adds."""
        windows, size = self.windows, self.windows.size
        channels, itemsize = raster.channels, raster.dtype.itemsize
        step = size if len(windows.lefts) == 1 else -(-(windows.lefts[-1]) // (len(windows.lefts) - 1))
        down = size if len(windows.tops) == 1 else -(-(windows.tops[-1]) // (len(windows.tops) - 1))
        window = self.network.planes * size * size * 4
        images = self.batch * channels * size * size * 4
        cached = cache_bytes(raster, 0), cache_bytes(raster, step)
        fixed = 2 * images + (3 * self.batch + 3) * window + cached[0]
        # The strip, the rows that move up in it, and those being read, with their validity.
        block = raster.block[0] if raster.block[0] <= size else 0
        readers = reader_threads(self.options, raster)
        pixel = (channels * itemsize + 1) * (size + (size - down) + (2 + readers) * down + (1 + readers) * block)
        waiting = self.network.planes * 4 * (size - down)
        layer = sum(each.bands * np.dtype(each.dtype).itemsize for each in self.layers)
        # On the device, on the host, and on its way to the disk.
        layers = layer * (size + 2 * down)
        return fixed, (pixel + waiting + layers) * step + cached[1] - cached[0]


def cache_bytes(raster: Raster, columns: int) -> int:
    """Return the bytes of decoded blocks that GDAL may keep while a block of columns is read.

    About two rows of blocks of the raster, so that a strip's border is not decoded twice; of tiles those under the
    columns, of whole rows all.
    """
    block, width = raster.block[1], raster.grid.width
    share = min((columns + 2 * block) / width, 1.0) if raster.tiled else 1.0
    return 2**22 + int(2 * share * raster.block_row_bytes)


def reader_threads(options: SlidingOptions, raster: Raster) -> int:
    """Return how many threads read a raster."""
    if raster.remote and raster.driver in DRIVERS:  # each thread would ask for the same tiles again
        return 1
    return options.readers or (4 if raster.remote else 1)
