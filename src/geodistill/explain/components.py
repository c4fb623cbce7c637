"""Features as colours: principal components of two encoders on one scale, and how alike each place is to each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

REACH = 2.0
"""Standard deviations from the mean that the colours reach."""

GRID = 32
"""Places of a side that similarities are computed for, at most."""


@dataclass(frozen=True)
class Components:
    """The first three principal components of features over an image.

    Attributes:
        scores: ``(3, h, w)`` float32, each of mean 0 and standard deviation 1 over the image.
        explained: Share of the features' variance in each component.
    """

    scores: NDArray[np.float32]
    explained: tuple[float, ...]


def principal_components(features: Tensor) -> Components:
    """Return the first three principal components of ``(C, h, w)`` features; those that there are not are 0."""
    channels, height, width = features.shape
    flat = features.reshape(channels, -1).T.double()
    flat = flat - flat.mean(0)
    left, values, _ = torch.linalg.svd(flat, full_matrices=False)
    variance = values**2
    total = float(variance.sum())
    scores = torch.zeros(3, height * width, dtype=torch.float64)
    explained = [0.0, 0.0, 0.0]
    for k in range(min(3, len(values))):
        if float(variance[k]) > 1e-12 * max(total, 1e-30):
            scores[k] = left[:, k] * (height * width) ** 0.5
            explained[k] = float(variance[k]) / total
    return Components(scores.reshape(3, height, width).float().numpy(), tuple(explained))


def turned_to(components: Components, other: Components) -> Components:
    """Turn components so that their colours are nearest to others' (orthogonal Procrustes, Schönemann 1966).

    The axes of a principal component analysis have no sign and, where variances are near each other, no order: two
    encoders that see the same would else have other colours. A turn changes no distance between places.
    """
    height, width = components.scores.shape[1:]
    target = F.interpolate(torch.from_numpy(other.scores)[None], size=(height, width), mode="bilinear")[0]
    mine = components.scores.reshape(3, -1).astype(np.float64)
    left, _, right = np.linalg.svd(target.numpy().reshape(3, -1).astype(np.float64) @ mine.T)
    turned = ((left @ right) @ mine).reshape(3, height, width).astype(np.float32)
    return Components(turned, components.explained)


def as_colours(components: Components, height: int, width: int) -> NDArray[np.uint8]:
    """Return components as ``(height, width, 3)`` uint8: red, green and blue from -`REACH` to `REACH` deviations."""
    whole = F.interpolate(torch.from_numpy(components.scores)[None], size=(height, width), mode="bilinear")[0]
    picture: NDArray[np.uint8] = ((whole + REACH) / (2 * REACH) * 255).clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(picture)


def similarities(features: Tensor) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return how alike every place of an image is to every other, in the cosine of their features.

    Args:
        features: ``(C, h, w)``; brought to at most `GRID` places a side by averaging.

    Returns:
        ``(N, N)`` uint8, 0 for a cosine of 0 or below and 255 for 1; and rows and columns of the ``N`` places.
    """
    height, width = features.shape[1:]
    grid = (min(height, GRID), min(width, GRID))
    small = F.adaptive_avg_pool2d(features[None].float(), grid)[0].reshape(features.shape[0], -1)
    directions = F.normalize(small - small.mean(1, keepdim=True), dim=0)
    cosine = (directions.T @ directions).clamp(0, 1)
    return (cosine * 255).round().byte().numpy(), grid
