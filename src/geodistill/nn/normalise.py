"""The one place where sensor units become what a network sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Normalised(nn.Module):
    """A network that takes images in sensor units.

    Args:
        mean: Mean of each band, sensor units.
        std: Standard deviation of each band, sensor units, above 0.
        network: Takes the normalised image.
    """

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
        """``(B, C, H, W)`` float32 sensor units -> mean 0 and deviation 1 a band."""
        return (image - self.mean) / self.std
