"""Loss terms on labels for classes of unequal share; arguments and what counts as labelled as in `nn.losses`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill.nn.decoders import resize
from geodistill.nn.losses import class_shares, mean_over_processes, soft_dice
from geodistill.spec import IGNORE_INDEX

CLASS_WEIGHT_CAP = 10.0
"""Largest factor of a class's weight over the most frequent class's."""


def count_class_weights(pixels: Sequence[int], cap: float = CLASS_WEIGHT_CAP) -> tuple[float, ...]:
    """Return a weight for each class from its pixels: the inverse square root of its share, capped.

    A class has at most ``cap`` times the weight of the most frequent one; the mean weight of a pixel is 1, so that the
    learning rate keeps its meaning. The square root is the middle way between all pixels alike and all classes alike
    (as in word2vec's and Mahajan et al.'s 2018 sampling). A class without a pixel has the cap's weight: it costs
    nothing.
    """
    most = max(pixels)
    ratios = [min(math.sqrt(most / count), cap) if count else cap for count in pixels]
    mean = sum(ratio * count for ratio, count in zip(ratios, pixels, strict=True)) / sum(pixels)
    return tuple(ratio / mean for ratio in ratios)


def boundary_cross_entropy(logits: Tensor, mask: Tensor, radius: int = 2) -> Tensor:
    """Return the cross-entropy of the labelled pixels within ``radius`` pixels of another class, their mean.

    Beside ``ce`` it weighs pixels near boundaries more, as U-Net's weight map does (Ronneberger et al. 2015, Eq. 2),
    with a band in place of its Gaussian. Distances are the larger of rows and columns; pixels without a label make no
    boundary.
    """
    logits = resize(logits, mask.shape[-2:]).float()
    band = near_boundary(mask, radius)
    per_pixel = F.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX, reduction="none")
    return (per_pixel * band).sum() / mean_over_processes(band.sum().float())


def near_boundary(mask: Tensor, radius: int) -> Tensor:
    """Return the labelled pixels ``(B, H, W)`` bool with another class within ``radius`` rows and columns."""
    labelled = mask != IGNORE_INDEX
    size, classes = 2 * radius + 1, mask.float()[:, None]
    unlike = float(IGNORE_INDEX + 1)
    highest = F.max_pool2d(torch.where(labelled[:, None], classes, -unlike), size, 1, radius)[:, 0]
    lowest = -F.max_pool2d(torch.where(labelled[:, None], -classes, -unlike), size, 1, radius)[:, 0]
    return labelled & (highest != lowest)


def tversky(logits: Tensor, mask: Tensor, false_positives: float = 0.3, false_negatives: float = 0.7) -> Tensor:
    """Return the Tversky loss on softmax probabilities (Salehi et al. 2017, Eq. 4), in 0..1.

    Of each class ``1 - TP / (TP + a FP + b FN)``, summed over the batch; the mean over the classes that the masks
    hold. ``b`` above ``a`` makes a missed pixel cost more than a wrong one; 0.5 each is Dice. In a distributed step
    each process has the index of its own share of the batch.
    """
    predicted, target = class_shares(logits, mask)
    hit, covered, sizes = (part.sum((0, 2, 3)) for part in (predicted * target, predicted, target))
    index = hit / (hit + false_positives * (covered - hit) + false_negatives * (sizes - hit)).clamp(min=1e-6)
    present = sizes > 0
    return ((1 - index) * present).sum() / present.sum().clamp(min=1)


def log_cosh_dice(logits: Tensor, mask: Tensor) -> Tensor:
    """Return ``log(cosh(dice))`` of the Dice loss (Jadon 2020, Eq. 12), whose slope falls towards 0 as it does."""
    return torch.log(torch.cosh(soft_dice(logits, mask)))


def lovasz(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the Lovász-softmax loss (Berman et al. 2018, Eq. 9 and Alg. 1), in 0..1.

    It is a convex surrogate of 1 - IoU: errors of a class's probability, sorted, each times the growth of the Jaccard
    loss by it. The mean over the classes that the batch holds, whose pixels are taken together; in a distributed step
    those of each process's own share.
    """
    logits = resize(logits, mask.shape[-2:])
    labelled = mask != IGNORE_INDEX
    chances = logits.float().softmax(1).movedim(1, -1)[labelled]
    given = mask[labelled]
    losses = []
    for index in torch.bincount(given).nonzero()[:, 0].tolist():
        is_class = (given == index).float()
        errors, order = (is_class - chances[:, index]).abs().sort(descending=True)
        truth = is_class[order]
        shared = truth.sum() - truth.cumsum(0)
        jaccard = 1 - shared / (truth.sum() + (1 - truth).cumsum(0))
        growth = torch.diff(jaccard, prepend=jaccard.new_zeros(1))
        losses.append(errors @ growth)
    return torch.stack(losses).mean() if losses else logits.float().sum() * 0
