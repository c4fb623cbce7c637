"""The sample: what every data set gives and every training step takes, in TorchGeo's convention."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from torch import Tensor


class Sample(TypedDict):
    """One image with its labels; batched, every tensor gains a leading ``B`` and `key` is a list.

    Keys:
        image: ``(C, H, W)`` float32, sensor units; 0 where not valid.
        mask: ``(H, W)`` int64 class indices; `geodistill.spec.IGNORE_INDEX` where ignored or not valid.
        valid: ``(H, W)`` bool.
        key: Names the sample: file and, for a crop, its row and column.
    """

    image: Tensor
    mask: Tensor
    valid: Tensor
    key: str
    lon: NotRequired[float]
    lat: NotRequired[float]


class Batch(TypedDict):
    """Samples stacked: ``image (B, C, H, W)``, ``mask (B, H, W)``, ``valid (B, H, W)``, ``key`` a list."""

    image: Tensor
    mask: Tensor
    valid: Tensor
    key: list[str]
