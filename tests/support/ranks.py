"""How many channels of a feature map are independent, and which blocks of a network lose them."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

SHARE = 0.15
"""Of its input's effective rank, the least that a block may leave: a plain average of 16 channels leaves 0.09."""

FEWEST = 8
"""Channels below which a map is one of classes, not of features."""


def effective_rank(maps: Tensor) -> float:
    """Return the participation ratio of the channels' covariance over positions, in 1..C.

    Args:
        maps: ``(B, C, H, W)``, or tokens ``(B, L, C)``. Each image's mean is taken off: what differs between images
            alone is no map.
    """
    columns = maps.detach().double().flatten(2) if maps.ndim == 4 else maps.detach().double().transpose(1, 2)
    columns = columns - columns.mean(2, keepdim=True)
    energy = torch.linalg.svdvals(columns.transpose(0, 1).flatten(1)) ** 2
    return (energy.sum() ** 2 / (energy**2).sum().clamp(min=1e-300)).item()


def collapsed(network: nn.Module, *inputs: Tensor) -> list[str]:
    """Run a network forward and name the blocks that leave less than `SHARE` of the rank that went in.

    A block is a module of this package that has parts. Its input's rank counts at most as far as its output has
    channels or positions to hold it. Mask2Former's decoder is left out: its 100 "channels" are its queries' masks.
    """
    from geodistill.methods.sep.mask2former import MaskBlocks

    lost: list[str] = []
    for name, module in network.named_modules():
        own = type(module).__module__.startswith("geodistill") and any(True for _ in module.children())
        if own and not isinstance(module, MaskBlocks):
            module.register_forward_hook(partial(_compare, name, lost))
    with torch.no_grad():
        network.train()(*inputs)
    return lost


def _compare(name: str, lost: list[str], module: nn.Module, given: tuple[Any, ...], returned: Any) -> None:
    inputs, outputs = list(_maps(given)), list(_maps(returned))
    if not inputs:
        return
    ranks = [effective_rank(maps) for maps in inputs]
    if len(ranks) != len(outputs):  # several meet: the richest counts
        ranks = [max(ranks)] * len(outputs)
    for rank, maps in zip(ranks, outputs, strict=True):
        channels = maps.shape[1 if maps.ndim == 4 else 2]
        if channels >= FEWEST:
            possible = min(rank, channels, maps[:, :1].numel() - len(maps) if maps.ndim == 4 else rank)
            share = effective_rank(maps) / max(possible, 1.0)
            if share < SHARE:
                lost.append(f"{name} ({type(module).__name__}) leaves {share:.3f} of {possible:.1f}")


def _maps(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.ndim in (3, 4):
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _maps(item)
