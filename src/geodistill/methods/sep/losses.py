"""SEP's losses: each set's own, summed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from geodistill.data.sample import Batch
from geodistill.methods.method import CommonLosses
from geodistill.methods.sep.network import SetsOutput
from geodistill.nn.losses import cross_entropy
from geodistill.nn.output import SegmentationOutput


@dataclass(frozen=True)
class LossConfig(CommonLosses):
    """The loss terms.

    Attributes:
        weights: Factor of each term, the same for every set: ``ce``. Where there is one set, any of the bench's under
            a teacher, too.
    """

    weights: dict[str, float] = field(default_factory=lambda: {"ce": 1.0})


class SepObjective:
    """Cross-entropy of every set on its own part of the batch.

    Args:
        weights: Factor of each term.
        sets: Names of the sets; the terms are then called ``set.term``.
    """

    label_free: frozenset[str] = frozenset()

    def __init__(self, weights: Mapping[str, float], sets: Sequence[str] = ()) -> None:
        self._sets = tuple(sets)
        terms = {name: dict(weights) for name in self._sets} or {"": dict(weights)}
        self.weights = {_term(name, term): weight for name, own in terms.items() for term, weight in own.items()}

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Give ``ce`` of each set: the mean over its labelled pixels, 0 with a graph where it has none."""
        if not isinstance(output, SetsOutput):
            return {"ce": cross_entropy(output.logits, batch["mask"])}
        counts = [len(logits) for logits in output.by_set.values()]
        masks = torch.split(batch["mask"], counts)
        return {
            _term(name, "ce"): cross_entropy(logits, mask)
            for (name, logits), mask in zip(output.by_set.items(), masks, strict=True)
        }

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
