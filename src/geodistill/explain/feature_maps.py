"""Where models look: the size of features over an image, and what speaks for a class (Grad-CAM)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from geodistill.errors import RecipeError
from geodistill.nn.encoders import Encoder
from geodistill.segmenter import Segmenter

SHARE = 0.5
"""Share of the heat in a pixel that shows it over the image."""


def feature_heat(model: Segmenter | Encoder, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the L2 norm of an encoder's last map over an image, from its smallest to its largest as 0 to 1.

    Args:
        model: A trained model, or a teacher's encoder, which sees the first three bands in its own statistics.
        image: ``(C, H, W)``, sensor units.

    Returns:
        ``(H, W)`` float32.

    Raises:
        RecipeError: The model has no encoder.
    """
    pixels = torch.from_numpy(image)[None]
    with torch.no_grad():
        features = encoder_map(model, pixels) if isinstance(model, Encoder) else last_map(model, pixels)[0]
    return _scaled(features.norm(dim=1, keepdim=True), image.shape[1:])


def class_activation(model: Segmenter, image: NDArray[np.float32], index: int) -> NDArray[np.float32]:
    """Return where an encoder's last map speaks for a class, 0 to 1: Grad-CAM of the sum of its logits.

    Args:
        model: A trained model.
        image: ``(C, H, W)``, sensor units.
        index: Position of the class.

    Returns:
        ``(H, W)`` float32.

    Raises:
        RecipeError: The model has no encoder.
    """
    with torch.enable_grad():
        features, logits = last_map(model, torch.from_numpy(image)[None])
        (gradient,) = torch.autograd.grad(logits[:, index].sum(), features)
    heat = F.relu((gradient.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True))
    return _scaled(heat, image.shape[1:])


def overlay(picture: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay ``(H, W)`` heat from 0 (blue) to 1 (red) over an ``(H, W, 3)`` picture."""
    coloured = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return np.asarray((1 - SHARE) * picture + SHARE * coloured, np.uint8)


def encoder_map(encoder: Encoder, pixels: Tensor) -> Tensor:
    """Return the last map ``(B, C, h, w)`` of images in sensor units, whose first bands are put in its statistics."""
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in encoder.pretrained_statistics)
    last: Tensor = encoder((pixels[:, : len(mean)] - mean) / std)[-1]
    return last


def last_map(model: Segmenter, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last map of a model's encoder ``(1, C, h, w)`` and its logits ``(1, K, H, W)``.

    Where gradients are on, those of the logits go back to the map and no further.

    Raises:
        RecipeError: The model has no encoder.
    """
    encoder = getattr(model.network.network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise RecipeError(f"features of {model.name}", "a network with an encoder")
    kept: list[Tensor] = []
    graded = torch.is_grad_enabled()

    def keep(module: nn.Module, given: Any, maps: list[Tensor]) -> list[Tensor]:
        # Gradients begin at the map, so that a frozen encoder has them too.
        kept.append(maps[-1].detach().requires_grad_() if graded else maps[-1])
        return [*maps[:-1], kept[-1]]

    handle = encoder.register_forward_hook(keep)
    try:
        logits = model(pixels)
    finally:
        handle.remove()
    return kept[-1], logits


def _scaled(heat: Tensor, size: tuple[int, ...]) -> NDArray[np.float32]:
    whole = F.interpolate(heat.detach().float(), size=list(size), mode="bilinear", align_corners=False)[0, 0]
    low, high = whole.min(), whole.max()
    return np.asarray(((whole - low) / (high - low).clamp(min=1e-12)).numpy(), np.float32)
