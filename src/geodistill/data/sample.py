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
        source: `Row.key` of the manifest's row that it was cut from.
        slot: Number of the view, where each sample has a few that come back; see `geodistill.data.sampling`.
        plain: ``(C, H, W)`` float32, the image before its colours were changed; beside a slot, or where asked for.
        set: Position of its data set, where a network learns several at once.
    """

    image: Tensor
    mask: Tensor
    valid: Tensor
    key: str
    source: str
    slot: NotRequired[int]
    plain: NotRequired[Tensor]
    set: NotRequired[int]


class Batch(TypedDict):
    """Samples stacked: ``image (B, C, H, W)``, ``mask`` and ``valid (B, H, W)``, ``key`` and ``source`` lists ...

    ``slot (B,)`` and ``set (B,)`` int64 and ``plain`` like the image are there where the samples have them. Under
    self-training there are also ``soft (B, K, H, W)``, a teacher's probabilities, ``confident (B, H, W)`` bool, where
    they are learnt, and ``pseudo_pixels``, the number of pixels without labels.
    """

    image: Tensor
    mask: Tensor
    valid: Tensor
    key: list[str]
    source: list[str]
    slot: NotRequired[Tensor]
    plain: NotRequired[Tensor]
    set: NotRequired[Tensor]
    soft: NotRequired[Tensor]
    confident: NotRequired[Tensor]
    pseudo_pixels: NotRequired[Tensor]
