"""An exponential moving average of a network's weights, trained along at no gradient of its own."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class AveragedNetwork(nn.Module):
    """A copy of a network whose weights follow those of the original slowly (Tarvainen and Valpola 2017, Eq. 1).

    With ``d_t = min(decay, (1 + t) / (10 + t))`` after the ``t``-th update, so that the first weights, which are
    random, are soon forgotten::

        average <- d_t * average + (1 - d_t) * network

    The first update copies. Running statistics of batch norms are averaged like weights, whole numbers are copied.
    All of it is in ``state_dict``, with the number of updates.

    Args:
        network: What to follow; it is not held.
        decay: Share of the average that stays at each update, in 0..1 and below 1.
    """

    updates: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = deepcopy(network).requires_grad_(False).eval()
        for module in self.network.modules():
            module._forward_hooks.clear()  # taps of the losses look at the network in training alone
        self._decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> AveragedNetwork:
        """Stay in evaluation mode, whatever is asked for."""
        return super().train(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network's present weights."""
        count = int(self.updates)
        decay = min(self._decay, (1 + count) / (10 + count)) if count else 0.0
        new = network.state_dict()
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                value.lerp_(new[name].to(value.dtype), 1 - decay)
            else:
                value.copy_(new[name])
        self.updates += 1

    def forward(self, image: Tensor, **context: Tensor) -> Any:
        """Return what the network would, with the averaged weights."""
        return self.network(image, **context)
