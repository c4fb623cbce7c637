"""SEP's losses: each set's own, summed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from geodistill.data.sample import Batch
from geodistill.methods.method import CommonLosses
from geodistill.methods.sep.mask_losses import query_losses
from geodistill.methods.sep.network import SepOutput
from geodistill.nn.losses import cross_entropy
from geodistill.nn.output import SegmentationOutput


@dataclass(frozen=True)
class LossConfig(CommonLosses):
    """The loss terms.

    Attributes:
        weights: Factor of each term, the same for every set: ``ce`` of U-Net and UPerNet, ``class``, ``mask`` and
            ``dice`` of Mask2Former. Where there is one set, any of the bench's under a teacher, too.
    """

    weights: dict[str, float] = field(default_factory=lambda: {"ce": 1.0, "class": 2.0, "mask": 5.0, "dice": 5.0})


class SepObjective:
    """The losses of every set on its own part of the batch.

    Args:
        weights: Factor of each term, of those that the network's architecture has.
        sets: Names of the sets; the terms are then called ``set.term``.
    """

    label_free: frozenset[str] = frozenset()

    def __init__(self, weights: Mapping[str, float], sets: Sequence[str] = ()) -> None:
        self.weights = {_term(name, term): factor for name in sets or [""] for term, factor in weights.items()}

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Give each set's terms: the means over its labelled pixels, 0 with a graph where it has none."""
        assert isinstance(output, SepOutput)
        terms: dict[str, Tensor] = {}
        masks = torch.split(batch["mask"], [len(logits) for logits in output.by_set.values()])
        for (name, logits), mask in zip(output.by_set.items(), masks, strict=True):
            queries = output.queries.get(name)
            own = {"ce": cross_entropy(logits, mask)} if queries is None else query_losses(queries, mask)
            terms |= {_term(name, term): value for term, value in own.items()}
        return terms

    def weight(self, name: str, step: int) -> float:
        """Give the factor of a term, the same at every step."""
        return self.weights[name]

    def to(self, device: torch.device | str) -> None:
        """Nothing to move."""

    def teacher_module(self) -> nn.Module | None:
        """There is no teacher."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """There is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""


def _term(name: str, term: str) -> str:
    return f"{name}.{term}" if name else term
