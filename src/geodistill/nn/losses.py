"""Loss terms: each a scalar, normalised per pixel, so that images of any size weigh the same.

Those on labels take ``logits``, ``(B, K, h, w)`` float, resized bilinearly to the mask where sizes differ, and
``mask``, ``(B, H, W)`` int64, `IGNORE_INDEX` where there is no label; where no pixel is labelled they are exactly 0,
with a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.lazy import load
from geodistill.nn.decoders import resize
from geodistill.spec import IGNORE_INDEX

if TYPE_CHECKING:
    from geodistill.nn.phi_s import PhiS

KlAxis = Literal["channel", "width", "spatial"]
KlReduction = Literal["mean", "batchmean"]
KlDirection = Literal["teacher_student", "student_teacher"]
MseReduction = Literal["mean", "norm"]
TargetNorm = Literal["raw", "standardised", "layernorm", "phi_s"]


def cross_entropy(logits: Tensor, mask: Tensor, smoothing: float = 0.0, class_weights: Tensor | None = None) -> Tensor:
    """Return the cross-entropy, its sum over the number of labelled pixels.

    ``smoothing`` is spread evenly over all classes; ``class_weights`` are ``(K,)``, all 1 where not given.
    """
    logits = resize(logits, mask.shape[-2:]).float()
    weights = None if class_weights is None else class_weights.to(logits)
    total = F.cross_entropy(
        logits, mask, weights, ignore_index=IGNORE_INDEX, reduction="sum", label_smoothing=smoothing
    )
    return total / labelled_pixels(mask)


def labelled_pixels(mask: Tensor) -> Tensor:
    """Return the labelled pixels of the batch, at least 1; in a distributed step their mean over the processes.

    DDP averages gradients over processes. With this count the average is the gradient of the whole batch's mean,
    also where one process holds fewer labels than another.
    """
    return mean_over_processes((mask != IGNORE_INDEX).sum().float())


def mean_over_processes(count: Tensor, least: float = 1.0) -> Tensor:
    """Return what a loss is divided by: a count, at least ``least``; in a distributed step its mean over processes."""
    if torch.is_grad_enabled() and torch.distributed.is_available() and torch.distributed.is_initialized():
        count = count.clone()
        torch.distributed.all_reduce(count)
        return count.clamp(min=least) / torch.distributed.get_world_size()
    return count.clamp(min=least)


def sum_over_processes(counts: Tensor) -> Tensor:
    """Return counts summed over the processes of a distributed step."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        counts = counts.clone()
        torch.distributed.all_reduce(counts)
    return counts


def soft_dice(logits: Tensor, mask: Tensor, smooth: float = 0.05) -> Tensor:
    """Return region Dice on softmax probabilities, in 0..1, the mean over all classes (GeoSeg's form).

    Intersections and sizes are summed over the batch, and ``smooth`` is added to numerator and denominator; a class
    that the mask does not hold adds nothing. In a distributed step each process has the Dice of its own share.
    """
    predicted, target = class_shares(logits, mask)
    shared, sizes = (predicted * target).sum((0, 2, 3)), (predicted + target).sum((0, 2, 3))
    present = target.sum((0, 2, 3)) > 0
    return ((1 - (2 * shared + smooth) / (sizes + smooth)) * present).mean()


