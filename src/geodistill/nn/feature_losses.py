"""Losses between a student's feature maps and a teacher's: their squared error, and what the maps say, not how loudly.

Maps are ``(B, C, H, W)`` float, the student's brought to the teacher's channels and grid; each loss is a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.nn.logit_losses import check_alike
from geodistill.nn.losses import layer_normalise, mse

RELATION_TEMPERATURE, RELATION_SIDE = 0.07, 16


def feature_kd(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return the squared error of aligned feature maps, the mean over levels.

    The target is standardised over the channels of each pixel, so that a few loud channels do not rule the error;
    a student whose maps end in a linear projection can follow.

    Args:
        student: ``(B, Ci, Hi, Wi)`` float for each level, projected to the teacher's channels and grid.
        teacher: The targets, same shapes.

    Returns:
        At least 0; 1 is what a student of zeros would get.
    """
    pairs = list(zip(student, teacher, strict=True))
    for features, target in pairs:
        check_alike(features, target)
    return torch.stack([mse(features, layer_normalise(target)) for features, target in pairs]).mean()


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 - the cosine of a pixel's two vectors, the mean over pixels, in 0..2 (AM-RADIO, Ranzinger et al. 2024).

    It does not mind how long the vectors are, so that a few loud pixels do not rule it.
    """
    return 1 - F.cosine_similarity(student.float(), teacher.float(), dim=1).mean()


def token_relation(
    student: Tensor, teacher: Tensor, temperature: float = RELATION_TEMPERATURE, side: int = RELATION_SIDE
) -> Tensor:
    """Return how far student and teacher differ in which pixels of an image are alike (lightly-train 0.18, local term).

    With a map's ``N`` pixels as unit vectors ``x``, row ``i`` of ``softmax(x x^T / temperature)`` says to which pixels
    pixel ``i`` is alike; the loss is KL(teacher || student) of the rows, their mean, at least 0. Only angles between
    pixels count: the channels need not be the teacher's.

    Args:
        student: The features.
        teacher: The target, on the same grid; it may have other channels.
        temperature: Of the softmax.
        side: Larger maps are first averaged to at most so many rows and columns, since the work grows as ``N^2``.
    """
    height, width = (min(length, side) for length in teacher.shape[-2:])
    rows = []
    for maps in (student, teacher):
        pixels = F.adaptive_avg_pool2d(maps.float(), (height, width)).flatten(2).transpose(1, 2)
        unit = F.normalize(pixels, dim=-1)
        rows.append(F.log_softmax(unit @ unit.transpose(1, 2) / temperature, -1))
    return F.kl_div(rows[0].flatten(0, 1), rows[1].flatten(0, 1), reduction="batchmean", log_target=True)


class QueryAttention(nn.Module):
    """The student's pixels attend to the teacher's, and what they gather is to be the teacher's map.

    GKD's query-based soft distillation (Lv et al. 2026, arXiv 2603.02554; one head and no scale, as released)::

        Q = W_q LN(s)   K = t   V = W_v LN(s)        softmax(Q K^T) V  ->  t, by the mean squared error

    A pixel need not lie where the teacher has it: it is the student's to find which of the teacher's it stands for.

    Args:
        channels: Of both maps.
        side: As for `token_relation`.
    """

    def __init__(self, channels: int, side: int = RELATION_SIDE) -> None:
        super().__init__()
        self.queries, self.values = (
            nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels)) for _ in range(2)
        )
        self._side = side

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the squared error of what the student's pixels gather, the mean over elements."""
        size = (min(teacher.shape[-2], self._side), min(teacher.shape[-1], self._side))
        pixels, keys = (
            F.adaptive_avg_pool2d(maps.float(), size).flatten(2).transpose(1, 2) for maps in (student, teacher)
        )
        attention = (self.queries(pixels) @ keys.transpose(1, 2)).softmax(-1)
        return F.mse_loss(attention @ self.values(pixels), keys)


MapLoss = Callable[[Tensor, Tensor], Tensor]
"""A loss of one level: of the student's maps and the teacher's."""

MAP_LOSSES: dict[str, Callable[[int], MapLoss]] = {
    "cosine": lambda channels: cosine_distance,
    "relation": lambda channels: token_relation,
    "query": QueryAttention,
}
"""What makes the loss of a level of so many channels, by the name of the term; it is a module where it has weights."""


class FeatureTerms(nn.Module):
    """The terms that are asked for of `MAP_LOSSES`, each the mean over levels.

    Args:
        kinds: Their names, as in a recipe; others are passed over.
        channels: Of each level.
    """

    def __init__(self, kinds: Collection[str], channels: Sequence[int]) -> None:
        super().__init__()
        self._losses = {kind: list(map(make, channels)) for kind, make in MAP_LOSSES.items() if kind in kinds}
        for kind, losses in self._losses.items():
            self.add_module(kind, nn.ModuleList(loss for loss in losses if isinstance(loss, nn.Module)))

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return each term by name, of maps ``(B, Ci, Hi, Wi)`` for each level and targets of the same shapes."""
        return {
            kind: torch.stack([loss(s, t) for loss, s, t in zip(losses, student, teacher, strict=True)]).mean()
            for kind, losses in self._losses.items()
        }


def hide_patches(image: Tensor, fill: Tensor, share: float, side: int) -> tuple[Tensor, Tensor]:
    """Hide a share of an image's squares of ``side`` pixels behind a colour, each image's its own, as torch draws them.

    Args:
        image: ``(B, C, H, W)`` float.
        fill: The colour, which broadcasts to it.
        share: Of the squares, in 0..1; at least one is hidden.
        side: Of a square in pixels.

    Returns:
        The image, and which squares are hidden, ``(B, 1, ceil(H / side), ceil(W / side))`` bool.
    """
    grid = [-(-length // side) for length in image.shape[-2:]]
    order = torch.rand(len(image), grid[0] * grid[1], device=image.device).argsort(1).argsort(1)
    hidden = (order < max(round(share * grid[0] * grid[1]), 1)).reshape(-1, 1, *grid)
    pixels = hidden.repeat_interleave(side, 2).repeat_interleave(side, 3)[..., : image.shape[-2], : image.shape[-1]]
    return torch.where(pixels, fill.to(image), image), hidden


def hidden_error(student: Sequence[Tensor], teacher: Sequence[Tensor], hidden: Tensor) -> Tensor:
    """Return the squared error of the student's maps of an image with hidden squares, in those alone.

    The student must tell from what it sees what the teacher makes of what it does not see (iBOT, Zhou et al. 2022;
    as a term of distillation in Proteus, Zhang et al. 2025, and GKD).

    Args:
        student: ``(B, Ci, Hi, Wi)`` for each level, of the image as `hide_patches` returns it.
        teacher: The targets, same shapes, of the whole image.
        hidden: The squares.
    """
    errors = []
    for features, target in zip(student, teacher, strict=True):
        inside = F.interpolate(hidden.float(), target.shape[-2:], mode="nearest")
        squares = (features.float() - target.float()).square().mean(1, keepdim=True)
        errors.append((squares * inside).sum() / inside.sum().clamp(min=1))
    return torch.stack(errors).mean()
