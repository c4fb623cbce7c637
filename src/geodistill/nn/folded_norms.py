"""Batch norms that were folded into their convolutions, given scale and statistics back before they are trained."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from geodistill.nn.losses import sum_over_processes


def is_folded(network: nn.Module) -> bool:
    """Whether a trained network's batch norms add a bias and nothing else, as in weights made for inference.

    Norms as they are at first have no bias either, and are not meant; nor are those of a network without values.
    """
    norms = _norms(network)
    same = all(
        _all_near(norm.running_mean, 0) and _all_near(norm.running_var, 1) and _all_near(norm.weight, 1)
        for norm in norms
    )
    return same and any(not _all_near(norm.bias, 0) for norm in norms)


@torch.no_grad()
def unfold_norms(network: nn.Module, image: Tensor) -> None:
    """Set each batch norm to the statistics of what it sees, with the scale and bias that leave its results the same.

    A norm that was folded computes ``x + b``. In training it would divide by the batch's deviation ``s`` all the same
    and lose the scale of every channel: the features are then no longer those of the weights. With running mean ``m``
    and variance ``s^2``, scale ``sqrt(s^2 + eps)`` and bias ``b + m`` it computes ``x + b`` in evaluation and, on such
    images, in training.

    Args:
        network: As `is_folded` tells; changed in place.
        image: ``(B, C, H, W)`` normalised, the first batch of training.
    """
    norms, sums_of = _norms(network), dict[nn.BatchNorm2d, Tensor]()

    def look(norm: nn.BatchNorm2d, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        maps = inputs[0].float().transpose(0, 1).flatten(1)
        sums_of[norm] = torch.stack([maps.sum(1), maps.square().sum(1), torch.full_like(maps[:, 0], maps.shape[1])])

    hooks = [norm.register_forward_pre_hook(partial(look, norm)) for norm in norms]
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.autocast(image.device.type, enabled=False):
            network(image.float())
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    for norm, sums in sums_of.items():
        total, squares, count = sum_over_processes(sums)
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d) and module.affine and module.track_running_stats
    ]


def _all_near(values: Tensor | None, value: float) -> bool:
    return values is not None and not values.is_meta and bool((values - value).abs().max() < 1e-3)
