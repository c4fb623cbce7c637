"""Loss terms balanced by the norms of their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed
from torch import Tensor, nn

from geodistill.nn.losses import gradient_norms, weighted_sum
from geodistill.nn.weighting import Weighting

_MOMENTUM = 0.9
"""Of the norms' moving averages."""

_MOST = 100.0
"""Largest change of a factor up or down from its base."""


class GradientBalance(Weighting):
    """Each term's gradient norm on the shared parameters is brought to the share that its base factor asks for.

    After GradNorm (Chen et al. 2018) without its training rates and without learned weights: the norms' moving
    averages set the factors directly. The sum of the norms stays what the base factors alone would give.

    Args:
        names: As for `Weighting`.
        every: Steps between two measurements; each costs a backward pass a term as far as the shared parameters.
    """

    norms: Tensor
    calls: Tensor

    def __init__(self, names: Sequence[str], every: int = 1) -> None:
        super().__init__(names)
        self.every = every
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
            name: base[name] * min(max(level / measured[name], 1 / _MOST), _MOST) if name in measured else base[name]
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
        averaged = torch.where(self.norms > 0, _MOMENTUM * self.norms + (1 - _MOMENTUM) * new, new)
        self.norms.copy_(torch.where(new > 0, averaged, self.norms))
