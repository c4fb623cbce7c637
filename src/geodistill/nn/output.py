"""What every segmentation network returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class SegmentationOutput:
    """The result of a network's forward pass.

    Attributes:
        logits: ``(B, K, H, W)`` float, at the size of the input image.
        aux: Auxiliary logits by name, ``(B, K, H', W')`` float at their own size; training only.
        features: Lists of feature maps by name, each ``(B, Ci, Hi, Wi)``, for losses on features; training only.
    """

    logits: Tensor
    aux: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, list[Tensor]] = field(default_factory=dict)
