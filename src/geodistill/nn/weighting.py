"""Factors of named loss terms: fixed, learned from each term's own scale, or set by gradient norms.

Every weighting starts from the recipe's base factors, so that a factor of 0 switches a term off in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geodistill.errors import check_name
from geodistill.lazy import choose
from geodistill.nn.losses import weighted_sum


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
            check_name("loss term", name, self.names)
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


WEIGHTINGS = {
    "fixed": "geodistill.nn.weighting:Weighting",
    "uncertainty": "geodistill.nn.weighting:Uncertainty",
    "gradient_balance": "geodistill.nn.gradient_balance:GradientBalance",
}
"""Every weighting by its name in a recipe."""


def build_weighting(kind: str, names: Sequence[str]) -> Weighting:
    """Build a weighting of named terms.

    Raises:
        UnknownNameError: No such kind.
    """
    weighting: Weighting = choose("losses.weighting", kind, WEIGHTINGS)(names)
    return weighting
