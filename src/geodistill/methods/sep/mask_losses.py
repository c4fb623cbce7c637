"""Mask2Former's losses with an ignored region: pixels without a label take no part in matching, masks or Dice.

transformers' own losses (and SAMRS's) count every pixel outside a mask as its negative, labelled or not. In sets that
label objects alone most pixels are unlabelled, and the network is told that no object is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from geodistill.methods.sep.decoders import Queries
from geodistill.nn.losses import mean_over_processes
from geodistill.spec import IGNORE_INDEX

POINTS = 12_544
"""Points a mask is judged at, at most one for each pixel of the labels."""
OVERSAMPLE = 3
UNSURE = 0.75
"""Share of the points that lie where the mask is least sure, among `OVERSAMPLE` times as many."""
COSTS = (2.0, 5.0, 5.0)
"""Factors of class, mask and Dice in the matching."""
NO_OBJECT = 0.1
"""Weight of "no object" among the classes."""

Pairs = tuple[Tensor, Tensor]
"""Queries and the masks they are matched with, ``(N,)`` int64 each; masks as positions in `Targets.classes`."""


class Targets:
    """The binary masks of an image, one for each class that its labels hold.

    Args:
        mask: ``(H, W)`` int64, `IGNORE_INDEX` where there is no label.
    """

    def __init__(self, mask: Tensor) -> None:
        found = torch.unique(mask)
        self.classes = found[found != IGNORE_INDEX]
        self.labels = mask[None, None].float()


def query_losses(queries: Queries, mask: Tensor) -> dict[str, Tensor]:
    """Give the three losses, each summed over the layers.

    Args:
        queries: Class logits ``(B, Q, K + 1)`` and mask logits ``(B, Q, h, w)`` of every layer.
        mask: ``(B, H, W)`` int64, `IGNORE_INDEX` where there is no label.

    Returns:
        ``class``: cross-entropy of the queries of images that have a label, those matched with no mask being "no
        object"; ``mask``: binary cross-entropy, and ``dice``: Dice, the mean over masks at points that have a label.
        Each is 0 with a graph where no pixel is labelled.
    """
    targets = [Targets(image) for image in mask]
    labelled = torch.tensor([len(image.classes) > 0 for image in targets], device=mask.device)
    matched = [match(queries, position, image) for position, image in enumerate(targets)]
    masks = mean_over_processes(torch.tensor(sum(len(t.classes) for t in targets), device=mask.device).float())
    totals = {name: torch.zeros((), device=mask.device) for name in ("class", "mask", "dice")}
    for layer, (classes, shapes) in enumerate(zip(queries.classes, queries.masks, strict=True)):
        pairs = [image[layer] for image in matched]
        totals["class"] = totals["class"] + _class_loss(classes, targets, pairs, labelled)
        own, dice = _mask_losses(shapes, targets, pairs)
        totals["mask"] = totals["mask"] + own / masks
        totals["dice"] = totals["dice"] + dice / masks
    return totals


@torch.no_grad()
def match(queries: Queries, position: int, target: Targets) -> list[Pairs]:
    """Match the queries of one image with its masks, at random points that have a label (Hungarian method).

    Args:
        queries: Of the batch.
        position: The image.
        target: Its masks.

    Returns:
        The pairs of each layer.
    """
    none = target.classes.new_empty(0)
    if not len(target.classes):
        return [(none, none)] * len(queries.classes)
    points = torch.rand(1, min(POINTS, target.labels.numel()), 2, device=none.device)
    labels = sample_labels(target.labels, points)[0]
    seen = (labels != IGNORE_INDEX).float()
    wanted = (labels == target.classes[:, None]).float() * seen
    costs = []
    for classes, masks in zip(queries.classes, queries.masks, strict=True):
        chances = classes[position].float().softmax(-1)[:, target.classes]
        shapes = sample_logits(masks[position][None].float(), points)[0]
        cross = (F.softplus(-shapes) @ wanted.T + (F.softplus(shapes) * seen) @ (1 - wanted).T) / seen.sum().clamp(
            min=1
        )
        sizes = (shapes.sigmoid() @ seen)[:, None] + wanted.sum(-1)
        dice = 1 - (2 * shapes.sigmoid() @ wanted.T + 1) / (sizes + 1)
        costs.append(COSTS[1] * cross + COSTS[2] * dice - COSTS[0] * chances)
    # One transfer for all layers. What is not finite must still be matched; the loss itself will tell.
    found = [linear_sum_assignment(cost) for cost in torch.stack(costs).nan_to_num(1e6, 1e6, -1e6).cpu().numpy()]
    return [(torch.from_numpy(a).to(none.device), torch.from_numpy(b).to(none.device)) for a, b in found]


def _class_loss(logits: Tensor, targets: Sequence[Targets], pairs: Sequence[Pairs], labelled: Tensor) -> Tensor:
    none = logits.shape[-1] - 1
    wanted = torch.full(logits.shape[:2], none, device=logits.device)
    for position, (image, (chosen, masks)) in enumerate(zip(targets, pairs, strict=True)):
        wanted[position, chosen] = image.classes[masks]
    weights = torch.where(wanted == none, NO_OBJECT, 1.0) * labelled[:, None]
    each = F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), reduction="none")
    return (each * weights.flatten()).sum() / mean_over_processes(weights.sum(), least=NO_OBJECT)


def _mask_losses(masks: Tensor, targets: Sequence[Targets], pairs: Sequence[Pairs]) -> tuple[Tensor, Tensor]:
    """Sum both losses over all matched masks of a batch."""
    images = [torch.full_like(chosen, position) for position, (chosen, _) in enumerate(pairs)]
    image, query = torch.cat(images), torch.cat([chosen for chosen, _ in pairs])
    if not len(image):
        nothing = 0.0 * masks.float().sum()
        return nothing, nothing
    shapes = masks[image, query][:, None].float()
    classes = torch.cat([target.classes[own] for target, (_, own) in zip(targets, pairs, strict=True)])
    labels = torch.cat([target.labels for target in targets])[image]
    points = unsure_points(shapes.detach(), labels)
    found = sample_logits(shapes, points)[:, 0]
    given = sample_labels(labels, points)
    seen = (given != IGNORE_INDEX).float()
    wanted = (given == classes[:, None]).float()
    cross = F.binary_cross_entropy_with_logits(found, wanted, reduction="none")
    chances = found.sigmoid() * seen
    dice = 1 - (2 * (chances * wanted).sum(1) + 1) / (chances.sum(1) + wanted.sum(1) + 1)
    return ((cross * seen).sum(1) / seen.sum(1).clamp(min=1)).sum(), dice.sum()


@torch.no_grad()
def unsure_points(shapes: Tensor, labels: Tensor) -> Tensor:
    """Draw points where masks are judged: most where they are least sure, and none without need where no label is.

    Args:
        shapes: ``(N, 1, h, w)`` mask logits.
        labels: ``(N, 1, H, W)`` float class indices.

    Returns:
        ``(N, P, 2)`` x and y in 0..1, P being `POINTS` or the number of pixels.
    """
    points = min(POINTS, labels.shape[-2] * labels.shape[-1])
    drawn = torch.rand(len(shapes), OVERSAMPLE * points, 2, device=shapes.device)
    sure = sample_logits(shapes, drawn)[:, 0].abs()
    sure = sure.masked_fill(sample_labels(labels, drawn) == IGNORE_INDEX, torch.inf)
    count = int(UNSURE * points)
    best = sure.topk(count, largest=False).indices
    chosen = drawn.gather(1, best[..., None].expand(-1, -1, 2))
    return torch.cat([chosen, torch.rand(len(shapes), points - count, 2, device=shapes.device)], 1)


def sample_logits(maps: Tensor, points: Tensor) -> Tensor:
    """Read ``(N, C, h, w)`` at ``(N, P, 2)`` points, x and y in 0..1, bilinearly: ``(N, C, P)``."""
    return F.grid_sample(maps, 2 * points[:, :, None] - 1, align_corners=False)[..., 0]


def sample_labels(labels: Tensor, points: Tensor) -> Tensor:
    """Read ``(N, 1, H, W)`` float class indices at ``(N, P, 2)`` points, the nearest: ``(N, P)`` int64."""
    return F.grid_sample(labels, 2 * points[:, :, None] - 1, mode="nearest", align_corners=False)[:, 0, :, 0].long()
