"""The network as a scene sees it: windows of pixels in, probabilities out, on whatever runs it fastest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.errors import RecipeError
from geodistill.segmenter import Segmenter

TTA = ("none", "flips", "d4")

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
        device: Where windows are wanted and probabilities come.
        tta: What it averages over, among `TTA`.
        prompts: ``(rows, columns)`` of windows: position of each one's prompt, for a scene that spans climate zones
            under a network that asks for them; ``forward`` then takes a batch's prompts too.
    """

    forward: Callable[..., Tensor]
    bands: tuple[str, ...]
    classes: int
    size: int
    device: torch.device
    tta: str = "none"
    prompts: NDArray[np.int64] | None = field(default=None, compare=False)

    @torch.inference_mode()
    def probabilities(self, windows: Sequence[NDArray[Any]], places: Sequence[tuple[int, int]] = ()) -> Tensor:
        """Segment windows.

        Args:
            windows: ``(C, size, size)`` each, sensor units, any sample type.
            places: Row and column of each among the scene's windows; the first prompt for all where not given.

        Returns:
            ``(B, K, size, size)`` float32, summing to 1 over the classes.
        """
        images = as_images(windows, self.device)
        context = self._context(len(windows), places)
        total: Tensor | None = None
        for turns, mirrored in MIRRORS[self.tta]:
            seen = images.flip(3) if mirrored else images
            seen = torch.rot90(seen, turns, (2, 3)) if turns else seen
            # Class by class in memory: networks answer pixel by pixel, which makes the sums ten times as slow.
            found = self.forward(seen, *context).float().contiguous()
            # In place: to ask the system for fresh memory costs more than the sums.
            torch.softmax(found, 1, out=found)
            found = torch.rot90(found, -turns, (2, 3)) if turns else found
            found = found.flip(3) if mirrored else found
            total = found if total is None else total.add_(found)
        assert total is not None
        return total if self.tta == "none" else total.div_(len(MIRRORS[self.tta]))

    def _context(self, count: int, places: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
        if self.prompts is None:
            return ()
        rows = [int(self.prompts[place]) for place in places or [(0, 0)] * count]
        return (torch.tensor(rows, device=self.device),)


def as_images(windows: Sequence[NDArray[Any]], device: torch.device) -> Tensor:
    """Put windows together as ``(B, C, H, W)`` float32; they travel to a GPU in their own, smaller sample type."""
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
) -> Network:
    """Give a Segmenter, on its device, as a Network; ``forward`` runs it by other means than torch eager."""
    device = next(segmenter.parameters()).device
    spec = segmenter.spec

    def eager(images: Tensor, prompt: Tensor | None = None) -> Tensor:
        logits: Tensor = segmenter(images.contiguous(memory_format=torch.channels_last), prompt)
        return logits

    return Network(forward or eager, spec.bands, spec.classes, segmenter.tile, device, tta, prompts)


def device_name(asked: str) -> str:
    """Give the device that ``auto`` stands for on this machine: its GPU, if it has one."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def load_on(model: Segmenter | Path | str, device: str) -> Segmenter:
    """Load a Segmenter onto a device, ready for inference.

    Raises:
        RecipeError: The device does not exist here.
    """
    name = device_name(device)
    segmenter = model if isinstance(model, Segmenter) else Segmenter.load(model)
    try:
        segmenter = segmenter.to(torch.device(name))
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise RecipeError(f"device {device!r} ({first})", "auto, cpu, or an accelerator of this machine") from error
    return segmenter.eval().to(memory_format=torch.channels_last)
