"""Factors of named loss terms: fixed, learned from each term's own scale, or set by gradient norms.

Every weighting starts from the recipe's base factors, so that a factor of 0 switches a term off in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from geodistill.errors import UnknownNameError
from geodistill.nn.losses import gradient_norms, weighted_sum


class Weighting(nn.Module):
    """Base factors as they are.

    Args:
        names: Every term that may be weighted.

    Attributes:
        factors: The factor that each term had in the last call, for the log.
        learning_rate: Rate of its own parameters under Adam, whatever the network's is; see `parameter_groups`.
    """

    learning_rate = 1e-2

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.factors: dict[str, Tensor] = {}

    def forward(self, terms: Mapping[str, Tensor], base: Mapping[str, float], shared: Sequence[nn.Parameter]) -> Tensor:
        """Sum the terms of one batch.

        Args:
            terms: Scalars by name.
            base: The recipe's factor of each.
            shared: Parameters that the terms' gradients compete for, such as the encoder's.

        Returns:
            The total, a scalar.

        Raises:
            UnknownNameError: A term that was not named at the start.
        """
        for name in terms:
            if name not in self.names:
                raise UnknownNameError("loss term", name, self.names)
        total, self.factors = self.combine(terms, base, shared)
        return total

    def combine(
        self, terms: Mapping[str, Tensor], base: Mapping[str, float], shared: Sequence[nn.Parameter]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total and the factor of each term."""
        return weighted_sum(terms, base), {name: torch.tensor(base[name]) for name in terms}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimiser group of its own parameters: none, or one with its own rate and no decay."""
        parameters = list(self.parameters())
        return [{"params": parameters, "lr": self.learning_rate, "weight_decay": 0.0}] if parameters else []


class Uncertainty(Weighting):
    """Learned log-variances (Kendall, Gal and Cipolla 2018, Eq. 10): base * (exp(-s) * term + s) a term.

    A variance settles where it equals its term, so each term comes to weigh by its relative change, times its base
    factor. Every s begins at 0, that is at the base factors.

    Args:
        names: As for `Weighting`.
        bound: Largest size of s, so that a term that falls to 0 does not gain weight without end.
    """

    def __init__(self, names: Sequence[str], bound: float = 6.0) -> None:
        super().__init__(names)
        self.bound = bound
        self.log_variances = nn.Parameter(torch.zeros(len(self.names)))

    def combine(
        self, terms: Mapping[str, Tensor], base: Mapping[str, float], shared: Sequence[nn.Parameter]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total and the factor of each term; a term whose base factor is 0 leaves its variance alone."""
        bounded = self.bound * torch.tanh(self.log_variances / self.bound)
        parts, factors = [], {}
        for name, term in terms.items():
            log_variance = bounded[self.names.index(name)]
            factor = base[name] * torch.exp(-log_variance)
            parts.append(factor * term + base[name] * log_variance)
            factors[name] = factor.detach()
        return torch.stack(parts).sum(), factors


class GradientBalance(Weighting):
    """Each term's gradient norm on the shared parameters is brought to the share that its base factor asks for.

    After GradNorm (Chen et al. 2018) without its training rates and without learned weights: the norms' moving
    averages set the factors directly. The sum of the norms stays what the base factors alone would give.

    Args:
        names: As for `Weighting`.
        every: Steps between two measurements; each costs a backward pass a term as far as the shared parameters.
        momentum: Of the moving average.
        most: Largest change of a factor up or down from its base.
    """

    norms: Tensor
    calls: Tensor

    def __init__(self, names: Sequence[str], every: int = 1, momentum: float = 0.9, most: float = 100.0) -> None:
        super().__init__(names)
        self.every, self.momentum, self.most = every, momentum, most
        self.register_buffer("norms", torch.zeros(len(self.names)))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def combine(
        self, terms: Mapping[str, Tensor], base: Mapping[str, float], shared: Sequence[nn.Parameter]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total and the factor of each term; a term without a gradient so far keeps its base factor."""
        if torch.is_grad_enabled():
            if int(self.calls) % self.every == 0:
                self._measure({name: term for name, term in terms.items() if base[name] != 0}, shared)
            self.calls += 1
        norms = {name: float(self.norms[self.names.index(name)]) for name in terms if base[name] != 0}
        measured = {name: norm for name, norm in norms.items() if norm > 0}
        weight = sum(base[name] for name in measured)
        level = sum(base[name] * norm for name, norm in measured.items()) / weight if weight else 0.0
        factors = {
            name: base[name] * min(max(level / measured[name], 1 / self.most), self.most)
            if name in measured
            else base[name]
            for name in terms
        }
        return weighted_sum(terms, factors), {name: torch.tensor(factor) for name, factor in factors.items()}

    def _measure(self, terms: Mapping[str, Tensor], shared: Sequence[nn.Parameter]) -> None:
        """Take the norms of one batch into the moving averages, the same in every process."""
        norms = gradient_norms(terms, [p for p in shared if p.requires_grad])
        new = torch.tensor([norms.get(name, 0.0) for name in self.names], device=self.norms.device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(new)
            new /= torch.distributed.get_world_size()
        new = torch.where(new.isfinite(), new, 0.0)
        averaged = torch.where(self.norms > 0, self.momentum * self.norms + (1 - self.momentum) * new, new)
        self.norms.copy_(torch.where(new > 0, averaged, self.norms))


WEIGHTINGS: dict[str, Callable[[Sequence[str]], Weighting]] = {
    "fixed": Weighting,
    "uncertainty": Uncertainty,
    "gradient_balance": GradientBalance,
}
"""Every weighting by its name in a recipe."""


def build_weighting(kind: str, names: Sequence[str]) -> Weighting:
    """Build a weighting of named terms.

    Raises:
        UnknownNameError: No such kind.
    """
    if kind not in WEIGHTINGS:
        raise UnknownNameError("losses.weighting", kind, WEIGHTINGS)
    return WEIGHTINGS[kind](names)
