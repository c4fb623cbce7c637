"""Losses between a student's logits and a frozen teacher's; each a scalar, float32 inside.

All take ``student``, ``(B, K, H, W)`` float logits, ``teacher``, the target, of the same shape, and ``mask``,
``(B, H, W)`` int64: pixels of `IGNORE_INDEX` are left out, and where none is left a term is exactly 0, with a graph.
The temperature divides the logits, and its square multiplies the result. No term grows with the size of the image.
All raise RecipeError where shapes differ.
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill.errors import GeodistillWarning, RecipeError
from geodistill.nn.losses import kl, labelled_pixels
from geodistill.spec import IGNORE_INDEX

EPS = 1e-8
"""Added to the denominators of correlations, as in DIST's code."""


def logit_kd(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 4.0) -> Tensor:
    """Return the divergence of a pixel's class distributions (Hinton et al. 2015), the mean over pixels.

    Returns:
        KL(teacher || student) in nats per pixel, times the temperature's square; at least 0.
    """
    check_alike(student, teacher, mask)
    log_student = F.log_softmax(student.float() / temperature, 1)
    log_teacher = F.log_softmax(teacher.float() / temperature, 1)
    divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(1)
    return (divergence * _counted(mask)).sum() / labelled_pixels(mask) * temperature**2


def channel_wise_kd(student: Tensor, teacher: Tensor, temperature: float = 4.0, mask: Tensor | None = None) -> Tensor:
    """Return how far student and teacher differ in where each channel is active (Shu et al. 2021, Eq. 3-5).

    Feature maps will do as well as logits, and no ``mask`` is needed.

    Returns:
        KL(teacher || student) of a softmax over positions, the mean over images and channels, times the temperature's
        square; at least 0.
    """
    check_alike(student, teacher, mask)
    student, teacher = student.float(), teacher.float()
    if mask is not None:
        # Far below any logit, yet finite: a pixel left out weighs nothing, and an empty image gives 0, not NaN.
        outside = (mask == IGNORE_INDEX)[:, None]
        student, teacher = student.masked_fill(outside, -1e6), teacher.masked_fill(outside, -1e6)
    return kl(student, teacher, "spatial", "mean", temperature)


def relation_inter(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Return DIST's inter-class relation: Pearson's correlation over the classes of each pixel.

    Huang et al. 2022, Eq. 9; MAFLNet's Eq. 25. Of two classes the correlation is 1 or -1 whatever the probabilities:
    the term then counts pixels where student and teacher disagree and has next to no gradient, and a warning says so.

    Returns:
        1 - the correlation's mean over pixels, in 0..2, times the temperature's square.
    """
    check_alike(student, teacher, mask)
    if student.shape[1] == 2:
        message = "dist_inter teaches nothing about two classes: leave it out: losses.weights.dist_inter 0"
        warnings.warn(message, GeodistillWarning, stacklevel=2)
    student, teacher = (F.softmax(logits.float() / temperature, 1) for logits in (student, teacher))
    student, teacher = student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True)
    distance = (1 - _cosine(student, teacher, 1)) * _counted(mask)
    return distance.sum() / labelled_pixels(mask) * temperature**2


def relation_intra(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Return DIST's intra-class relation: Pearson's correlation over all pixels, for each class.

    Huang et al. 2022, Eq. 10; MAFLNet's Eq. 26. Its gradient goes as 1 / (spread of the student's probabilities):
    beside cross-entropy it is loud while the student is still unsure, as `relation_inter`'s is. In a distributed step
    each process correlates its own share of the batch.

    Returns:
        1 - the correlation's mean over classes, in 0..2, times the temperature's square.
    """
    check_alike(student, teacher, mask)
    counted = _counted(mask)
    pixels = counted.sum()
    centred: list[Tensor] = []
    for logits in (student, teacher):
        shares = F.softmax(logits.float() / temperature, 1).transpose(0, 1).flatten(1)
        weight = counted.flatten()
        mean = (shares * weight).sum(1, keepdim=True) / pixels.clamp(min=1)
        centred.append((shares - mean) * weight)
    return (1 - _cosine(centred[0], centred[1], 1)).mean() * (pixels > 0) * temperature**2


def _cosine(first: Tensor, second: Tensor, dim: int) -> Tensor:
    sizes: Tensor = torch.linalg.vector_norm(first, dim=dim) * torch.linalg.vector_norm(second, dim=dim)
    return (first * second).sum(dim) / (sizes + EPS)


def _counted(mask: Tensor) -> Tensor:
    return (mask != IGNORE_INDEX).float()


def check_alike(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> None:
    """Refuse outputs of other shapes, and a mask of another grid.

    Raises:
        RecipeError: They differ.
    """
    grid = None if mask is None else tuple(mask.shape)
    if student.shape != teacher.shape or (grid is not None and grid != (student.shape[0], *student.shape[2:])):
        under = "" if mask is None else f" under a mask of {grid}"
        raise RecipeError(
            f"student of shape {tuple(student.shape)} beside a teacher of {tuple(teacher.shape)}{under}",
            "the same batch, channels, height and width",
            "project and resize the student's maps to the teacher's",
        )