def class_shares(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return each pixel's probabilities and its label as one-hot, both ``(B, K, H, W)`` and 0 where not labelled."""
    logits = resize(logits, mask.shape[-2:])
    labelled = (mask != IGNORE_INDEX).unsqueeze(1)
    target = F.one_hot(mask.where(mask != IGNORE_INDEX, 0), logits.shape[1]).permute(0, 3, 1, 2) * labelled
    return logits.float().softmax(1) * labelled, target


def pixel_dice(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over labelled pixels of 1 - 2 sum_k p y / (p + y), in 0..1, which is no Dice of regions.

    It is what SAM2-MAFLNet (Eq. 21) and MetaSegNet (Eq. 2) print; for one-hot labels 1 - 2p / (1 + p) of the true
    class's probability p.
    """
    logits = resize(logits, mask.shape[-2:])
    labelled = mask != IGNORE_INDEX
    true = logits.float().softmax(1).gather(1, mask.where(labelled, 0)[:, None])[:, 0]
    return ((1 - 2 * true / (1 + true)) * labelled).sum() / labelled_pixels(mask)


Dice = Literal["region", "pixel"]
DICE: dict[Dice, Callable[[Tensor, Tensor], Tensor]] = {"region": soft_dice, "pixel": pixel_dice}
"""What a paper that cites GeoSeg may mean by Dice: GeoSeg's code, or the equation as it is printed."""


def focal(logits: Tensor, mask: Tensor, gamma: float = 2.0) -> Tensor:
    """Return the focal loss (Lin et al. 2017, Eq. 4) without class factors, the mean over labelled pixels.

    The exponent ``gamma`` plays down pixels already classified well; 0 gives cross-entropy.
    """
    logits = resize(logits, mask.shape[-2:])
    labelled = mask != IGNORE_INDEX
    given = torch.where(labelled, mask, 0)[:, None]
    # Probabilities from 1e-7 to 1 - 1e-7, as in KDA's released code.
    probability = logits.float().softmax(1).gather(1, given)[:, 0].clamp(1e-7, 1 - 1e-7)
    per_pixel = -((1 - probability) ** gamma) * probability.log()
    return (per_pixel * labelled).sum() / labelled_pixels(mask)


def mse(student: Tensor, teacher: Tensor, reduction: MseReduction = "mean") -> Tensor:
    """Return the squared error of two ``(B, C, H, W)`` maps, in float32.

    Args:
        student: The features.
        teacher: The target.
        reduction: ``mean`` over all elements, or ``norm``: the squared L2 norm of each image's difference, the mean
            over the batch (KTDA's Eq. 3 as printed), which is ``C * H * W`` times as much.
    """
    error = F.mse_loss(student.float(), teacher.float())
    return error if reduction == "mean" else error * student[0].numel()


def kl(
    student: Tensor,
    teacher: Tensor,
    axis: KlAxis = "channel",
    reduction: KlReduction = "mean",
    temperature: float = 1.0,
    direction: KlDirection = "teacher_student",
) -> Tensor:
    """Return the Kullback-Leibler divergence of feature maps read as distributions.

    Args:
        student: ``(B, C, H, W)`` float features.
        teacher: The target, same shape.
        axis: What a softmax runs over: ``channel`` (one distribution per pixel), ``spatial`` (one per
            channel), or ``width`` (one per channel and row: the axis of KTDA's released code).
        reduction: ``mean`` over distributions, or ``batchmean``: the sum of all of them over the batch size, as in
            KTDA's released code, which grows with channels and image size.
        temperature: Divides features before the softmax; the result is multiplied by its square.
        direction: ``teacher_student`` is KL(teacher || student), ``student_teacher`` is KL(student || teacher).

    Returns:
        A scalar, at least 0.
    """
    if axis == "spatial":
        student, teacher = student.flatten(2), teacher.flatten(2)
    dim = 1 if axis == "channel" else -1
    log_student = F.log_softmax(student.float() / temperature, dim)
    log_teacher = F.log_softmax(teacher.float() / temperature, dim)
    # F.kl_div(log q, log p) is KL(p || q).
    first, second = (log_student, log_teacher) if direction == "teacher_student" else (log_teacher, log_student)
    total = F.kl_div(first, second, reduction="sum", log_target=True)
    rows = student.shape[0] if reduction == "batchmean" else student.numel() // student.shape[dim]
    return total / rows * temperature**2


class RunningStatistics(nn.Module):
    """Mean and standard deviation of each channel of a map over all batches seen so far, in every process."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("squares", torch.zeros(channels))

    @torch.no_grad()
    def update(self, maps: Tensor) -> None:
        """Take one ``(B, C, H, W)`` batch in."""
        # Sums about the mean so far, so that float32 keeps its digits where mean and deviation differ in size.
        offset = maps.float().transpose(0, 1).flatten(1) - self.mean[:, None]
        count = torch.full((1,), offset.shape[1], dtype=torch.float32, device=offset.device)
        sums = torch.cat([offset.sum(1), offset.square().sum(1), count])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        first, second = sums[:-1].chunk(2)
        self.count += sums[-1]
        shift = first / self.count
        self.squares += second - self.count * shift.square()
        self.mean += shift

    def standardise(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> the same with mean 0 and standard deviation 1 a channel."""
        std = (self.squares / self.count.clamp(min=1)).clamp(min=0).sqrt()
        # A channel that hardly moves would otherwise weigh without bound.
        std = torch.maximum(std, 1e-2 * std.mean()).clamp(min=1e-6)
        return (maps.float() - self.mean[:, None, None]) / std[:, None, None]


class TargetNormaliser:
    """Normalises one of a teacher's maps as ``target_norm`` says; its statistics are the caller's to save and to move.

    Args:
        norm: How.
        channels: Of the map.

    Attributes:
        measures: Whether it needs statistics of the batches so far.
        statistics: Those; empty where it needs none.
    """

    def __init__(self, norm: TargetNorm, channels: int) -> None:
        self._norm = norm
        self.measures = norm in ("standardised", "phi_s")
        self.statistics: RunningStatistics | PhiS = (
            load("geodistill.nn.phi_s:PhiS")(channels) if norm == "phi_s" else RunningStatistics(channels)
        )

    def update(self, target: Tensor) -> None:
        """Take one ``(B, C, H, W)`` batch of the teacher's map in."""
        if self.measures:
            self.statistics.update(target)

    def __call__(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` like the teacher's map -> the same, normalised without measuring it."""
        if self.measures:
            return self.statistics.standardise(maps)
        return layer_normalise(maps) if self._norm == "layernorm" else maps


def explained_variance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return R2 of a student's map ``(B, C, H, W)``: the mean over channels of 1 - error / variance.

    1 is equal to the teacher's, 0 as good as each channel's mean.
    """
    error = (student.float() - teacher.float()).square().mean((0, 2, 3))
    variance = teacher.float().var((0, 2, 3), correction=0)
    return (1 - error / variance.clamp(min=1e-12))[variance > 1e-12].mean()


def layer_normalise(maps: Tensor) -> Tensor:
    """``(B, C, H, W)`` -> the same with mean 0 and standard deviation 1 over the channels of each pixel."""
    return F.layer_norm(maps.float().permute(0, 2, 3, 1), maps.shape[1:2]).permute(0, 3, 1, 2)


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the sum of named scalar terms, each times its weight."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


def gradient_norms(terms: Mapping[str, Tensor], parameters: Iterable[nn.Parameter]) -> dict[str, float]:
    """Return the L2 norm of each term's gradient on shared parameters, such as the encoder's.

    Call it before ``backward`` (the graph is kept); it leaves the parameters' gradients alone. A term that does not
    depend on the parameters has 0.
    """
    shared = list(parameters)
    norms: dict[str, float] = {}
    for name, term in terms.items():
        norms[name] = 0.0
        if term.requires_grad and shared:
            gradients = torch.autograd.grad(term, shared, retain_graph=True, allow_unused=True)
            norms[name] = float(sum(float(g.float().square().sum()) for g in gradients if g is not None) ** 0.5)
    return norms
