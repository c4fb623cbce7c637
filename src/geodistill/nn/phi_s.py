"""PHI-S: a teacher's features on one scale for all channels, with their distances as they were."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor, nn

MEASURED_BATCHES = 10
"""Batches, the first ones, that the standardisation is measured on; then it stands still."""


class PhiS(nn.Module):
    """Rotates features so that every channel has the same standard deviation, and divides by that one number.

    PHI-S (Ranzinger et al. 2024, arXiv 2410.01680)::

        y = R (x - mean) / phi        R^T R = 1,   diag(R cov R^T) = phi^2 for every channel,   phi^2 = trace(cov) / C

    Standardising each channel by itself would blow up channels that hardly move; here all errors are made smaller by
    the same factor, and `restore` takes it back. The paper's rotation is PCA and then a Hadamard matrix, which exists
    for some numbers of channels only; `equalising_rotation` has the same property for any.

    Args:
        channels: Of the maps.
    """

    count: Tensor
    batches: Tensor
    mean: Tensor
    products: Tensor
    rotation: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("count", "batches"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("products", torch.zeros(channels, channels))
        self.register_buffer("rotation", torch.eye(channels))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def update(self, maps: Tensor) -> None:
        """Take one ``(B, C, H, W)`` batch in, where it is among the first."""
        if int(self.batches) >= MEASURED_BATCHES:
            return
        # Sums about the mean so far, so that float32 keeps its digits where mean and deviation differ in size.
        offset = maps.float().transpose(0, 1).flatten(1) - self.mean[:, None]
        sums, products = offset.sum(1), offset @ offset.T
        count = torch.tensor(float(offset.shape[1]), device=offset.device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for tensor in (sums, products, count):
                torch.distributed.all_reduce(tensor)
        self.count += count
        self.batches += 1
        shift = sums / self.count
        self.products += products - self.count * torch.outer(shift, shift)
        self.mean += shift
        covariance = (self.products / self.count).cpu().double().numpy()
        self.rotation.copy_(torch.from_numpy(equalising_rotation(covariance)))
        self.scale.fill_(max(math.sqrt(max(np.trace(covariance), 0.0) / len(covariance)), 1e-6))

    def standardise(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> the same with mean 0 and standard deviation 1 a channel, every distance by one factor."""
        return torch.einsum("dc,bchw->bdhw", self.rotation, maps.float() - self.mean[:, None, None]) / self.scale

    def restore(self, maps: Tensor) -> Tensor:
        """Return what `standardise` took."""
        return torch.einsum("dc,bdhw->bchw", self.rotation, maps.float() * self.scale) + self.mean[:, None, None]


def equalising_rotation(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an orthogonal ``R`` such that all of the diagonal of ``R covariance R^T`` is its mean.

    Each turn in the plane of the channels of least and most variance gives the first the mean, so that one turn fewer
    than there are channels is enough (Bendel and Mickey 1978; Davies and Higham 2000, Alg. 3.1).

    Args:
        covariance: ``(C, C)``, symmetric.
    """
    matrix, rotation = covariance.copy(), np.eye(len(covariance))
    mean = np.trace(matrix) / len(matrix)
    for _ in range(len(matrix) - 1):
        variances = np.diag(matrix)
        low, high = int(variances.argmin()), int(variances.argmax())
        under, over, shared = variances[low] - mean, variances[high] - mean, matrix[low, high]
        if over <= 1e-9 * mean or under >= 0:
            break
        # (cos, -sin) M (cos, -sin)^T = mean, with t = sin / cos:  over t^2 - 2 shared t + under = 0.
        tangent = (shared + math.copysign(math.sqrt(shared**2 - under * over), shared)) / over
        cos = 1 / math.hypot(1, tangent)
        turn = cos * np.array([[1, -tangent], [tangent, 1]])
        pair = [low, high]
        matrix[pair] = turn @ matrix[pair]
        matrix[:, pair] = matrix[:, pair] @ turn.T
        rotation[pair] = turn @ rotation[pair]
    return rotation
