"""An encoder that stands still for the first steps on labels, so that its transfer is not undone by a fresh decoder."""

from __future__ import annotations

from torch import nn

from geodistill.errors import RecipeError
from geodistill.methods.method import Method


class Freezing:
    """Holds an encoder's weights and its batch norms' statistics still for the first steps, then lets them go.

    "Transfer, then freeze" (GKD, arXiv 2603.02554): what the encoder learnt before the labels stays whole while the
    decoder is still random. Held parameters get no gradient, hence neither moments nor decay.

    Args:
        method: Whose network has the encoder.
        steps: Optimiser steps that it stands still.

    Raises:
        RecipeError: The network has no part called encoder, or its losses are balanced by its gradients.
    """

    def __init__(self, method: Method, steps: int) -> None:
        self._network, self._steps, self._held = method.network, steps, False
        encoder = getattr(method.network, "encoder", None)
        if not isinstance(encoder, nn.Module):
            raise RecipeError(f"optimizer.freeze with a {method.name} network, which has no encoder", "0")
        if method.weighting is not None:
            raise RecipeError("optimizer.freeze with learnt or balanced losses.weighting", "losses.weighting fixed")
        self._encoder = encoder
        self._trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]

    def __call__(self, step: int) -> None:
        """Bring the encoder into its state at optimiser step ``step``, from 0."""
        if hold := step < self._steps:
            self._encoder.eval()  # a validation sets the whole network to training again
        if hold != self._held:
            for parameter in self._trained:
                parameter.requires_grad_(not hold)
            if not hold:
                self._network.train()
            self._held = hold
