"""Averages of a network's weights over its steps: they follow the training and have no gradient of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class AveragedNetwork(nn.Module):
    """A copy of a network whose weights are an average of the original's.

    Running statistics of batch norms are averaged like weights, whole numbers are copied. All of it is in
    ``state_dict``, with the number of updates.

    Args:
        network: What to follow; it is not held.
    """

    updates: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = deepcopy(network).requires_grad_(False).eval()
        for module in self.network.modules():
            module._forward_hooks.clear()  # taps of the losses look at the network in training alone
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> AveragedNetwork:
        """Stay in evaluation mode, whatever is asked for."""
        return super().train(False)

    @abstractmethod
    def update(self, network: nn.Module) -> None:
        """Take in the network's weights after a step."""

    def forward(self, image: Tensor, **context: Tensor) -> Any:
        """Return what the network would, with the averaged weights."""
        return self.network(image, **context)


class ExponentialAverage(AveragedNetwork):
    """Weights that follow those of the original slowly (Tarvainen and Valpola 2017, Eq. 1).

    With ``d_t = min(decay, (1 + t) / (warmup + t))`` after the ``t``-th update, the first of which copies::

        average <- d_t * average + (1 - d_t) * network

    Until ``decay`` is reached, after about ``(warmup - 1) / (1 - decay)`` steps, the weights of step ``t`` count about
    as ``t ** (warmup - 2)`` (polynomial-decay averaging, Shamir and Zhang 2013, Sec. 4): the first ones, which are
    random, are soon forgotten, and the average is of about the last ``1 / (warmup - 1)`` of the steps so far.

    Args:
        network: What to follow.
        decay: Share of the average that stays at each update, in 0..1 and below 1.
        warmup: How fast it forgets in the beginning, at least 2, which is the mean of all steps.
    """

    def __init__(self, network: nn.Module, decay: float, warmup: float = 10.0) -> None:
        super().__init__(network)
        self._decay, self._warmup = decay, warmup

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network's present weights."""
        count = int(self.updates)
        decay = min(self._decay, (1 + count) / (self._warmup + count)) if count else 0.0
        new = network.state_dict()
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                value.lerp_(new[name].to(value.dtype), 1 - decay)
            else:
                value.copy_(new[name])
        self.updates += 1


class LastAverage(AveragedNetwork):
    """The mean of the weights at the last few checkpoints (Vaswani et al. 2017, Sec. 6.1; LAWA, Kaddour 2022, Eq. 1).

    Before the first checkpoint it has the present weights. It keeps those of each checkpoint, so that it takes
    ``count`` times the network's memory, on the device and in every resume point.

    Args:
        network: What to follow.
        count: Checkpoints in the mean, at least 1.
        every: Steps from one to the next, at least 1.
    """

    checkpoints: Tensor

    def __init__(self, network: nn.Module, count: int, every: int) -> None:
        super().__init__(network)
        self._every = every
        numbers = sum(value.numel() for value in self._averaged().values())
        self.register_buffer("checkpoints", torch.zeros(count, numbers))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Count a step, and take the weights in where it is a checkpoint."""
        self.updates += 1
        taken, since = divmod(int(self.updates), self._every)
        if taken and since:
            return
        new = network.state_dict()
        for name, value in self.network.state_dict().items():
            value.copy_(new[name])
        if taken:
            values = [value.float().flatten() for value in self._averaged().values()]
            self.checkpoints[(taken - 1) % len(self.checkpoints)] = torch.cat(values)
            mean = self.checkpoints[:taken].mean(0)
            for value in self._averaged().values():
                value.copy_(mean[: value.numel()].view_as(value))
                mean = mean[value.numel() :]

    def _averaged(self) -> dict[str, Tensor]:
        """Return all but whole numbers, by name."""
        return {name: value for name, value in self.network.state_dict().items() if value.is_floating_point()}


def choose_average(
    ema: float | None, warmup: float, last: int | None, every: int
) -> Callable[[nn.Module], AveragedNetwork] | None:
    """Return what makes the average of a network's weights; ``None`` where there is none.

    Args:
        ema: Share of an exponential average that stays at each step.
        warmup: How fast that forgets in the beginning.
        last: In its place, how many of the last resume points are averaged.
        every: Steps between two of these.
    """
    if ema is not None:
        return partial(ExponentialAverage, decay=ema, warmup=warmup)
    return None if last is None else partial(LastAverage, count=last, every=every)
