"""What every segmentation network shares: sensor units become what it sees, what it returns, averages over sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class SegmentationOutput:
    """The result of a network's forward pass.

    Attributes:
        logits: ``(B, K, H, W)`` float, at the size of the input image.
        aux: Auxiliary logits by name, ``(B, K, H', W')`` float at their own size; training only.
        features: Lists of feature maps by name, each ``(B, Ci, Hi, Wi)``, for losses on features; training only.
        distance: ``(B, 1, H, W)`` float, before the sigmoid: how far inside its object a pixel lies; of a network with
            a distance head.
    """

    logits: Tensor
    aux: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, list[Tensor]] = field(default_factory=dict)
    distance: Tensor | None = None


class Normalised(nn.Module):
    """A network that takes images in sensor units; so are ``mean`` and ``std``, above 0, of each band."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], network: nn.Module) -> None:
        super().__init__()
        # Not persistent: the Spec holds these figures, and each fact is kept once.
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.network = network

    def forward(self, image: Tensor, **context: Any) -> Any:
        """``(B, C, H, W)`` float32 sensor units -> the network's output; ``context`` is passed through."""
        return self.network(self.normalise(image), **context)

    def normalise(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` float32 sensor units -> mean 0 and standard deviation 1 a band."""
        return (image - self.mean) / self.std


def ceil_div(side: int, part: int) -> int:
    """Return into how many parts a side is divided, the last one cut or not.

    ONNX divides towards zero, so nothing negative is divided; and a free side's rounded fraction is not simplified.
    """
    return (side + part - 1) // part


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad ``(B, C, H, W)`` with zeros, at the bottom and right, to the next multiples of a number."""
    # Rounded up by a product: with a free height exporters simplify m * floor((H + m - 1) / m) when a layer halves it.
    # By a remainder, H + (-H mod m), the formula grows from layer to layer, and one export took an hour.
    height, width = (ceil_div(side, multiple) * multiple for side in image.shape[-2:])
    return F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]))


def logits_over_scales(network: Callable[[Tensor], Tensor], image: Tensor, scales: Sequence[float]) -> Tensor:
    """Return the logarithm of the mean over scales of the class probabilities, at the image's own size.

    Args:
        network: Returns logits ``(B, K, h, w)`` of an image ``(B, C, h, w)``.
        image: ``(B, C, H, W)`` in any unit.
        scales: Factors of height and width; the one scale of 1 returns the network's own logits.
    """
    if tuple(scales) == (1.0,):
        return network(image)
    total: Tensor | None = None
    for scale in scales:
        # By factor, not by size: exported graphs take images of any size.
        zoomed = image if scale == 1 else F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False)
        probabilities = F.interpolate(network(zoomed).float(), image.shape[-2:], mode="bilinear", align_corners=False)
        probabilities = probabilities.softmax(1)
        total = probabilities if total is None else total + probabilities
    assert total is not None
    return (total / len(scales)).clamp(min=1e-8).log()
