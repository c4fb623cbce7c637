"""A map-style dataset as TorchGeo's are: dicts of tensors, made when they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class Towns:
    """Bright squares on dark ground; items as TorchGeo gives them."""

    def __init__(self, count: int, seed: int = 0, sizes: tuple[int, ...] = (40,), channels: int = 3) -> None:
        self.count, self.seed, self.sizes, self.channels = count, seed, sizes, channels

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, index))
        side = self.sizes[index % len(self.sizes)]
        mask = np.zeros((side, side), np.int64)
        row, col = rng.integers(2, side // 2, 2)
        mask[row : row + side // 3, col : col + side // 3] = 1
        pixels = rng.normal(60, 5, (self.channels, side, side)) + 100 * mask
        mask[:2] = 255
        return {"image": torch.tensor(pixels, dtype=torch.float32), "mask": torch.tensor(mask), "bounds": (0, 1)}
